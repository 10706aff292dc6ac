"""Names of files on the hub, as huggingface_hub reads and writes them."""

from __future__ import annotations

import pytest
from huggingface_hub.utils import parse_hf_uri

from snce.errors import SnceError
from snce.hub.names import HubFile, hub_model, parse_hub_uri


@pytest.mark.parametrize(
    "uri",
    [
        "hf://alice/erasers",
        "hf://alice/erasers/",
        "hf://models/alice/erasers",
        "hf://alice/erasers/a.safetensors",
        "hf://alice/erasers/folder/a.safetensors",
        "hf://alice/erasers@v1",
        "hf://alice/erasers@v1.0-rc/folder/a.safetensors",
        "hf://alice/erasers@refs/pr/12",
        "hf://alice/erasers@refs/pr/12/folder/a.safetensors",
        "hf://alice/erasers@refs/convert/x-2/a.safetensors",
        "hf://alice-1/my.erasers_2@0123456789012345678901234567890123456789/a.safetensors",
    ],
)
def test_a_name_means_what_it_means_to_the_library(uri):
    theirs = parse_hf_uri(uri)
    ours = parse_hub_uri(uri, "default.safetensors")
    path = theirs.path_in_repo.rstrip("/")
    assert ours == HubFile(theirs.id, path or "default.safetensors", theirs.revision)
    assert parse_hub_uri(str(ours), "other.safetensors") == ours
    assert parse_hf_uri(str(ours)).path_in_repo == ours.filename


@pytest.mark.parametrize(
    "uri",
    [
        "hf://",
        "hf://alice",
        "hf://alice/",
        "hf:///erasers",
        "hf://alice/erasers@",
        "hf://alice/erasers@/a.safetensors",
        "hf://alice/erasers//a.safetensors",
        "hf://alice/erasers/../a.safetensors",
        "hf://alice/erasers/a.bin",
        "hf://alice/erasers/a.safetensors/",
        "hf://alice/erasers/a safe.safetensors",
        "hf://alice/er asers/a.safetensors",
    ],
)
def test_what_is_no_name(uri):
    with pytest.raises(SnceError):
        parse_hub_uri(uri, "default.safetensors")


def test_a_name_that_can_only_mean_a_model_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alice" / "here").mkdir(parents=True)
    assert hub_model("alice/model") == "alice/model"
    for name in ("alice/here", "emblem", "./model", "a/b/c", "/alice/model", "~/model", ""):
        assert hub_model(name) is None
