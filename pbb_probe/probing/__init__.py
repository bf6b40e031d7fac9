"""Probes: what can be read off a model's activations."""
