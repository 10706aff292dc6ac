"""The README of a baked pipeline: what is taken out, how to load it, whom that trusts, what it cannot do."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from snce.erase.baked_folder import code_file
from snce.hub.names import hub_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def render_readme(model: str, folder: Path, encoders: Sequence[str]) -> str:
    """README.md of the baked pipeline in `folder`, made from `model`, with these text encoders edited."""
    about, concepts = _read(folder, encoders)
    version = next(iter(about.values()))["version"]
    name, contents = code_file()
    code = "\n".join(f"- `{encoder}/{name}.py`" for encoder in encoders)
    return f"""{_header(model)}
# {_base(model)} without {_and(concepts)}

A copy of the diffusers pipeline `{_base(model)}` with the neurons below switched off in what its text encoders hand to
the denoiser. A prompt on which none of them fires gives the same picture as before, bit for bit.
Made with [snce](https://arxiv.org/abs/2509.21008) {version} (`snce bake`).

```python
import torch
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("path/to/this/folder", torch_dtype=torch.float32, trust_remote_code=True)
```

## What was baked

{_neurons(about)}

{_erasers(about)}
{_layers(about)}
## Negative prompts are edited too

The encoder cannot know whether a text is a prompt or a negative prompt, and edits both: a negative prompt that names
{_and(concepts)} no longer keeps it out. Where that matters, use the original model with the eraser attached.

## What loading it trusts

`trust_remote_code=True` runs the Python code below, which is in this folder and makes the edit. It is short, imports
torch and transformers (5.6 or later) alone, and needs no snce:

{code}

Read it; or compare it with `snce/erase/baked.py` of snce {version}, whose SHA-256 is

    {hashlib.sha256(contents).hexdigest()}

or load the folder with `snce.load_pipeline`, which runs the file only if it is that of the snce installed.

Without `trust_remote_code=True`, loading fails; so does loading the encoder's weights into the plain class. The edit is
not lost by mistake. Whoever has the weights can still take it out by hand: this is no lock.

## Licence

That of the original model: see its licence files and README.base.md, where it has them.
"""


def render_onnx_readme(model: str, folder: Path, outputs: Mapping[str, Sequence[str]]) -> str:
    """README.md of the ONNX text encoders in `folder`; `outputs`: the names of what each of them puts out."""
    about, concepts = _read(folder, list(outputs))
    lines = "\n".join(f"- `{name}/model.onnx`: `{'`, `'.join(names)}`" for name, names in outputs.items())
    return f"""# Text encoders of {_base(model)} without {_and(concepts)}, as ONNX

Laid out as optimum exports diffusers pipelines: put these folders in the place of those of the exported pipeline.
In: `input_ids`, int32 [batch, sequence], and where the file has it `attention_mask`, alike.
Out, float32, with the neurons below switched off:

{lines}

{_neurons(about)}

{_erasers(about)}

**Negative prompts are edited too**: the encoder cannot know whether a text is a prompt or a negative prompt. A negative
prompt that names {_and(concepts)} no longer keeps it out.

Only the places in the table are edited, not what else the files put out: with clip_skip, a pipeline takes another.

The numbers are those of PyTorch to rounding, not bit for bit. A prompt whose activation lies within rounding of the
threshold may fall on its other side.
"""


def _read(folder: Path, encoders: Sequence[str]) -> tuple[dict[str, dict], list[str]]:
    """What the configs of the encoders say of their edits, and the concepts."""
    about = {name: json.loads((folder / name / "config.json").read_text(encoding="utf-8"))["snce"] for name in encoders}
    concepts = [c for entry in about.values() for part in entry["parts"] for c in part["concepts"]]
    return about, list(dict.fromkeys(concepts))


def _header(model: str) -> str:
    base = f"base_model: {model}\n" if hub_model(model) else ""
    return f"---\nlibrary_name: diffusers\n{base}tags:\n- concept-erasure\n- custom_code\n---\n"


def _base(model: str) -> str:
    """The model's name, without the folders of the machine that it was baked on."""
    return model.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


def _and(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _neurons(about: dict[str, dict]) -> str:
    rows = ["| edited | concept | threshold | strength | fires |", "|---|---|---|---|---|"]
    for name, part in ((name, part) for name, entry in about.items() for part in entry["parts"]):
        for concept, threshold, strength, whole in zip(
            part["concepts"], part["thresholds"], part["strengths"], part["whole_prompt"], strict=True
        ):
            reach = "for a whole prompt" if whole else "at each position by itself"
            shown = concept.replace("|", "\\|")
            rows.append(f"| `{name}.{part['place']}` | {shown} | {threshold:.6g} | {strength:.6g} | {reach} |")
    return "\n".join(rows)


def _layers(about: dict[str, dict]) -> str:
    """What becomes of the hidden states that are not edited, where some are."""
    names = [n for n, entry in about.items() if any(p["place"].startswith("output.hidden_") for p in entry["parts"])]
    if not names:
        return ""
    encoders = _and([f"`{name}`" for name in names])
    return (
        f"\nOf the hidden states of {encoders}, the edited ones alone are handed out: `clip_skip` is not to be had.\n"
    )


def _erasers(about: dict[str, dict]) -> str:
    lines = [f"| {e['file']} | `{e['sha256']}` |" for entry in about.values() for e in entry["erasers"]]
    prints = ", ".join(f"`{entry['fingerprint']}` ({tower})" for tower, entry in about.items())
    table = "\n".join(["| eraser file | SHA-256 |", "|---|---|", *dict.fromkeys(lines)])
    return f"{table}\n\nFingerprint of the encoder before: {prints}."
