"""Edits by weights."""
