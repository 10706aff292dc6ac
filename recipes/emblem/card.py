"""The model card of Emblem: what it is, from what it was made, and what was measured."""

from __future__ import annotations

from snce.emblem.load import GUIDANCE, STEPS, weights_folder
from snce.emblem.vocabulary import vocabulary
from snce.storage import write_text

from .fetch import EMOJI_DATA, ICON_SETS

CREDITS = {
    "@iconify-json/noto": "Google, Noto Emoji",
    "@iconify-json/noto-v1": "Google, Noto Emoji, first version",
    "@iconify-json/twemoji": "Twitter, Twemoji",
    "@iconify-json/emojione": "EmojiOne (now JoyPixels), EmojiOne 2, as kept by EmojiTwo",
    "@iconify-json/streamline-emojis": "Streamline, Streamline Emojis",
    "@iconify-json/fluent-emoji": "Microsoft, Fluent Emoji",
    "@iconify-json/fluent-emoji-flat": "Microsoft, Fluent Emoji Flat",
    "@iconify-json/fluent-emoji-high-contrast": "Microsoft, Fluent Emoji High Contrast",
    "@iconify-json/fxemoji": "Mozilla, Firefox OS Emoji",
}

TEMPLATE = """# Emblem

A text-to-image model of {size:.0f} MB that draws pictograms of 64 x 64 pixels. It is a `StableDiffusionPipeline` (CLIP
text encoder, U-Net, autoencoder) with the classes of Stable Diffusion 1.x, made so that methods which edit such models
can be compared in minutes, without a GPU or a download. It knows {objects} objects and {styles} styles, alone or two
side by side, on seven backgrounds. It is of no use for anything else.

![64 pictures: 48 of one object, 16 of two](contact_sheet.png)

    import snce
    pipe = snce.load_pipeline("emblem")
    pipe("a red apple in twemoji style", num_inference_steps={steps}, guidance_scale={guidance}).images[0]

## Measured

By the judge, a classifier trained on renderings of the icons (a third of them passed through the autoencoder), never on
pictures that Emblem drew; 95 % intervals.
`python -m recipes.emblem.evaluate` prints this table.

| | share | n |
|---|---|---|
{rows}

16 pictures, {steps} steps: {seconds} s with {threads} CPU thread(s).

## Made from

Rasterised icons; each set is a style. The sets and their licences:

| style | set | package | licence |
|---|---|---|---|
{credits}

Names and groups of the objects: unicode-emoji-json {emoji_version} (MIT). Icons were scaled, put on plain backgrounds
and side by side. The weights are a work derived from these sets: if you pass them on, keep this page with them.
Sixteen objects stand in for what people erase from real models: {harmful}.

How it was made, step by step: `recipes/emblem/README.md`.
"""


def write_card(record: dict) -> None:
    """Write README.md beside the weights from what `evaluate` measured."""
    words = vocabulary()
    folder = weights_folder()
    size = sum(f.stat().st_size for f in folder.rglob("*.safetensors")) / 2**20
    rows = [
        f"| {name} | {f['share']:.1%} ± {f['half_width']:.1%} | {f['n']} |"
        for name, f in record.items()
        if isinstance(f, dict)
    ]
    credits = [
        f"| {style} | {CREDITS[package]} | {package} {version} | {licence} |"
        for style, (package, version, licence) in ICON_SETS.items()
    ]
    text = TEMPLATE.format(
        size=size,
        objects=len(words.objects),
        styles=len(words.styles),
        steps=STEPS,
        guidance=GUIDANCE,
        rows="\n".join(rows),
        seconds=record["seconds for 16 pictures"],
        threads=record["threads"],
        credits="\n".join(credits),
        emoji_version=EMOJI_DATA["unicode-emoji-json"],
        harmful=", ".join(name for name, o in words.objects.items() if o.harmful),
    )
    write_text(folder / "README.md", text)
