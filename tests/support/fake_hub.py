"""A Hugging Face hub for tests: a server on this computer that speaks the hub's protocol, and misbehaves when told to.

    with FakeHub({"org/name": {"config.json": b"{}"}}) as hub:
        environment = hub.environment(tmp_path)      # HF_ENDPOINT, HF_HOME; give it to a process
        hub.misbehave(Fault(break_after=1000, times=1), name="config.json", method="GET")
        assert hub.requests[0].method == "GET"

It answers what `huggingface_hub` asks: what a repository holds, and HEAD and GET of files, with Range.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

Files = Mapping[str, bytes]
Refusal = Literal["RepoNotFound", "GatedRepo", "EntryNotFound", "RevisionNotFound", ""]

LFS_BYTES = 100_000
"""Files from this size on are kept as the hub keeps weights: on another host, named by their SHA-256."""

FILE_PATH = re.compile(r"/(?P<elsewhere>content/)?(?P<repository>.+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that the hub got."""

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass(slots=True)
class Fault:
    """One way to misbehave, for so many requests (`times`; None: for good)."""

    status: int | None = None
    """Answer with this status and `code`."""
    code: Refusal = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: bool = False
    """Take the request and say nothing until the server stops."""
    reset: bool = False
    """Break the connection off without an answer."""
    break_after: int | None = None
    """Break the connection off after so many bytes of the body."""
    content: bytes | None = None
    """Send this body where another was promised."""
    pause_s: float = 0.0
    """Wait so long before every 64 KiB of the body."""
    times: int | None = None

    @property
    def of_body(self) -> bool:
        """Whether it shows only where content is sent."""
        return self.status is None and not self.hang and not self.reset


