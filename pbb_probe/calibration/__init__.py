"""Whether to believe it: models whose evaluation layers are known by construction, and the instrument run over many."""
