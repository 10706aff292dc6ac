"""A hub of the test's own, and a guard that no other host is asked for anything."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.hub.fake_hub import running

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def hub(monkeypatch):
    """The fake hub. A connection to any other address fails, and fails the test also where the library swallows it."""
    connect, look_up, strangers = socket.socket.connect, socket.getaddrinfo, []

    def watched(self, address):
        if address[:2] != ("127.0.0.1", int(hub.url.rsplit(":", 1)[1])):
            strangers.append(address)
            raise OSError(f"a stranger: {address}")
        return connect(self, address)

    def known(host, *arguments, **options):
        if host != "127.0.0.1":
            strangers.append(host)
            raise OSError(f"a stranger: {host}")
        return look_up(host, *arguments, **options)

    with running() as hub:
        monkeypatch.setattr(socket.socket, "connect", watched)
        monkeypatch.setattr(socket, "getaddrinfo", known)
        yield hub
    assert strangers == []


@pytest.fixture
def cache(tmp_path) -> Path:
    """Where downloaded files are kept, in place of the user's own cache."""
    return tmp_path / "cache"
