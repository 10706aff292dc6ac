"""What goes wrong on the hub is an SnceError, one sentence that says what to do."""

from __future__ import annotations

import socket
import time

import pytest
from huggingface_hub import constants

from snce.erase.eraser import ConceptEraser
from snce.errors import SnceError
from tests.examples import random_eraser
from tests.hub.fake_hub import TOKEN, Refusal
from tests.hub.test_hub import pull, push


def sentence(excinfo: pytest.ExceptionInfo) -> str:
    text = str(excinfo.value)
    assert "\n" not in text
    assert "http" not in text or "127.0.0.1" in text
    return text


@pytest.mark.parametrize(
    ("source", "options", "says"),
    [
        ("alice/nothing", {}, "no such repository"),
        ("alice/hidden", {}, "if it is yours, log in"),
        ("alice/hidden", {"token": "hf_wrong"}, "no such repository"),
        ("alice/erasers", {"revision": "v9"}, "no such branch, tag or commit"),
        ("hf://alice/erasers@v9/a.safetensors", {}, "hf://alice/erasers@v9/a.safetensors: the repository has no such"),
        ("alice/erasers", {}, "holds no eraser.safetensors; it holds a.safetensors, b.safetensors"),
        ("alice/erasers", {"filename": "c.safetensors"}, "holds no c.safetensors; it holds a.safetensors"),
        ("alice/empty", {}, "alice/empty holds no eraser.safetensors"),
        ("alice/gated", {}, "ask for access on its page"),
        ("alice/erasers", {"filename": "a.safetensors", "local_files_only": True}, "is not in the cache"),
        ("alice/erasers", {"force_download": True, "local_files_only": True}, "contradict"),
        ("alice/erasers", {"filename": "model.bin"}, "ends in .safetensors"),
        ("hf://alice/erasers/model.pkl", {}, "ends in .safetensors"),
        ("hf://alice", {}, "hf://OWNER/NAME"),
        ("hf://datasets/alice/erasers/a.safetensors", {}, "no such repository"),
        ("alice/broken", {}, "truncated or not a safetensors file"),
        ("alice/broken", {"filename": "sae.safetensors"}, "not a file of kind"),
    ],
)
def test_pulling_what_is_not_to_be_had(source, options, says, hub, cache, tmp_path, monkeypatch):
    random_eraser(1).save(tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    hub.make("alice/erasers", {"a.safetensors": data, "b.safetensors": data, "model.bin": b"", "model.pkl": b""})
    hub.make("alice/hidden", {"eraser.safetensors": data}, private=True)
    hub.make("alice/empty")
    foreign = data.replace(b"snce-eraser-", b"snce-erasor-")
    hub.make("alice/broken", {"eraser.safetensors": data[:-9], "sae.safetensors": foreign})
    known = hub.repo

    def repo(repo_id, token):
        if repo_id == "alice/gated":
            raise Refusal(403, "GatedRepo", "Access to model alice/gated is restricted")
        return known(repo_id, token)

    monkeypatch.setattr(hub, "repo", repo)
    with pytest.raises(SnceError) as excinfo:
        pull(hub, cache, source, **options)
    assert says in sentence(excinfo)


def test_a_damaged_copy_is_mended_by_fetching_it_again(hub, cache):
    push(random_eraser(1), hub)
    pull(hub, cache)
    (blob,) = (p for p in cache.rglob("eraser.safetensors"))
    blob.resolve().write_bytes(b"damaged")
    with pytest.raises(SnceError, match="force_download=True mends it"):
        pull(hub, cache)
    assert pull(hub, cache, force_download=True).card == {"cigarette": {"seed": 1}}


@pytest.fixture
def nobody():
    """An address at which nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused, and nobody else gets it
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_hub_out_of_reach(nobody, cache, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # the library waits between its attempts
    with pytest.raises(SnceError, match=r"not in the cache, and the hub cannot be reached: .*refused") as excinfo:
        ConceptEraser.from_pretrained("alice/erasers", endpoint=nobody, cache_dir=cache, token=False)
    sentence(excinfo)
    with pytest.raises(SnceError, match=r"the hub at http://127\.0\.0\.1.* cannot be reached: .*refused"):
        random_eraser(1).push_to_hub("alice/erasers", endpoint=nobody, token=TOKEN)


def test_out_of_reach_the_cache_serves(hub, nobody, cache):
    push(random_eraser(1), hub)
    pull(hub, cache)
    hub.url = nobody  # the guard lets connections to it pass
    assert pull(hub, cache).card == {"cigarette": {"seed": 1}}


def test_offline_the_hub_is_not_asked(hub, cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SnceError, match="is not in the cache"):
        pull(hub, cache)
    with pytest.raises(SnceError, match="HF_HUB_OFFLINE is set"):
        push(random_eraser(1), hub)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("repo_id", "options", "says"),
    [
        ("alice", {}, "write OWNER/NAME"),
        ("alice/erasers/more", {}, "write OWNER/NAME"),
        ("alice/erasers", {"token": "hf_wrong"}, "log in"),
        ("mallory/erasers", {}, "don't have the rights"),
        ("alice/erasers", {"branch": "dev"}, "no such branch"),
        ("alice/erasers", {"private": True}, "is public"),
        ("alice/erasers", {"filename": "e.bin"}, "ends in .safetensors"),
        ("alice/erasers", {"model_card_kwargs": {"license": "mine"}}, '"license" must be one of'),
    ],
)
def test_pushing_what_the_hub_does_not_take(repo_id, options, says, hub):
    before = dict.fromkeys((".gitattributes", "other.safetensors"), b"")
    hub.make("alice/erasers", before)
    with pytest.raises(SnceError) as excinfo:
        random_eraser(1).push_to_hub(repo_id, endpoint=hub.url, **{"token": TOKEN} | options)
    assert says in sentence(excinfo)
    assert hub.files("alice/erasers") == before


def test_another_users_commit_in_between_is_not_lost(hub):
    repo = hub.make("alice/erasers")

    def bob():
        hub.before_commit = None
        repo.commit({"README.md": b"Bob's words", **hub.files("alice/erasers")})

    hub.before_commit = bob
    with pytest.raises(SnceError, match="changed the repository meanwhile") as excinfo:
        push(random_eraser(1), hub)
    sentence(excinfo)
    assert set(hub.files("alice/erasers")) == {".gitattributes", "README.md"}
    push(random_eraser(1), hub)
    assert b"Bob's words" in hub.files("alice/erasers")["README.md"]
    assert b"# Eraser: cigarette" in hub.files("alice/erasers")["README.md"]


def test_a_readme_with_a_broken_header_is_left_alone(hub):
    hub.make("alice/erasers", {"README.md": b"---\n{a: [\n---\n"})
    with pytest.raises(SnceError, match=r"header of README\.md"):
        push(random_eraser(1), hub)
    assert set(hub.files("alice/erasers")) == {".gitattributes", "README.md"}


@pytest.mark.parametrize(
    ("repo_id", "says"), [(None, 'push_to_hub=True needs repo_id="OWNER/NAME"'), ("erasers", "write OWNER/NAME")]
)
def test_where_saving_cannot_push_nothing_is_written(repo_id, says, hub, tmp_path):
    options = {"token": TOKEN, "endpoint": hub.url}
    with pytest.raises(SnceError) as excinfo:
        random_eraser(1).save_pretrained(tmp_path / "erasers", repo_id=repo_id, push_to_hub=True, **options)
    assert says in sentence(excinfo)
    assert list(tmp_path.iterdir()) == []
    assert hub.requests == []
