"""Batches: their size and lengths, the bounded queue, timeouts and failures."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pipeline.serving.batcher import Batcher, Predict
from pipeline.serving.limits import Limits
from pipeline.serving.metrics import Metrics
from pipeline.serving.requests import Input, RequestError


class Recorder:
    """A model whose prediction is the length of a text. It waits until `ready` is set."""

    def __init__(self) -> None:
        self.batches: list[list[Input]] = []
        self.ready = threading.Event()
        self.ready.set()

    def __call__(self, inputs: list[Input]) -> list[dict[str, Any]]:
        self.batches.append(list(inputs))
        assert self.ready.wait(30)
        if "bad" in inputs:
            raise ValueError("a defect")
        return [{"length": len(text)} for text in inputs]


def run(
    predict: Predict, body: Callable[[Batcher], Coroutine[Any, Any, None]], **limits: Any
) -> Metrics:
    """Run a coroutine with a batcher, and return its metrics."""
    metrics = Metrics()

    async def main() -> None:
        batcher = Batcher(predict, Limits(**limits), metrics)
        batcher.start()
        try:
            await body(batcher)
        finally:
            await batcher.stop()

    asyncio.run(main())
    return metrics


def test_requests_that_arrive_together_are_one_batch() -> None:
    model = Recorder()

    async def body(batcher: Batcher) -> None:
        texts = [["a"], ["bb", "ccc"], []]
        answers = await asyncio.gather(*map(batcher.predict, texts))
        assert answers == [[{"length": 1}], [{"length": 2}, {"length": 3}], []]

    metrics = run(model, body, batch_timeout=0.05)
    assert model.batches == [["a", "bb", "ccc"]]
    assert b"headrace_batch_size_sum 3.0" in metrics.render()


def test_a_full_batch_does_not_wait() -> None:
    async def body(batcher: Batcher) -> None:
        start = time.monotonic()
        await batcher.predict(["a", "b"])
        assert time.monotonic() - start < 10

    run(Recorder(), body, batch_timeout=20, max_batch_size=2)


def test_a_batch_has_the_oldest_input_and_those_of_similar_length() -> None:
    model = Recorder()

    async def body(batcher: Batcher) -> None:
        model.ready.clear()
        first = asyncio.create_task(batcher.predict(["x"]))
        await wait_for(lambda: len(model.batches) == 1)
        lengths = [50, 1, 52, 2, 49, 300, 3]
        rest = asyncio.create_task(batcher.predict(["y" * n for n in lengths]))
        await asyncio.sleep(0)
        model.ready.set()
        await first
        assert [p["length"] for p in await rest] == lengths

    run(model, body, max_batch_size=3, batch_timeout=0)
    batches = [sorted(map(len, batch)) for batch in model.batches]
    assert batches == [[1], [49, 50, 52], [1, 2, 3], [300]]


def test_a_full_queue_refuses_further_inputs_with_a_time() -> None:
    model = Recorder()

    async def body(batcher: Batcher) -> None:
        model.ready.clear()
        first = asyncio.create_task(batcher.predict(["x"]))
        await wait_for(lambda: len(model.batches) == 1)
        waiting = asyncio.create_task(batcher.predict(["a", "b"]))
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="the queue is full: 2 inputs are waiting") as error:
            await batcher.predict(["c", "d"])
        assert (error.value.status, error.value.headers) == (429, {"Retry-After": "1"})
        with pytest.raises(RequestError, match="the queue is full"):
            await asyncio.gather(batcher.predict(["c"]), batcher.run(lambda: 1))
        model.ready.set()
        await asyncio.gather(first, waiting)

    run(model, body, max_queue=3, batch_timeout=0)


def test_inputs_of_a_request_that_timed_out_are_not_computed() -> None:
    model = Recorder()

    async def body(batcher: Batcher) -> None:
        model.ready.clear()
        with pytest.raises(RequestError, match="no prediction within 1 s") as error:
            await batcher.predict(["x"])
        assert error.value.status == 504
        calls = batcher.predict(["y"]), batcher.run(lambda: 1)
        for failed in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(failed, RequestError)
        model.ready.set()
        assert await batcher.predict(["zz"]) == [{"length": 2}]

    run(model, body, request_timeout=1, batch_timeout=0)
    assert model.batches == [["x"], ["zz"]]


def test_an_input_that_fails_does_not_fail_the_others() -> None:
    async def body(batcher: Batcher) -> None:
        good, bad = await asyncio.gather(
            batcher.predict(["aa", "b"]), batcher.predict(["bad"]), return_exceptions=True
        )
        assert good == [{"length": 2}, {"length": 1}]
        assert isinstance(bad, RequestError)
        assert (bad.status, "a defect" in str(bad)) == (500, False)

    run(Recorder(), body, batch_timeout=0.05)


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)