class FakeHub:
    """The server; `repositories` may be changed while it runs, which makes new commits."""

    def __init__(self, repositories: Mapping[str, Files]) -> None:
        self.repositories: dict[str, Files] = dict(repositories)
        self.requests: list[Asked] = []
        self.stopping = threading.Event()
        self._history: dict[tuple[str, str], Files] = {}
        self._faults: list[tuple[re.Pattern[str], Fault]] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def environment(self, home: Path) -> dict[str, str]:
        """Return the variables by which a process uses this hub, with its cache in `home`, and no proxy."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def misbehave(self, fault: Fault, *, repository: str = "", name: str = "", method: str = "") -> None:
        """Answer requests for this method, repository and file with a fault; what is left empty stands for any.

        Of several that fit, the first that isn't used up counts. `content/ORG/NAME` stands for the host that large
        files come from: only requests that got there.
        """
        pattern = f"{method or '[A-Z]+'} .*{re.escape(repository)}.*{re.escape(name)}"
        self._faults.append((re.compile(pattern), fault))

    def behave(self) -> None:
        """Forget every fault."""
        self._faults.clear()

    def commit(self, repository: str) -> str:
        """Return the repository's newest commit: a digest of its files."""
        files = self.repositories[repository]
        whole = b"".join(name.encode() + b"\0" + hashlib.sha1(files[name]).digest() for name in sorted(files))
        digest = hashlib.sha1(whole).hexdigest()
        self._history[repository, digest] = files
        return digest

    def asked(self, method: str, name: str = "") -> list[Asked]:
        """Return the requests of this method whose path ends like this, in order."""
        return [asked for asked in self.requests if asked.method == method and asked.path.endswith(name)]

    def files(self, repository: str, revision: str) -> tuple[str, Files] | None:
        """Return the commit that a revision stands for, and its files."""
        newest = self.commit(repository)
        commit = newest if revision == "main" else revision
        return None if (repository, commit) not in self._history else (commit, self._history[repository, commit])

    def record(self, asked: Asked) -> Fault:
        """Note a request, and return how to answer it."""
        sends = asked.method == "GET" and not self.leads_on(asked.path)
        with self._lock:
            self.requests.append(asked)
            for pattern, fault in self._faults:
                if fault.of_body and not sends:
                    continue
                if fault.times != 0 and pattern.match(f"{asked.method} {asked.path}"):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return Fault()

    def leads_on(self, path: str) -> bool:
        """Return whether a file's content lies on the other host, as large ones do on the hub."""
        match = FILE_PATH.fullmatch(path)
        if not match or match["elsewhere"] or match["repository"] not in self.repositories:
            return False
        found = self.files(match["repository"], match["revision"])
        return found is not None and len(found[1].get(match["name"], b"")) >= LFS_BYTES

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    hub: FakeHub

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client may hang up at any time."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        token = self.headers.get("Authorization")
        fault = hub.record(Asked(self.command, path, self.headers.get("Range"), token))
        if fault.hang:
            hub.stopping.wait(60)
        if fault.hang or fault.reset:
            self._hang_up()
        elif fault.status is not None:
            self._refuse(fault.status, fault.code, fault.headers)
        elif match := FILE_PATH.fullmatch(path):
            self._file(fault, match["repository"], match["revision"], match["name"])
        elif match := re.fullmatch(r"/api/models/(.+?)(?:/revision/([^/]+))?", path):
            self._about(*match.groups())
        else:
            self._refuse(404)

    def _file(self, fault: Fault, repository: str, revision: str, name: str) -> None:
        hub = self.server.hub
        if repository not in hub.repositories:
            return self._refuse(404 if self.headers.get("Authorization") else 401, "RepoNotFound")
        if (found := hub.files(repository, revision)) is None:
            return self._refuse(404, "RevisionNotFound")
        commit, files = found
        if name not in files:
            return self._refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
        content = files[name]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{git_name(content)}"', "Accept-Ranges": "bytes"}
        if hub.leads_on(unquote(self.path)):
            # as the hub does: what it is, and a way to the host that keeps it (the same one by another name)
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"'}
            headers["Location"] = f"http://localhost:{self.server.server_address[1]}/content{self.path}"
            return self._send(302, headers, b"Found. Redirecting", fault)
        if fault.content is not None and self.command == "GET":
            content = fault.content
        if wanted := self.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            if start >= len(content):
                return self._refuse(416)
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return self._send(206, headers, content[start:], fault)
        return self._send(200, headers, content, fault)

    def _about(self, repository: str, revision: str | None) -> None:
        hub = self.server.hub
        if repository not in hub.repositories:
            return self._refuse(404, "RepoNotFound")
        if (found := hub.files(repository, revision or "main")) is None:
            return self._refuse(404, "RevisionNotFound")
        commit, files = found
        about = {
            "id": repository,
            "sha": commit,
            "private": False,
            "siblings": [_entry(*file) for file in files.items()],
        }
        return self._send(200, {"Content-Type": "application/json"}, json.dumps(about).encode(), Fault())

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, fault: Fault) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        whole, step = len(body), 1 << 16
        breaks = fault.break_after is not None and fault.break_after < whole
        for start in range(0, fault.break_after or 0 if breaks else whole, step):
            if self.server.hub.stopping.wait(fault.pause_s) if fault.pause_s else False:
                return self._hang_up()
            self.wfile.write(body[start : min(start + step, fault.break_after or 0) if breaks else start + step])
        if breaks:
            self.close_connection = True  # not a reset: that would overtake what is still on its way

    def _refuse(self, status: int, code: Refusal = "", headers: Mapping[str, str] | None = None) -> None:
        named = {"X-Error-Code": code, "X-Error-Message": f"{code} (as told)"} if code else {}
        self._send(status, {**named, **(headers or {})}, b"", Fault())

    def _hang_up(self) -> None:
        """Break the connection off hard, as a network does that fails."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with suppress(OSError):
            self.connection.close()


def git_name(content: bytes) -> str:
    """Return the SHA-1 by which git, and so the hub, knows a small file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(name: str, content: bytes) -> dict[str, object]:
    large = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    lfs = {"lfs": large} if len(content) >= LFS_BYTES else {}
    return {"rfilename": name, "size": len(content), "blobId": git_name(content), **lfs}
