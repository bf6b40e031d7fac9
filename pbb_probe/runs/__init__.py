"""A run of the study: the settings it was given, and what it holds."""
