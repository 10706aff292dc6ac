"""A tower whose power fails, and the cache that it leaves."""

from snce.text.towers import TextTower


class BreakingTower(TextTower):
    """A tower whose power fails after a number of batches."""

    def __init__(self, tower: TextTower, batches: int) -> None:
        super().__init__(tower.encoder, tower.tokenizer, "final_layer_norm")
        self.width  # noqa: B018 - known before the power fails
        self.left = batches

    def encode_tokens(self, tokens, edited=False):
        if getattr(self, "left", 1) == 0:
            raise KeyboardInterrupt
        self.left = getattr(self, "left", 1) - 1
        return super().encode_tokens(tokens, edited)


def file_of(cache):
    """Where its embeddings are."""
    return next(cache.rglob("embeddings.npy"))
