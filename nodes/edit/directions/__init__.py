"""Edits along directions."""
