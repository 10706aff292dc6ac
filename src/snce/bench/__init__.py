"""The precision benchmark: every erasure method on the same prompts, seeds and judge."""
