"""Servers on loopback that behave, dawdle and fail as they are told."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Files:
    """Serves the files of a folder over HTTP, by ranges."""

    folder: Path
    ranges: bool = True
    """False: answers each request with the whole file."""
    before: Callable[[str, int], int | None] = lambda path, count: None
    """Called with the path and how often it was asked for; a number is the status to answer with
    instead, 0 hangs up, and it may sleep."""
    asked: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    """Bytes of bodies, by path."""

    def __enter__(self) -> "Files":
        files, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                name = self.path.lstrip("/")
                with lock:
                    files.asked[name] = files.asked.get(name, 0) + 1
                    count = files.asked[name]
                status = files.before(name, count)
                path = files.folder / name
                if status is None and not path.is_file():
                    status = 404
                if status == 0:
                    self.close_connection = True
                    return None
                if status is not None:
                    return self.reply(status, b"")
                data, wanted = path.read_bytes(), self.headers.get("Range")
                if wanted and files.ranges:
                    first, last = wanted.removeprefix("bytes=").split("-")
                    if int(first) >= len(data):
                        return self.reply(416, b"")
                    part = data[int(first) : int(last) + 1]
                    return self.reply(206, part, f"bytes {first}-{int(first) + len(part) - 1}/*")
                return self.reply(200, data, body=body)

            def reply(self, status: int, data: bytes, part: str = "", body: bool = True) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Accept-Ranges", "bytes" if files.ranges else "none")
                if part:
                    self.send_header("Content-Range", part)
                self.end_headers()
                if body:
                    with lock:
                        name = self.path.lstrip("/")
                        files.sent[name] = files.sent.get(name, 0) + len(data)
                    self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def sleep_first(seconds: float, times: int) -> Callable[[str, int], int | None]:
    """Dawdle over the first requests for each file."""

    def before(path: str, count: int) -> int | None:
        if count <= times:
            time.sleep(seconds)
        return None

    return before
