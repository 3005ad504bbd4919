"""From an image to its trajectory through noise."""
