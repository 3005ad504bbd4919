"""Edits of semantic codes."""
