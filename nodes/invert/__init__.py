"""Invert: an image becomes a trajectory."""
