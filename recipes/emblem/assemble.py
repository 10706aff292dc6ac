"""Step 7: put the parts together as a diffusers folder in half precision, with the judge and the vocabulary."""

from __future__ import annotations

import json
import shutil

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from snce.storage import replacing, write_text

from .paths import AUTOENCODER, JUDGE, ROOT, TEXT_ENCODER, UNET, VOCABULARY
from .unet import make_noise_schedule

TARGET = ROOT / "src" / "snce" / "emblem" / "weights"


def pipeline() -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(AUTOENCODER),
        text_encoder=CLIPTextModel.from_pretrained(TEXT_ENCODER / "model"),
        tokenizer=CLIPTokenizer.from_pretrained(TEXT_ENCODER / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(UNET / "model"),
        scheduler=DPMSolverMultistepScheduler.from_config(
            make_noise_schedule().config, timestep_spacing="trailing", algorithm_type="dpmsolver++"
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    pipe = pipeline().to(torch.float16)
    partial = ROOT / "build" / "pipeline.partial"  # the package holds a whole pipeline at any time, or none
    shutil.rmtree(partial, ignore_errors=True)
    pipe.save_pretrained(partial, safe_serialization=True)
    for config in partial.rglob("config.json"):  # they name the folder that a part was loaded from
        fields = json.loads(config.read_text())
        fields.pop("_name_or_path", None)
        config.write_text(json.dumps(fields, indent=2) + "\n")
    shutil.rmtree(TARGET / "pipeline", ignore_errors=True)
    partial.rename(TARGET / "pipeline")
    raw = json.loads(VOCABULARY.read_text())
    objects = {
        name: {"group": o["group"], "harmful": o["harmful"], "synonyms": o["synonyms"], "styles": list(o["icons"])}
        for name, o in raw["objects"].items()
    }
    words = {"styles": raw["styles"], "objects": objects, "held_out": raw["held_out"]}
    write_text(TARGET / "vocabulary.json", json.dumps(words, indent=1, ensure_ascii=False))
    if (JUDGE / "judge.safetensors").exists():
        with replacing(TARGET / "judge.safetensors") as temporary:
            shutil.copyfile(JUDGE / "judge.safetensors", temporary)
    size = sum(f.stat().st_size for f in TARGET.rglob("*") if f.is_file())
    print(f"{size / 2**20:.1f} MB in {TARGET}")


if __name__ == "__main__":
    main()
