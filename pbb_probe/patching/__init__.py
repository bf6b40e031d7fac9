"""Interventions: what a model uses of what can be read in it."""
