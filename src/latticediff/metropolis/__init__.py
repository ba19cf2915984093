"""Exact Metropolis with proposals of known density; this room never sees a network."""
