"""Step 4b: the text encoder: a small CLIPTextModel, trained against pictures and the names of what they show.

Causal, read at the end-of-text token, padded with it: as in CLIP, so that later tokens and padding carry the prompt.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from random import Random

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from snce import checkpoint

from .examples import Example, ExampleSource
from .paths import TEXT_ENCODER
from .render import BACKGROUNDS, Renderer
from .schedule import cosine
from .tokenizer import MAX_LENGTH

WIDTH = 256
BATCH = 192
WORDS_WEIGHT = 0.2


def make(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


class ImageTower(nn.Module):
    """Pictures [b, 3, 64, 64] -> embeddings [b, WIDTH].

    The last features are averaged over the picture, so that a pair's embedding lies near the sum of its parts: as in
    CLIP, a concept then has one direction, whether it is alone or in company. Every other batch shows single objects as
    small as those of a pair, for the same end. Order is left to the words.
    """

    def __init__(self) -> None:
        super().__init__()

        def stage(inside: int, outside: int) -> list[nn.Module]:
            return [nn.Conv2d(inside, outside, 3, 2, 1, bias=False), nn.BatchNorm2d(outside), nn.SiLU(),
                    nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside), nn.SiLU()]  # fmt: skip

        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 4, 4),
            nn.BatchNorm2d(32),
            nn.SiLU(),
            *stage(32, 96),
            *stage(96, 256),
            nn.AdaptiveAvgPool2d(1),
        )
        self.head = nn.Linear(256, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x * 2 - 1).flatten(1))


class Pretraining(nn.Module):
    """The text encoder with what it is trained against: pictures (InfoNCE), and what the caption names (classifiers).

    Both are linear in the embedding at end-of-text, with no projection between, so that what a caption holds lies in
    the embedding along fixed directions, as in CLIP, where years of captions see to it.
    """

    def __init__(self, text: CLIPTextModel, objects: int, styles: int):
        super().__init__()
        self.text = text
        self.image = ImageTower()
        self.log_scale = nn.Parameter(torch.tensor(2.66))
        self.objects = nn.Linear(WIDTH, objects)
        self.styles = nn.Linear(WIDTH, styles + 1)
        self.backgrounds = nn.Linear(WIDTH, len(BACKGROUNDS) + 1)
        nn.init.constant_(self.objects.bias, -6.0)

    def forward(self, tokens: Tensor, pictures: Tensor, named: Named) -> tuple[Tensor, Tensor]:
        """The loss, and the share of texts that find their picture."""
        embedding = self.text(tokens).pooler_output.float()
        text, image = F.normalize(embedding, dim=1), F.normalize(self.image(pictures).float(), dim=1)
        logits = self.log_scale.clamp(max=4.6).exp() * text @ image.T
        truth = torch.arange(len(logits))
        contrast = (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2
        presence = F.binary_cross_entropy_with_logits(self.objects(embedding), named.objects, reduction="none")
        words = presence.sum(1).mean() + F.cross_entropy(self.styles(embedding), named.style)
        words = words + F.cross_entropy(self.backgrounds(embedding), named.background)
        return contrast + WORDS_WEIGHT * words, (logits.argmax(1) == truth).float().mean()


@dataclass(frozen=True)
class Named:
    """What captions name: objects as multi-hot [b, objects], style and background as classes [b], the last for none."""

    objects: Tensor
    style: Tensor
    background: Tensor

    @classmethod
    def of(cls, examples: list[Example], renderer: Renderer) -> Named:
        objects = torch.zeros(len(examples), len(renderer.names))
        for i, e in enumerate(examples):
            for icon in (e.left, e.right):
                if icon is not None and e.names_objects:
                    objects[i, renderer.object[icon]] = 1
        styles = len(renderer.vocabulary["styles"])
        style = torch.tensor([int(renderer.style[e.left]) if e.names_style else styles for e in examples])
        background = [e.background if e.names_background else len(BACKGROUNDS) for e in examples]
        return cls(objects, style, torch.tensor(background))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(TEXT_ENCODER / "tokenizer")
    renderer = Renderer()
    source = ExampleSource(renderer)
    model = Pretraining(make(tokenizer), len(renderer.names), len(source.styles))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.02)
    path = TEXT_ENCODER / "checkpoint.safetensors"
    start = checkpoint.load(path, {"model": model}, {"optimizer": optimizer})
    for step in track(range(start, args.steps), "text encoder"):
        rng = Random(f"text {step}")
        examples = [source.draw(rng) for _ in range(BATCH)]
        tokens = tokenizer([e.caption for e in examples], padding=True, truncation=True, return_tensors="pt").input_ids
        for group in optimizer.param_groups:
            group["lr"] = args.lr * cosine(step, args.steps, warmup=100)
        with torch.autocast("cpu", torch.bfloat16):
            pictures = source.pictures(examples, small=step % 2 == 0)
            loss, found = model(tokens, pictures, Named.of(examples, renderer))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} loss {loss:.3f} found {found:.3f}", flush=True)
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            checkpoint.save(path, step + 1, {"model": model}, {"optimizer": optimizer})
    model.text.save_pretrained(TEXT_ENCODER / "model")


if __name__ == "__main__":
    main()
