"""Discover: a trajectory and a region become directions."""
