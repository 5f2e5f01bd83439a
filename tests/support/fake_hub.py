"""A server on the loopback interface that speaks as much of the Hugging Face hub as we use."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

REPO = "someone/pictures"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LFS_FROM = 1000  # bytes from which the fake hub keeps a file as the hub keeps large files
PAGE = 4  # entries of one page of a listing


@dataclass
class FakeHub:
    """One data set repository.

    Attributes:
        files: Path -> content.
        commits: Revision -> commit; ``main`` is the default.
        cut_after: Path -> bytes of the next answer after which the connection is cut; once.
        status_after_cut: Status that the file has from then on; 0: it is served.
        stall_after: Path -> bytes after which the next answer waits for ``stalled``.
        status: Path (or "" for the listing) -> status that is answered in place of the file.
        error_code: What the header ``X-Error-Code`` then says.
        hashes: Path -> SHA-256 that is listed, if another than that of the content.
        endpoint: Address of the server.
        served: Path -> bytes of its content that were sent.
        ranges: Path and first byte of every answer with content.
        requests: Method and path of every request.
    """

    files: dict[str, bytes]
    commits: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    cut_after: dict[str, int] = field(default_factory=dict)
    status_after_cut: int = 0
    stall_after: dict[str, int] = field(default_factory=dict)
    stalled: threading.Event = field(default_factory=threading.Event)
    status: dict[str, int] = field(default_factory=dict)
    error_code: str = ""
    hashes: dict[str, str] = field(default_factory=dict)
    endpoint: str = ""
    served: Counter[str] = field(default_factory=Counter)
    ranges: list[tuple[str, int]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def commit(self) -> str:
        """The newest commit."""
        return self.commits["main"]

    def sha256(self, path: str) -> str:
        """What is listed of a large file."""
        return self.hashes.get(path, hashlib.sha256(self.files[path]).hexdigest())

    def tree(self) -> list[dict[str, Any]]:
        """The listing: folders, small files and large ones."""
        folders = sorted({path.rsplit("/", 1)[0] for path in self.files if "/" in path})
        entries: list[dict[str, Any]] = [
            {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0} for folder in folders
        ]
        for path, content in sorted(self.files.items()):
            entry = {"type": "file", "path": path, "size": len(content), "oid": git_blob(content)}
            if len(content) >= LFS_FROM:
                size = {"size": len(content), "pointerSize": 130}
                entry["lfs"] = {"oid": self.sha256(path), **size}
            entries.append(entry)
        return entries


def git_blob(content: bytes) -> str:
    """The name that git gives to a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def fake_hub(files: Mapping[str, bytes]) -> Iterator[FakeHub]:
    """Serve a repository while the block runs."""
    hub = FakeHub(dict(files))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.stalled.set()
        server.shutdown()
        server.server_close()
        thread.join()


def isolate(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    """Keep the hub's library from the user's caches, tokens and proxies.

    It reads its environment variables when it is imported, so its constants are set, too.
    """
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", home)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    paths = {
        "HF_HOME": home,
        "HF_HUB_CACHE": f"{home}/hub",
        "HF_XET_CACHE": f"{home}/xet",
        "HF_TOKEN_PATH": f"{home}/token",
        "HF_STORED_TOKENS_PATH": f"{home}/stored_tokens",
    }
    for name, path in paths.items():
        monkeypatch.setattr(constants, name, path, raising=False)  # not in every version
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            url = urlsplit(self.path)
            path = unquote(url.path)
            hub.requests.append(f"{self.command} {path}")
            for pattern, method in ROUTES:
                match = re.fullmatch(pattern, path)
                if match:
                    getattr(self, method)(*match.groups(), **parse_qs(url.query))
                    return
            self.refuse(404, "RepoNotFound")

        def info(self, revision: str | None = None, **_: object) -> None:
            commit = hub.commits.get(revision or "main")
            if revision in hub.commits.values():
                commit = revision
            if "" in hub.status:
                self.refuse(hub.status[""], hub.error_code)
            elif commit is None:
                self.refuse(404, "RevisionNotFound")
            else:
                siblings = [{"rfilename": path} for path in sorted(hub.files)]
                values = {"id": REPO, "sha": commit, "siblings": siblings, "tags": []}
                self.send(200, json.dumps(values).encode())

        def tree(self, revision: str, cursor: list[str] | None = None, **_: object) -> None:
            start = int(cursor[0]) if cursor else 0
            entries, link = hub.tree(), {}
            if start + PAGE < len(entries):
                page = f"{hub.endpoint}/api/datasets/{REPO}/tree/{revision}"
                link = {"Link": f'<{page}?recursive=True&cursor={start + PAGE}>; rel="next"'}
            self.send(200, json.dumps(entries[start : start + PAGE]).encode(), link)

        def resolve(self, revision: str, path: str) -> None:
            if path in hub.status:
                self.refuse(hub.status[path], hub.error_code)
                return
            if path not in hub.files:
                self.refuse(404, "EntryNotFound")
                return
            content = hub.files[path]
            headers = {"X-Repo-Commit": revision, "ETag": f'"{git_blob(content)}"'}
            if len(content) < LFS_FROM:
                self.content(path, headers)
                return
            headers |= {
                "X-Linked-Size": str(len(content)),
                "X-Linked-ETag": f'"{hub.sha256(path)}"',
                # As with the hub, large files are on another host, which need not be trusted.
                "Location": hub.endpoint.replace("127.0.0.1", "localhost") + f"/cdn/{quote(path)}",
            }
            self.send(302, b"", headers)

        def cdn(self, path: str) -> None:
            self.content(path, {"ETag": f'"{hub.sha256(path)}"'})

        def content(self, path: str, headers: Mapping[str, str]) -> None:
            content, start, status = hub.files[path], 0, 200
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            headers = {**headers, "Accept-Ranges": "bytes"}
            if asked:
                start, status = int(asked[1]), 206
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            if self.command == "GET":
                hub.ranges.append((path, start))
            self.send(status, content[start:], headers, path)

        def refuse(self, status: int, code: str) -> None:
            self.send(status, b"{}", {"X-Error-Code": code} if code else {})

        def send(
            self,
            status: int,
            content: bytes,
            headers: Mapping[str, str] | None = None,
            path: str = "",
        ) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            cut = hub.cut_after.pop(path, None)
            stall = hub.stall_after.pop(path, None)
            if stall is not None:
                self.wfile.write(content[:stall])
                hub.stalled.wait()
                self.close_connection = True
                return
            sent = content[:cut]
            hub.served[path] += len(sent)
            self.wfile.write(sent)
            self.wfile.flush()
            if cut is not None:
                self.close_connection = True
                if hub.status_after_cut:
                    hub.status[path] = hub.status_after_cut

    return Handler


ROUTES = (
    (rf"/api/datasets/{REPO}", "info"),
    (rf"/api/datasets/{REPO}/revision/(.+)", "info"),
    (rf"/api/datasets/{REPO}/tree/([^/]+)", "tree"),
    (rf"/datasets/{REPO}/resolve/([^/]+)/(.+)", "resolve"),
    (r"/cdn/(.+)", "cdn"),
)
