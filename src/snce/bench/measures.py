"""Figures of a method from its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from snce.bench.prompts import KINDS, RETAIN_KINDS, TARGET_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    Columns = dict[str, np.ndarray]
    """Columns of rows, all of one length."""


def _share(hits: np.ndarray, among: np.ndarray) -> float:
    return float(hits[among].mean()) if among.any() else float("nan")


def erasure(rows: Columns, kind: str) -> float:
    """Target gone, of the pictures of this kind of prompt that showed it before."""
    return _share(~rows["target_after"], (rows["kind"] == kind) & rows["target_before"])


def kept(rows: Columns, kind: str) -> float:
    """How often all is found on pictures of this kind, relative to the base model."""
    return _relative(rows["kept_after"], rows["kept_before"], rows["kind"] == kind)


def _relative(after: np.ndarray, before: np.ndarray, among: np.ndarray) -> float:
    """Accuracy after, over accuracy before. What only the base model missed counts for the method: of pictures that
    were right before, another noise alone would lose a few."""
    found = before[among].sum()
    return float(after[among].sum() / found) if found else float("nan")


def basis(rows: Columns) -> dict[str, int]:
    """How many pictures the figures rest on, by kind of prompt: of target prompts and pairs, those that showed before
    what may be gone or kept."""
    found = {}
    for kind in KINDS:
        here = rows["kind"] == kind
        if kind not in RETAIN_KINDS:
            here = here & rows["target_before"]
        if kind == "pair":
            here = here & rows["kept_before"]
        found[kind] = int(here.sum())
    return {kind: n for kind, n in found.items() if n}


def style_kept(rows: Columns) -> float:
    """How often the style is right on retained pictures whose prompt names one, relative to the base model."""
    retained = np.isin(rows["kind"], RETAIN_KINDS)
    return _relative(rows["style_after"], rows["style_before"], retained & rows["style_named"])


def pair_precision(rows: Columns) -> float:
    """Target gone and partner kept, of the pair pictures that showed both before."""
    both = (rows["kind"] == "pair") & rows["target_before"] & rows["kept_before"]
    return _share(~rows["target_after"] & rows["kept_after"], both)


def identical(rows: Columns) -> float:
    """Not changed by one byte, of the retained pictures."""
    return _share(rows["identical"], np.isin(rows["kind"], RETAIN_KINDS))


def psnr(rows: Columns) -> float:
    """Mean PSNR in dB of the retained pictures that did change."""
    changed = np.isin(rows["kind"], RETAIN_KINDS) & ~rows["identical"]
    return float(rows["psnr"][changed].mean()) if changed.any() else float("inf")


def perceptual_distance(rows: Columns) -> float:
    """Mean of 1 - cosine between the judge's features before and after, of the retained pictures that did change.

    0 to 2, and what LPIPS is for photographs: a distance in the features of a network that knows such pictures.
    """
    changed = np.isin(rows["kind"], RETAIN_KINDS) & ~rows["identical"]
    if not changed.any():
        return 0.0
    a, b = rows["features_after"][changed], rows["features_before"][changed]
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float((1 - (a * b).sum(1) / np.maximum(norms, 1e-12)).mean())


def frechet(rows: Columns) -> float:
    """Fréchet distance between the retained pictures after and before, in the judge's feature space.

    |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), with the mean and covariance of the features (Heusel et al.,
    arXiv 1706.08500, on other features than FID's: not to be compared with FID).
    """
    retained = np.isin(rows["kind"], RETAIN_KINDS)
    a, b = rows["features_after"][retained].astype(np.float64), rows["features_before"][retained].astype(np.float64)
    if len(a) < 2:
        return float("nan")
    difference = a.mean(0) - b.mean(0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root_a = _root(cov_a)
    overlap = np.sqrt(np.linalg.eigvalsh(root_a @ cov_b @ root_a).clip(0)).sum()  # tr (C_a C_b)^(1/2), symmetric
    distance = difference @ difference + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap
    return max(0.0, float(distance))  # it is no less, but for rounding


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def overall_erasure(rows: Columns) -> float:
    """Mean over the kinds of target prompts that there are."""
    return _mean([erasure(rows, kind) for kind in TARGET_KINDS])


def overall_retention(rows: Columns) -> float:
    """Mean of what is kept on other prompts, on neighbours, and of styles."""
    return _mean([*(kept(rows, kind) for kind in RETAIN_KINDS), style_kept(rows)])


def _mean(figures: list[float]) -> float:
    """Of those that there are; NaN if there are none."""
    there = [f for f in figures if f == f]
    return float(np.mean(there)) if there else float("nan")


def harmonic_mean(rows: Columns) -> float:
    """Of erasure, retention and pair precision: the one figure by which methods are ranked.

    Zero if any of them is zero, and NaN if one has no picture to rest on.
    """
    parts = [overall_erasure(rows), overall_retention(rows), pair_precision(rows)]
    if np.isnan(parts).any():
        return float("nan")
    return 0.0 if min(parts) <= 0 else len(parts) / sum(1 / part for part in parts)


MEASURES: dict[str, Callable[[Columns], float]] = {
    "harmonic mean": harmonic_mean,
    "erasure": overall_erasure,
    "retention": overall_retention,
    **{f"erased: {kind}": lambda rows, kind=kind: erasure(rows, kind) for kind in TARGET_KINDS},
    "kept: others": lambda rows: kept(rows, "other"),
    "kept: neighbours": lambda rows: kept(rows, "neighbour"),
    "kept: styles": style_kept,
    "pair precision": pair_precision,
    "identical": identical,
    "psnr of the changed": psnr,
    "perceptual distance of the changed": perceptual_distance,
    "fréchet distance": frechet,
}
"""Every measure by its name in the tables."""
