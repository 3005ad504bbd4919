"""The embedded world: procedural faces with known factors, captions and exact region masks."""
