"""Batches inputs of requests that arrive together.

The model runs in one thread, because it is not thread-safe. While it is busy, inputs wait in a
bounded queue. When it is free, it gets the input that has waited longest and the inputs nearest to
it in length, so that batches have little padding and no input waits forever.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.serving.limits import Limits
from pipeline.serving.metrics import Metrics
from pipeline.serving.requests import Input, RequestError, characters

logger = logging.getLogger(__name__)

Prediction = dict[str, Any]
Predict = Callable[[list[Input]], list[Prediction]]
Value = TypeVar("Value")
INTERNAL_ERROR = "internal error for this input; the server's log has the reason"
MAX_RETRY_SECONDS = 60
"""Maximum value of the header Retry-After."""


@dataclass(eq=False)
class _Item:
    """An input that waits for the model."""

    value: Input
    length: int
    arrival: float
    result: "asyncio.Future[Prediction | RequestError]"


class Batcher:
    """Predicts inputs of concurrent requests in batches. Use it in one event loop."""

    def __init__(self, predict: Predict, limits: Limits, metrics: Metrics) -> None:
        self._predict = predict
        self._limits = limits
        self._metrics = metrics
        self._queue: list[_Item] = []  # in the order of arrival
        self._changed = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="headrace-model")
        self._seconds_per_input = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to take inputs from the queue."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop. Inputs that still wait are discarded, so answer all requests first."""
        if self._task:
            self._task.cancel()
        self._thread.shutdown()

    async def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        """Return the prediction for each input.

        Raises RequestError: 429 if the queue is full, 504 after `request_timeout`, and 500 if the
        model fails.
        """
        self._check_queue(len(inputs))
        loop, now = asyncio.get_running_loop(), time.monotonic()
        items = [_Item(value, characters(value), now, loop.create_future()) for value in inputs]
        self._queue += items
        self._note_change()
        try:
            async with asyncio.timeout(self._limits.request_timeout):
                results = [await item.result for item in items]
        except TimeoutError:
            raise self._timeout_error() from None
        finally:
            for item in items:
                item.result.cancel()  # if the request has ended early
            self._drop_cancelled()
        for result in results:
            if isinstance(result, RequestError):
                raise result
        return [result for result in results if isinstance(result, dict)]

    async def run(self, function: Callable[[], Value]) -> Value:
        """Return the result of a function that uses the model, called when the model is free."""
        self._check_queue(1)
        call = asyncio.get_running_loop().run_in_executor(self._thread, function)
        try:
            return await asyncio.wait_for(call, self._limits.request_timeout)
        except TimeoutError:
            raise self._timeout_error() from None

    def _check_queue(self, count: int) -> None:
        """Raise RequestError if the queue has no room for `count` more inputs."""
        waiting = len(self._queue)
        if waiting + count > self._limits.max_queue:
            seconds = math.ceil(waiting * self._seconds_per_input)
            seconds = min(max(seconds, 1), MAX_RETRY_SECONDS)
            raise RequestError(
                429,
                f"the queue is full: {waiting:,} inputs are waiting, at most "
                f"{self._limits.max_queue:,} are allowed (--max-queue); retry in {seconds} s",
                {"Retry-After": str(seconds)},
            )

    def _timeout_error(self) -> RequestError:
        return RequestError(
            504,
            f"no prediction within {self._limits.request_timeout:g} s (--timeout); send fewer or "
            "shorter inputs, or retry later",
        )

    def _drop_cancelled(self) -> None:
        if any(item.result.done() for item in self._queue):
            self._queue = [item for item in self._queue if not item.result.done()]
            self._metrics.queue.set(len(self._queue))

    def _note_change(self) -> None:
        self._metrics.queue.set(len(self._queue))
        self._changed.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._next_batch()
            start = time.perf_counter()
            try:
                results = await loop.run_in_executor(self._thread, self._results, batch)
            except Exception:
                logger.exception("a batch failed")
                results = [RequestError(500, INTERNAL_ERROR) for _ in batch]
            seconds = time.perf_counter() - start
            per_input = seconds / len(batch)
            self._seconds_per_input += 0.2 * (per_input - self._seconds_per_input)
            self._metrics.batch_size.observe(len(batch))
            self._metrics.batch_seconds.observe(seconds)
            for item, result in zip(batch, results, strict=True):
                if not item.result.done():
                    item.result.set_result(result)

    async def _next_batch(self) -> list[_Item]:
        """Wait until a batch is due, and take it from the queue."""
        while True:
            self._changed.clear()
            timeout: float | None = None
            if self._queue:
                waited = time.monotonic() - self._queue[0].arrival
                timeout = self._limits.batch_timeout - waited
                if timeout <= 0 or len(self._queue) >= self._limits.max_batch_size:
                    break
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
            except TimeoutError:
                pass
        batch = nearest(self._queue, self._limits.max_batch_size)
        taken = set(map(id, batch))
        self._queue = [item for item in self._queue if id(item) not in taken]
        self._metrics.queue.set(len(self._queue))
        return batch

    def _results(self, batch: list[_Item]) -> list[Prediction | RequestError]:
        """Predict a batch, in the thread of the model.

        If it fails, each input is predicted alone, so that one input does not fail the others.
        """
        try:
            return [*self._predict([item.value for item in batch])]
        except Exception:
            if len(batch) == 1:
                logger.exception("an input failed")
                return [RequestError(500, INTERNAL_ERROR)]
        return [result for item in batch for result in self._results([item])]


def nearest(queue: Sequence[_Item], count: int) -> list[_Item]:
    """Return the first item of a queue and the `count` - 1 items nearest to it in length."""
    if len(queue) <= count:
        return list(queue)
    ordered = sorted(queue, key=lambda item: item.length)
    start = stop = ordered.index(queue[0])
    length = queue[0].length
    while stop - start + 1 < count:
        below = length - ordered[start - 1].length if start else math.inf
        above = ordered[stop + 1].length - length if stop + 1 < len(ordered) else math.inf
        start, stop = (start - 1, stop) if below <= above else (start, stop + 1)
    return ordered[start : stop + 1]
