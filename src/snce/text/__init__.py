"""Prompts to token embeddings: towers, harvesting, prompt sources."""
