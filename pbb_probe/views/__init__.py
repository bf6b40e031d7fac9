"""What one looks at: figures of labelled arrays, and a report of a run."""
