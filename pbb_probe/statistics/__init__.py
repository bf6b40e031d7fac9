"""Means, differences and onset layers of labelled arrays, with intervals over programs and models."""
