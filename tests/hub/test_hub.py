"""What is pushed is what is pulled, bit for bit, by huggingface_hub itself against a hub on this machine."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard, constants

from snce.erase.eraser import ConceptEraser
from snce.sae.config import SAEConfig
from snce.sae.model import SparseAutoencoder
from tests.examples import random_eraser, random_sae
from tests.hub.fake_hub import TOKEN
from tests.hub.test_sae import ORIGIN


def saved(eraser: ConceptEraser, folder) -> bytes:
    """What `save` writes."""
    eraser.save(folder / "saved.safetensors")
    return (folder / "saved.safetensors").read_bytes()


def push(thing, hub, repo_id="alice/erasers", **options):
    return thing.push_to_hub(repo_id, token=TOKEN, endpoint=hub.url, **options)


def pull(hub, cache, repo_id="alice/erasers", kind=ConceptEraser, **options):
    return kind.from_pretrained(repo_id, endpoint=hub.url, cache_dir=cache, **{"token": False} | options)


@pytest.mark.parametrize("lfs", [False, True])
def test_what_is_pushed_is_what_is_pulled(lfs, hub, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # as where hf_xet is not installed
    hub.lfs = lfs
    eraser = random_eraser(1)
    url = push(eraser, hub)
    assert url == f"{hub.url}/alice/erasers/commit/{hub.repos['alice/erasers'].refs['main']}"
    files = hub.files("alice/erasers")
    assert set(files) == {".gitattributes", "README.md", "eraser.safetensors"}
    assert files["eraser.safetensors"] == saved(eraser, tmp_path)
    assert bool(hub.stored) is lfs
    assert saved(pull(hub, cache), tmp_path) == files["eraser.safetensors"]


def test_an_sae_likewise(hub, cache, tmp_path):
    sae = random_sae(0, SAEConfig(8, 12, 3))
    sae.origin = ORIGIN
    push(sae, hub, "alice/sae")
    pull(hub, cache, "alice/sae", SparseAutoencoder).save_pretrained(tmp_path)
    assert (tmp_path / "sae.safetensors").read_bytes() == hub.files("alice/sae")["sae.safetensors"]


def test_a_repository_holds_several_and_its_readme_has_a_card_of_each(hub, cache):
    readme = b"---\nlicense: mit\n---\nAlice's words.\n"
    hub.make("alice/erasers", {"README.md": readme, "notes.txt": b"mine"})
    for seed, concept in enumerate(("cigarette", "bomb", "cigarette")):
        push(random_eraser(seed, concept), hub, filename=f"{concept}.safetensors")
    files = hub.files("alice/erasers")
    assert files["notes.txt"] == b"mine"
    text = files["README.md"].decode()
    assert text.count("# Eraser: cigarette") == text.count("# Eraser: bomb") == text.count("Alice's words.") == 1
    assert ModelCard(text).data.license == "mit"
    assert pull(hub, cache, filename="bomb.safetensors").concepts == ("bomb",) * 2
    assert pull(hub, cache, "hf://alice/erasers/cigarette.safetensors").card == {"cigarette": {"seed": 2}}


def test_an_earlier_revision(hub, cache):
    push(random_eraser(1), hub)
    repo = hub.repos["alice/erasers"]
    first = repo.refs["v1"] = repo.refs["main"]
    push(random_eraser(2), hub)
    for revision in (first, "v1"):
        assert pull(hub, cache, revision=revision).card == {"cigarette": {"seed": 1}}
        assert pull(hub, cache, f"hf://alice/erasers@{revision}").card == {"cigarette": {"seed": 1}}
    assert pull(hub, cache).card == {"cigarette": {"seed": 2}}


def test_the_cache_serves_when_the_hub_need_or_may_not_be_asked(hub, cache):
    push(random_eraser(1), hub)
    pull(hub, cache)
    hub.requests.clear()
    pull(hub, cache)
    assert hub.requests == ["HEAD /alice/erasers/resolve/main/eraser.safetensors"]
    pull(hub, cache, local_files_only=True)
    assert len(hub.requests) == 1
    pull(hub, cache, force_download=True)
    assert hub.requests[-1] == "GET /alice/erasers/resolve/main/eraser.safetensors"


def test_a_private_repository_is_for_those_with_a_token(hub, cache, tmp_path):
    push(random_eraser(1), hub, private=True)
    assert hub.repos["alice/erasers"].private
    assert saved(pull(hub, cache, token=TOKEN), tmp_path) == hub.files("alice/erasers")["eraser.safetensors"]


def test_a_branch_and_a_pull_request_leave_main_alone(hub, cache):
    push(random_eraser(1), hub)
    repo = hub.repos["alice/erasers"]
    head = repo.refs["dev"] = repo.refs["main"]
    push(random_eraser(2), hub, branch="dev")
    assert push(random_eraser(3), hub, create_pr=True) == f"{hub.url}/alice/erasers/discussions/1"
    assert repo.refs["main"] == head
    for revision, seed in (("dev", 2), ("refs/pr/1", 3)):
        assert pull(hub, cache, revision=revision).card == {"cigarette": {"seed": seed}}
        assert pull(hub, cache, f"hf://alice/erasers@{revision}/eraser.safetensors").card == {
            "cigarette": {"seed": seed}
        }


def test_patterns_choose_what_is_pushed_and_what_goes(hub):
    hub.make("alice/erasers", {"old.safetensors": b"", "notes.txt": b""})
    push(random_eraser(1), hub, ignore_patterns="README.md", delete_patterns=["old*", ".git*"])
    assert set(hub.files("alice/erasers")) == {".gitattributes", "notes.txt", "eraser.safetensors"}
    push(random_eraser(2), hub, "alice/cards", allow_patterns=["*.md"])
    assert set(hub.files("alice/cards")) == {".gitattributes", "README.md"}


def test_saving_pushes_too_where_it_is_asked_to(hub, tmp_path):
    folder = tmp_path / "erasers"
    eraser = random_eraser(1)
    options = {"token": TOKEN, "endpoint": hub.url, "commit_message": "Add an eraser"}
    url = eraser.save_pretrained(folder, repo_id="alice/erasers", push_to_hub=True, config={"a": 1}, **options)
    assert url is not None
    assert url.startswith(f"{hub.url}/alice/erasers/commit/")
    here = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert hub.files("alice/erasers") == {".gitattributes": b""} | here


def test_the_same_again_makes_no_other_readme(hub):
    push(random_eraser(1), hub)
    before = hub.files("alice/erasers")
    push(random_eraser(1), hub)
    assert hub.files("alice/erasers") == before
