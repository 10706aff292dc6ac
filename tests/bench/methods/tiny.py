"""What the tests of the methods run on: concepts, tiny SAEs, methods whose training is a few steps."""

from __future__ import annotations

import pytest
from diffusers import DDIMScheduler

from snce.bench.methods.ablation import ConceptAblation
from snce.bench.methods.esd import ESD
from snce.bench.methods.saeuron import SAeUron
from snce.bench.methods.saeuron_sae import Sampling
from snce.bench.methods.safree import SAFREE
from snce.bench.methods.sld import SLD
from snce.bench.methods.spm import SPM
from snce.sae.config import SAEConfig, TrainConfig
from snce.text.prompts import Concept
from tests.examples import random_sae
from tests.studio import NEUTRALS, TARGETS

ZZZ = Concept("zzz", tuple(TARGETS), tuple(NEUTRALS))
QQ = Concept("qq", tuple(t.replace("zzz", "qq") for t in TARGETS), tuple(NEUTRALS))
LOUD, SILENT = TARGETS[0], NEUTRALS[0]

CAT = Concept("cat", ("a red cat", "cats"), ("two dogs", "green tea", "a hat", "blue sky"))
DOG = Concept("dog", ("two dogs", "a dog"), ("a red cat", "green tea", "a hat"))
PROMPTS = ["a red cat", "green tea"]

PROMPT_CODE = random_sae(0, SAEConfig(32, latents=64, k=6))
PLAIN_CODE = random_sae(1, SAEConfig.plain(32, latents=64, k=6))
CODES = pytest.mark.parametrize("sae", [PROMPT_CODE, PLAIN_CODE], ids=["prompt", "position"])

SLD_AT_ONCE = SLD(0, 5000.0, 1.0, 0.5, 0.7)
SAFREE_ALWAYS = SAFREE(midpoint=-100.0)
ESD_ = ESD(steps=3, lr=1e-2, sampling_steps=2, batch=2)
CA = ConceptAblation(steps=3, lr=1e-2, batch=2, images=4, sampling_steps=2)
SPM_ = SPM(steps=3, lr=1e-1, anchoring=1.0, anchors=2, sampling_steps=2)
SAEURON = SAeUron(gamma=-30.0, prompts=2, latents=32, k=4, sampling=Sampling(2, 3.0, 2), training=TrainConfig(steps=5))


def predicting(pipe, prediction_type):
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, prediction_type=prediction_type)
    return pipe


def weights(pipe):
    return {f"{part}.{k}": v.clone() for part in ("unet", "text_encoder", "vae")
            for k, v in getattr(pipe, part).state_dict().items()}  # fmt: skip
