"""A server of predictions in a thread of this process, and requests to it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any, NamedTuple

from pipeline.inference.model import Model
from pipeline.serving.limits import Limits
from pipeline.serving.server import listen, make_server
from tests.helpers.processes import wait_for


class Answer(NamedTuple):
    """The answer to a request."""

    status: int
    value: Any
    """The JSON value of the body, or its text."""
    headers: dict[str, str]


@contextmanager
def serving(model: Model, limits: Limits | None = None) -> Iterator[int]:
    """Serve a model at a free port of this machine, which is yielded."""
    (listener,) = listen("127.0.0.1", 0, 1)
    port: int = listener.getsockname()[1]
    server = make_server(model, limits or Limits())
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield port
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def ask(port: int, method: str, path: str, body: object = None) -> Answer:
    """Send a request with a JSON value or bytes as its body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    is_json = response.headers.get_content_type() == "application/json"
    value = json.loads(text) if is_json else text
    return Answer(response.status, value, dict(response.headers.items()))


def predict(port: int, **body: object) -> Answer:
    """Send a body to /predict."""
    return ask(port, "POST", "/predict", body)
