"""Open a model with TransformerLens hooks, mark roles in its prompts, and capture activations there."""
