"""A photograph in and out: the part of it that a model works on, and the edit back at full size."""
