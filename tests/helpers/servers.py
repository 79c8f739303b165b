"""HTTP server on the loopback interface that can be slow, fail or hang up on request."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class FileServer:
    """Serves the files of a folder over HTTP, with range requests."""

    folder: Path
    ranges: bool = True
    """False: ignore range requests and always send the whole file."""
    before: Callable[[str, int], int | None] = lambda path, count: None
    """Called before each response with the path and the number of its requests so far. May sleep.
    A returned number is the status to answer with; 0 closes the connection."""
    requests: dict[str, int] = field(default_factory=dict)
    """Number of requests, by path."""
    bytes_sent: dict[str, int] = field(default_factory=dict)
    """Bytes of response bodies, by path."""

    def __enter__(self) -> "FileServer":
        file_server, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                name = self.path.lstrip("/")
                with lock:
                    file_server.requests[name] = file_server.requests.get(name, 0) + 1
                    count = file_server.requests[name]
                status = file_server.before(name, count)
                path = file_server.folder / name
                if status is None and not path.is_file():
                    status = 404
                if status == 0:
                    self.close_connection = True
                    return None
                if status is not None:
                    return self.reply(status, b"")
                data, byte_range = path.read_bytes(), self.headers.get("Range")
                if byte_range and file_server.ranges:
                    first, last = byte_range.removeprefix("bytes=").split("-")
                    if int(first) >= len(data):
                        return self.reply(416, b"")
                    part = data[int(first) : int(last) + 1]
                    return self.reply(206, part, f"bytes {first}-{int(first) + len(part) - 1}/*")
                return self.reply(200, data, body=body)

            def reply(
                self, status: int, data: bytes, content_range: str = "", body: bool = True
            ) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Accept-Ranges", "bytes" if file_server.ranges else "none")
                if content_range:
                    self.send_header("Content-Range", content_range)
                self.end_headers()
                if body:
                    with lock:
                        name = self.path.lstrip("/")
                        sent = file_server.bytes_sent.get(name, 0)
                        file_server.bytes_sent[name] = sent + len(data)
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
    """Return a `before` callback that delays the first `times` requests for each file."""

    def before(path: str, count: int) -> int | None:
        if count <= times:
            time.sleep(seconds)
        return None

    return before
