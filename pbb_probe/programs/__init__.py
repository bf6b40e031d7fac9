"""Programs a model is taught: sources, traces by execution, documents and corpora. Imports no torch."""
