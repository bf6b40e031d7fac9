"""Exact ways to run what follows a change, the fastest first."""
