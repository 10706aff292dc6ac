"""Where the steps read and write. One working folder (`EMBLEM_WORK`, default `build/emblem`) holds everything."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = Path(os.environ.get("EMBLEM_WORK", ROOT / "build" / "emblem"))
PACKAGES = WORK / "packages"
"""Unpacked npm packages."""
ICONS = WORK / "icons.safetensors"
"""Rasterised icons."""
VOCABULARY = WORK / "vocabulary.json"
"""Objects and styles."""
AUTOENCODER = WORK / "autoencoder"
TEXT_ENCODER = WORK / "text_encoder"
UNET = WORK / "unet"
JUDGE = WORK / "judge"
