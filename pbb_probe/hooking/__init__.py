"""Opening a model: TransformerLens hooks on it, prompts with named places, activations at those places."""
