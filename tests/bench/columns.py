"""Rows of the benchmark, made up."""

from __future__ import annotations

import numpy as np

from snce.bench.prompts import KINDS


def columns(n: int, seed: int = 0, **fixed) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    flags = ("target_before", "target_after", "kept_before", "kept_after", "style_before", "style_after",
             "style_named", "identical")  # fmt: skip
    rows = {name: rng.random(n) < 0.5 for name in flags}
    rows["kind"] = rng.choice(np.array(KINDS, dtype=object), n)
    rows["erased"] = rng.choice(np.array(["cigarette", "bomb", "axe"], dtype=object), n)
    rows["psnr"] = rng.uniform(5, 40, n)
    rows["features_before"] = rng.normal(size=(n, 4))
    rows["features_after"] = rng.normal(size=(n, 4))
    return rows | {name: np.array(value) for name, value in fixed.items()}
