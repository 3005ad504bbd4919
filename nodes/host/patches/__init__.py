"""Edits as patches of a MODEL, and what other nodes have put there."""
