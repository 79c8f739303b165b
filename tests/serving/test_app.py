"""Answers over HTTP: those of `headrace predict`, and one line for each mistake."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pipeline
from benchmarks.serving_parts.malformed import send_all
from pipeline.inference.model import Model
from pipeline.serving import http
from pipeline.serving.limits import Limits
from pipeline.serving.requests import Input
from pipeline.serving.server import serve
from tests.helpers.processes import call, wait_for
from tests.helpers.serving import ask, predict, serving

Runs = Callable[[str], Path]
LINES = {
    "classification": ["the film was superb", "a dull plot, and long", "", "the\0film", "müsic"],
    "multilabel": ["a fine film", "rain"],
    "tagging": ["Peter Miller saw it", "the"],
    "translation": ["the film", "a plot"],
    "language_modeling": ["the film", "a"],
    "entailment": ["the red film\tred", "the plot\tblue"],
}


@pytest.fixture(scope="module")
def model(runs: Runs) -> Model:
    return pipeline.load(runs("classification"))


@pytest.fixture(scope="module")
def port(model: Model) -> Iterator[int]:
    with serving(model) as port:
        yield port


@pytest.mark.parametrize("task", LINES)
def test_answers_are_the_predictions_of_the_command(runs: Runs, task: str) -> None:
    lines = LINES[task]
    text = "".join(f"{line}\n" for line in lines)
    _, out, _ = call("predict", "--run", str(runs(task)), text=text)
    expected = [json.loads(line) for line in out.splitlines()]
    with serving(pipeline.load(runs(task))) as port:
        assert predict(port, inputs=lines)[:2] == (200, {"predictions": expected})
        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(lambda line: predict(port, input=line), lines * 4))
    for answer, prediction in zip(answers, expected * 4, strict=True):
        if "error" in prediction:
            assert answer[:2] == (422, prediction)
        else:
            assert answer[:2] == (200, {"prediction": prediction})


def test_rows_and_texts_have_the_same_prediction(port: int) -> None:
    (first, second) = predict(port, inputs=["a film", {"text": "a film", "id": 1}]).value[
        "predictions"
    ]
    assert first == second
    assert predict(port, inputs=[]).value == {"predictions": []}


def test_health_names_the_run(port: int, model: Model) -> None:
    answer = ask(port, "GET", "/health")
    name = model.trained.files.folder.name
    assert answer[:2] == (
        200,
        {"status": "ok", "run": name, "task": "classification", "step": 2},
    )


def test_mistakes_are_one_line(port: int) -> None:
    answer = predict(port, inputs=["a", 3])
    assert (answer.status, list(answer.value)) == (422, ["error"])
    assert answer.value["error"].startswith("inputs[1]: is a number")
    assert ask(port, "POST", "/predict", b"{").status == 400
    assert ask(port, "GET", "/nothing").value["error"].startswith("no such path; POST /predict")
    answer = ask(port, "GET", "/predict")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert answer.value == {"error": "method GET is not allowed for this path; use POST"}


def test_metrics_count_requests_batches_and_rows(model: Model) -> None:
    with serving(model) as port:
        predict(port, inputs=["a", "", "b"])
        predict(port, input=3)
        ask(port, "GET", "/nothing")
        answer = ask(port, "GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = answer.value.splitlines()
    for line in (
        'headrace_requests_total{path="/predict",status="200"} 1.0',
        'headrace_requests_total{path="/predict",status="422"} 1.0',
        'headrace_requests_total{path="other",status="404"} 1.0',
        "headrace_request_seconds_count 1.0",
        "headrace_batch_size_sum 3.0",
        'headrace_batch_size_bucket{le="4.0"} 1.0',
        "headrace_queue_length 0.0",
        "headrace_rows_total 3.0",
        "headrace_row_errors_total 1.0",
    ):
        assert line in lines
    assert any(line.startswith("process_resident_memory_bytes") for line in lines)


def test_large_and_slow_bodies_are_refused(model: Model) -> None:
    with serving(model, Limits(max_body=100, body_timeout=0.5)) as port:
        answer = ask(port, "POST", "/predict", b" " * 101)
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert answer.value["error"].startswith("body: has more than 100 bytes (--max-body)")
        assert ask(port, "POST", "/predict", b" " * 99).status == 400
        head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
        assert raw(port, head % 10_000).startswith(b"HTTP/1.1 413")
        assert raw(port, head % 50 + b"{").startswith(b"HTTP/1.1 408")


def test_connections_without_a_request_are_closed(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "HEADER_SECONDS", 0.3)
    with serving(model) as port:
        assert raw(port, b"") == b""
        assert raw(port, b"POST /predict HTTP/1.1\r\nHost:") == b""
        two = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" * 2
        assert raw(port, two).count(b'"status": "ok"') == 2


def test_a_full_queue_is_429_and_a_late_answer_504(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = pipeline.load(runs("classification"))
    started, ready, real = threading.Event(), threading.Event(), model.predict

    def wait_and_predict(inputs: list[Input]) -> list[dict[str, object]]:
        started.set()
        assert ready.wait(60)
        return real(inputs)

    monkeypatch.setattr(model, "predict", wait_and_predict)
    limits = Limits(max_queue=2, request_timeout=3, batch_timeout=0)
    with serving(model, limits) as port, ThreadPoolExecutor(2) as clients:
        first = clients.submit(predict, port, inputs=["a", "b"])  # the model gets these two
        wait_for(started.is_set)
        second = clients.submit(predict, port, inputs=["c", "d"])
        wait_for(lambda: "headrace_queue_length 2.0" in ask(port, "GET", "/metrics").value)
        refused = predict(port, inputs=["e"])
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert first.result().status == second.result().status == 504
        ready.set()
        assert predict(port, inputs=["a"]).status == 200


def test_malformed_requests_get_an_answer_below_500(port: int) -> None:
    statuses, failures = asyncio.run(send_all(port, 300))
    assert failures == []
    assert statuses["400"] > 50
    assert statuses["422"] > 30
    assert statuses["413"] > 5
    assert predict(port, input="a film").status == 200


def test_an_unexpected_failure_shows_no_trace(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = pipeline.load(runs("classification"))
    monkeypatch.setattr(model, "predict", lambda inputs: 1 / 0)
    with serving(model) as port:
        answer = predict(port, input="a")
    assert answer.status == 500
    assert "log has the reason" in answer.value["error"]
    assert "ZeroDivisionError" in caplog.text


def test_models_of_images_are_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(model.trained.__dict__, "reads_images", True)
    with pytest.raises(pipeline.errors.RunError, match="reads images, which the server does not"):
        serve(model, "127.0.0.1", 0, Limits())


def raw(port: int, data: bytes) -> bytes:
    """Send bytes and return all that the server sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))
