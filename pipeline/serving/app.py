"""The web application: paths, statuses and metrics of a server with one model."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from pipeline.inference.model import Model
from pipeline.serving import page, requests
from pipeline.serving.batcher import Batcher
from pipeline.serving.limits import Limits
from pipeline.serving.metrics import Metrics
from pipeline.serving.requests import Inputs, RequestError
from pipeline.serving.view import View

logger = logging.getLogger(__name__)

DISCARDED = 16
"""A body of up to this many times `max_body` is read completely before it is refused, because many
clients read the answer only after they have sent the body."""
DISCONNECTED = 499
"""Status, for the metrics, of a request whose client closed the connection."""
Handler = Callable[[Request], Awaitable[Response]]


def make_app(model: Model, limits: Limits) -> Starlette:
    """Return the application that answers with a model's predictions."""
    server = _Server(model, limits)
    routes = [
        Route(path, server.counted(path, handler), methods=[method])
        for method, path, handler in (
            ("POST", "/predict", server.predict),
            ("POST", "/view", server.view),
            ("GET", "/health", server.health),
            ("GET", "/metrics", server.show_metrics),
            ("GET", "/", server.page),
        )
    ]
    app = Starlette(
        routes=routes,
        lifespan=server.lifespan,
        exception_handlers={HTTPException: server.refuse},
    )
    app.router.redirect_slashes = False
    return app


class JSON(Response):
    """A JSON value, formatted as `headrace predict` prints it."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return json.dumps(content, ensure_ascii=False).encode()


class _Server:
    def __init__(self, model: Model, limits: Limits) -> None:
        self._model = model
        self._limits = limits
        self._metrics = Metrics()
        self._batcher: Batcher
        self._view = View(model)
        self._page = page.render(model)
        files = model.trained.files
        self._facts = {"run": files.folder.name, "task": model.task, "step": files.step}

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._batcher = Batcher(self._model.predict, self._limits, self._metrics)
        self._batcher.start()
        yield
        await self._batcher.stop()

    async def predict(self, request: Request) -> Response:
        start = time.perf_counter()
        given = await self._inputs(request)
        predictions = await self._batcher.predict(given.inputs)
        errors = sum(map(_is_error, predictions))
        self._metrics.rows.inc(len(predictions))
        self._metrics.row_errors.inc(errors)
        self._metrics.request_seconds.observe(time.perf_counter() - start)
        if given.is_many:
            return JSON({"predictions": predictions})
        if errors:
            return JSON(predictions[0], 422)
        return JSON({"prediction": predictions[0]})

    async def view(self, request: Request) -> Response:
        """Answer the page: one prediction, and its HTML."""
        given = await self._inputs(request)
        if given.is_many:
            raise RequestError(422, 'body: has "inputs"; send {"input": ...}')
        (prediction,) = await self._batcher.predict(given.inputs)
        html = await self._batcher.run(lambda: self._view.render(given.inputs[0], prediction))
        return JSON({"prediction": prediction, "html": html})

    async def health(self, request: Request) -> Response:
        return JSON({"status": "ok", **self._facts})

    async def show_metrics(self, request: Request) -> Response:
        return Response(self._metrics.render(), media_type=CONTENT_TYPE_LATEST)

    async def page(self, request: Request) -> Response:
        headers = {"Content-Security-Policy": page.POLICY, "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(self._page, headers=headers)

    def counted(self, path: str, handler: Handler) -> Handler:
        """Return a handler that answers every error with one line, and counts the statuses."""

        async def answer(request: Request) -> Response:
            try:
                response = await handler(request)
            except RequestError as error:
                response = JSON({"error": str(error)}, error.status, error.headers)
            except ClientDisconnect:
                response = Response(status_code=DISCONNECTED)
            except Exception:
                logger.exception("%s failed", path)
                response = JSON({"error": "internal error; the server's log has the reason"}, 500)
            self._metrics.requests.labels(path, response.status_code).inc()
            return response

        return answer

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Answer a request for another path or with another method."""
        assert isinstance(error, HTTPException)
        line = "no such path; POST /predict, GET /health, GET /metrics or GET /"
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "another method")
            line = f"method {request.method} is not allowed for this path; use {allowed}"
        self._metrics.requests.labels("other", error.status_code).inc()
        return JSON({"error": line}, error.status_code, error.headers)

    async def _inputs(self, request: Request) -> Inputs:
        try:
            async with asyncio.timeout(self._limits.body_timeout):
                body = await self._body(request)
        except TimeoutError:
            line = f"the body did not arrive within {self._limits.body_timeout:g} s; send it faster"
            raise RequestError(408, line, {"Connection": "close"}) from None
        return requests.parse(body, self._model.columns, self._limits)

    async def _body(self, request: Request) -> bytes:
        """Return the body. Raises RequestError: 413 if it is too large."""
        limit, chunks, size = self._limits.max_body, [], 0
        error = RequestError(
            413,
            f"body: has more than {limit:,} bytes (--max-body); send several requests",
            {"Connection": "close"},
        )
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > DISCARDED * limit:
            raise error
        async for chunk in request.stream():
            size += len(chunk)
            if size <= limit:
                chunks.append(chunk)
            else:
                chunks.clear()
            if size > DISCARDED * limit:
                raise error
        if size > limit:
            raise error
        return b"".join(chunks)


def _is_error(prediction: dict[str, object]) -> bool:
    return prediction.keys() == {"error"}
