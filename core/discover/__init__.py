"""Directions of h from the Jacobian of the decoder half."""
