"""The host's MODEL, VAE and CLIP as core's objects, and core's networks as the host's."""
