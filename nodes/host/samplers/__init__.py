"""Samplers and guiders of the host, and the run that they belong to."""
