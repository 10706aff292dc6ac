"""snce as a technique of eval-unlearn, driven by eval-unlearn: its registry, its runners, its reports."""

from __future__ import annotations

import json
from importlib.metadata import entry_points

import pytest
from eval_unlearn.registry import get_technique, register_metric
from eval_unlearn.registry.entrypoints import load_entrypoints
from eval_unlearn.runners import MultiBenchmarkRunner, SingleBenchmarkRunner
from eval_unlearn.types import Dataset, MetricResult
from PIL import Image

from snce.erase.build import build_eraser
from snce.errors import SnceError
from snce.integrations.eval_unlearn import SnceTechnique
from snce.neurons.find import find_neurons

pytestmark = pytest.mark.ecosystem

BATCH = 3
"""Prompts that the metric hands out at a time."""


@pytest.fixture(scope="module")
def eraser(violin, emblem_tower):
    cards = find_neurons(violin.sae, *violin.rank)[:1]
    return build_eraser("violin", violin.sae, cards, emblem_tower, *violin.test)


@pytest.fixture(scope="module")
def eraser_file(eraser, tmp_path_factory):
    path = tmp_path_factory.mktemp("eraser") / "violin.safetensors"
    eraser.save(path)
    return str(path)


@pytest.fixture(scope="module")
def prompts(violin) -> list[str]:
    """In turn one with a violin and one without, none of which ranked the neurons."""
    return [text for pair in zip(violin.targets[1:8:2], violin.neutrals[1:8:2], strict=True) for text in pair]


@pytest.fixture(scope="module")
def fires(eraser, emblem_tower, prompts) -> list[bool]:
    above = eraser.activations(prompts, emblem_tower)[:, 0] > eraser.neurons.threshold[0]
    assert above[0::2].any()
    assert not above[1::2].all()
    return above.tolist()


@pytest.fixture
def seen(prompts) -> list[bytes]:
    """The pictures that a runner gave to a metric, which hands out `prompts` and has no model to download."""
    pictures: list[bytes] = []

    class Keep:
        def load_dataset(self):
            return [Dataset(prompts[i : i + BATCH], {"source": "local"}) for i in range(0, len(prompts), BATCH)]

        def update(self, images, batch_prompts, metadata):
            assert len(images) == len(batch_prompts)
            assert all(isinstance(image, Image.Image) for image in images)
            pictures.extend(image.tobytes() for image in images)

        def compute(self):
            return MetricResult("Keep", float(len(pictures)))

    register_metric("keep")(Keep)
    return pictures


def test_eval_unlearn_finds_the_technique_by_its_entry_point():
    assert "snce" in {entry.name for entry in entry_points(group="eval_unlearn.techniques")}
    load_entrypoints()
    assert get_technique("snce") is SnceTechnique


@pytest.mark.parametrize("batch", [1, 4])
def test_its_runner_draws_silent_prompts_byte_for_byte_as_without_an_eraser(
    batch, seen, fires, prompts, eraser_file, tmp_path
):
    def run(folder, **config) -> list[bytes]:
        seen.clear()
        config = {"model": "emblem", "steps": 4, "batch": batch, "erase_concept": "violin", **config}
        report = SingleBenchmarkRunner("snce", "keep", config, output_dir=str(tmp_path / folder), seed=11).run()
        assert report["metric_result"]["value"] == len(prompts)
        assert report["erase_concept"] == "violin"
        return list(seen)

    before, after = run("before"), run("after", erasers=[eraser_file])
    assert [b == a for b, a in zip(before, after, strict=True)] == [not f for f in fires]
    # what it leaves on the disk are these pictures
    report = tmp_path / "after" / "snce_violin_latest_report.json"
    name = f"snce_keep_{json.loads(report.read_text())['run_id']}"
    saved = [Image.open(tmp_path / "after" / name / "images" / f"{name}_{i}.png") for i in range(len(prompts))]
    assert [image.tobytes() for image in saved] == after


def test_its_runner_of_several_metrics_takes_the_seed_of_the_configuration(seen, prompts, eraser_file, tmp_path):
    config = {"model": "emblem", "steps": 2, "erasers": eraser_file, "seed": 3}
    for _ in range(2):  # neither run names a seed, as its command line cannot
        MultiBenchmarkRunner("snce", ["keep"], config, output_dir=str(tmp_path)).run()
    assert seen[: len(prompts)] == seen[len(prompts) :]
    technique = SnceTechnique(**config)
    first, second = prompts[:BATCH], prompts[BATCH : 2 * BATCH]
    expected = [image.tobytes() for batch in (first, second) for image in technique.generate(batch, seed=3)]
    assert seen[: 2 * BATCH] == expected


def test_a_mistyped_option_ends_the_run_where_its_own_techniques_would_drop_it(seen, tmp_path):
    runner = SingleBenchmarkRunner("snce", "keep", {"model": "emblem", "eraser": "x"}, output_dir=str(tmp_path))
    with pytest.raises(SnceError, match="no option 'eraser'"):
        runner.run()
    assert not seen
