"""Edits by weights: fine-tuned, rectified, or fitted to one picture."""
