"""From a Stable Diffusion 1.x and prompts of the user's to erasers of I2P's categories, and to what they do."""
