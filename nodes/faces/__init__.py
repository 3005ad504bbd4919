"""Faces: the embedded world."""
