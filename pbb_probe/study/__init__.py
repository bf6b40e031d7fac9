"""The study: its steps, what each measures, and the checks before the first."""
