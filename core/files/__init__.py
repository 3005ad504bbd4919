"""Files: what the pack reads and writes, and the checkpoints of others."""
