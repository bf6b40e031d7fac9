"""Base models: found, loaded, checked; texts as their tokens; what they answer."""
