"""Edits along directions: h, or the state itself, is moved."""
