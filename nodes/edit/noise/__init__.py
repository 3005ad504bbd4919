"""Edits by the noise or the way back."""
