"""The interactive application: one run, or two beside each other, in the browser."""
