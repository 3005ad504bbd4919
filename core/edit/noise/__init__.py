"""Edits whose noise, or whose way back, holds the picture."""
