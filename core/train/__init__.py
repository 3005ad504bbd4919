"""Small networks fitted to a frozen diffusion model."""
