"""Edits of attention and features."""
