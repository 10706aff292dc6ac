"""A hub on this machine: the few endpoints of the Hugging Face hub that getting and putting files takes.

What it answers follows what `huggingface_hub` reads: ETag and X-Repo-Commit on files, X-Error-Code on what is missing,
a commit as lines of JSON, large files by Git LFS.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "hf_secret"
LICENSES = {"unknown", "other", "mit", "apache-2.0", "cc-by-4.0", "creativeml-openrail-m"}  # an excerpt


class Refusal(Exception):
    """An HTTP error: status, code of the hub, message."""


@dataclass
class Repo:
    """A repository: every commit with all its files, and what the branches point at."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        oid = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[oid] = files
        self.refs[ref] = oid
        return oid

    def at(self, revision: str) -> tuple[str, dict[str, bytes]]:
        oid = self.refs.get(revision, revision)
        if oid not in self.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid, self.commits[oid]


@dataclass
class FakeHub:
    """The state of the hub. Tests look at it, and change it as other users would."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    lfs: bool = False
    """Take safetensors files by Git LFS, as the real hub does."""
    stored: dict[str, bytes] = field(default_factory=dict)
    """What came by Git LFS, by sha256."""
    before_commit: Any = None
    """Called before a commit is made: another user is quicker."""

    def make(self, repo_id: str, files: dict[str, bytes] | None = None, private: bool = False) -> Repo:
        repo = self.repos[repo_id] = Repo(private)
        repo.commit({".gitattributes": b"", **(files or {})})
        return repo

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        return self.repos[repo_id].at(revision)[1]

    def repo(self, repo_id: str, token: str | None) -> Repo:
        repo = self.repos.get(repo_id)
        if repo is None or (repo.private and token != TOKEN):
            raise Refusal(404 if token == TOKEN else 401, "RepoNotFound", "Repository not found")
        return repo

    # -- what the endpoints answer: JSON, or (headers, bytes) ----------------------------------------------------------

    def resolve(self, token: str | None, repo_id: str, revision: str, path: str) -> tuple[dict[str, str], bytes]:
        oid, files = self.repo(repo_id, token).at(revision)
        if path not in files:
            raise Refusal(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": oid})
        etag = hashlib.sha256(files[path]).hexdigest()
        return {"X-Repo-Commit": oid, "ETag": f'"{etag}"'}, files[path]

    def info(self, token: str | None, repo_id: str, revision: str = "main") -> dict[str, Any]:
        repo = self.repo(repo_id, token)
        oid, files = repo.at(revision)
        siblings = [{"rfilename": name} for name in files]
        return {"id": repo_id, "modelId": repo_id, "sha": oid, "private": repo.private, "siblings": siblings}

    def tree(self, token: str | None, repo_id: str, revision: str) -> list[dict[str, Any]]:
        _, files = self.repo(repo_id, token).at(revision)
        return [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in files.items()]

    def create(self, token: str | None, wanted: dict[str, Any]) -> dict[str, Any]:
        if token != TOKEN:
            raise Refusal(401, "", "Invalid username or password.")
        repo_id = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] == "mallory":
            raise Refusal(403, "", "You don't have the rights to create a model under the namespace mallory")
        if repo_id in self.repos:
            raise Refusal(409, "", "You already created this model repo", {}, {"url": f"{self.url}/{repo_id}"})
        self.make(repo_id, private=wanted.get("visibility") == "private" or bool(wanted.get("private")))
        return {"url": f"{self.url}/{repo_id}"}

    def validate(self, _token: str | None, wanted: dict[str, Any]) -> dict[str, Any]:
        found = re.match(r"---\n(.*?)\n---\n", wanted["content"], re.DOTALL)
        header = yaml.safe_load(found[1]) if found else {}
        if header.get("license", "unknown") not in LICENSES:
            raise Refusal(400, "", "", {}, {"errors": [{"message": '"license" must be one of [...]'}], "warnings": []})
        return {"errors": [], "warnings": [] if found else [{"message": "empty or missing yaml metadata"}]}

    def preupload(self, token: str | None, repo_id: str, revision: str, wanted: dict[str, Any]) -> dict[str, Any]:
        self.repo(repo_id, token).at(revision)
        if token != TOKEN:
            raise Refusal(403, "", "no write access")
        modes = [
            (f["path"], "lfs" if self.lfs and f["path"].endswith(".safetensors") else "regular")
            for f in wanted["files"]
        ]
        return {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes]}

    def batch(self, _token: str | None, _repo_id: str, wanted: dict[str, Any]) -> dict[str, Any]:
        objects = [
            {"oid": o["oid"], "size": o["size"], "actions": {"upload": {"href": f"{self.url}/lfs/{o['oid']}"}}}
            for o in wanted["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def put(self, oid: str, data: bytes) -> dict[str, Any]:
        if hashlib.sha256(data).hexdigest() != oid:
            raise Refusal(400, "", "wrong checksum")
        self.stored[oid] = data
        return {}

    def commit(self, token: str | None, repo_id: str, ref: str, lines: list[dict], pull: bool) -> dict[str, Any]:
        if self.before_commit is not None:
            self.before_commit()
        repo = self.repo(repo_id, token)
        head, files = repo.at(ref)
        files = dict(files)
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    if value.get("parentCommit", head) != head and not pull:
                        raise Refusal(412, "", "A commit has happened since. Please refresh and try again.")
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.stored[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        oid = repo.commit(files, "refs/pr/1" if pull else ref)
        answer = {"commitUrl": f"{self.url}/{repo_id}/commit/{oid}", "commitOid": oid}
        return answer | ({"pullRequestUrl": f"{self.url}/{repo_id}/discussions/1"} if pull else {})


_REPO, _REV = r"(?P<repo>[^/]+/[^/]+)", r"(?P<rev>[^/]+)"
ROUTES = [
    ("GET", rf"/{_REPO}/resolve/{_REV}/(?P<path>.+)"),
    ("GET", rf"/api/models/{_REPO}(?P<info>)"),
    ("GET", rf"/api/models/{_REPO}/revision/{_REV}"),
    ("GET", rf"/api/models/{_REPO}/(?P<tree>tree)/{_REV}"),
    ("POST", r"/api/repos/(?P<create>create)"),
    ("POST", r"/api/(?P<validate>validate-yaml)"),
    ("POST", rf"/api/models/{_REPO}/(?P<preupload>preupload)/{_REV}"),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/(?P<batch>batch)"),
    ("PUT", r"/lfs/(?P<oid>\w+)"),
    ("POST", rf"/api/models/{_REPO}/(?P<commit>commit)/{_REV}"),
]


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer("GET")

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, headers = 200, {}
        try:
            result = self._route(method, body)
            headers, data = result if isinstance(result, tuple) else ({}, json.dumps(result).encode())
        except Refusal as refusal:
            status, code, message, *more = refusal.args
            headers = {"X-Error-Code": code, "X-Error-Message": message, **(more[0] if more else {})}
            headers = {name: value for name, value in headers.items() if value}
            data = json.dumps(more[1] if len(more) > 1 else {"error": message}).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _route(self, method: str, body: bytes) -> Any:
        url = urlsplit(self.path)
        matches = ((m, re.fullmatch(pattern, url.path)) for m, pattern in ROUTES)
        found = next((match for m, match in matches if match and m == method), None)
        if found is None:
            raise Refusal(404, "", f"no endpoint {method} {url.path}")
        part = {name: unquote(value) for name, value in found.groupdict().items()}
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        hub, repo_id, revision = self.hub, part.get("repo", ""), part.get("rev", "main")
        if "path" in part:
            return hub.resolve(token, repo_id, revision, part["path"])
        if "tree" in part:
            return hub.tree(token, repo_id, revision)
        if "oid" in part:
            return hub.put(part["oid"], body)
        if method == "GET":
            return hub.info(token, repo_id, revision)
        if "commit" in part:
            lines = [json.loads(line) for line in body.splitlines()]
            return hub.commit(token, repo_id, revision, lines, "create_pr" in parse_qs(url.query))
        wanted = json.loads(body)
        if "create" in part:
            return hub.create(token, wanted)
        if "validate" in part:
            return hub.validate(token, wanted)
        if "batch" in part:
            return hub.batch(token, repo_id, wanted)
        return hub.preupload(token, repo_id, revision, wanted)


@contextmanager
def running() -> Iterator[FakeHub]:
    """A hub at 127.0.0.1, on a port of its own."""
    hub = FakeHub()
    handler = type("HandlerOfThisHub", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
