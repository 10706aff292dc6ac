"""A hub of the test's own, and a guard that no other host is asked for anything."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import enable_progress_bars, logging

from snce import cli
from tests.hub.fake_hub import TOKEN, running

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def hub(monkeypatch):
    """The fake hub. A connection to any other address fails, and fails the test also where the library swallows it."""
    connect, look_up, strangers = socket.socket.connect, socket.getaddrinfo, []
    # libraries that other tests of this process have loaded may be asking for something in threads of their own
    others = set(threading.enumerate()) - {threading.current_thread()}

    def refuse(stranger):
        if threading.current_thread() not in others:
            strangers.append(stranger)
        raise OSError(f"a stranger: {stranger}")

    def watched(self, address):
        if address[:2] != ("127.0.0.1", int(hub.url.rsplit(":", 1)[1])):
            refuse(address)
        return connect(self, address)

    def known(host, *arguments, **options):
        if host != "127.0.0.1":
            refuse(host)
        return look_up(host, *arguments, **options)

    # once per process, the library asks the real hub what it should call itself
    monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", {}, raising=False)
    with running() as hub:
        monkeypatch.setattr(socket.socket, "connect", watched)
        monkeypatch.setattr(socket, "getaddrinfo", known)
        yield hub
    assert strangers == []


@pytest.fixture
def cache(tmp_path) -> Path:
    """Where downloaded files are kept, in place of the user's own cache."""
    return tmp_path / "cache"


@pytest.fixture
def logged_in(hub, cache, monkeypatch):
    """The fake hub is the one that is asked unless another is named, by a user who has logged in."""
    # these are read from the environment when the library is imported, which was long ago
    address = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + address)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    verbosity = logging.get_verbosity()
    yield hub
    enable_progress_bars()
    logging.set_verbosity(verbosity)


@pytest.fixture
def snce(logged_in, monkeypatch, capsys):
    """Run a command against the fake hub; return (exit code, output, errors)."""

    def run(*arguments: object, token: str | None = TOKEN) -> tuple[int, str, str]:
        monkeypatch.delenv("HF_TOKEN", raising=False)
        if token is not None:
            monkeypatch.setenv("HF_TOKEN", token)
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run
