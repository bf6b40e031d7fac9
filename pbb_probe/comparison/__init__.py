"""Statistics over programs: what a measurement says, and whether two groups differ."""
