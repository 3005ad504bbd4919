"""Load: checkpoints, embedded models and files of our own."""
