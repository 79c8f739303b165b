"""The processes of a server: sockets, signals and restarts."""

import logging
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType

import uvicorn

from pipeline.errors import ConfigError, RunError
from pipeline.inference.model import Model
from pipeline.runtime.device import use_one_core
from pipeline.serving.limits import Limits

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
BACKLOG = 1024
"""Maximum connections that wait to be accepted by the process."""
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
RESTART_SECONDS = 1.0
"""Time between the end of a process and its replacement."""
GRACE_SECONDS = 5.0
"""Time for shutdown in addition to the request timeout."""
WARM_UP = "a\tb"
"""A text for any task; the first prediction reads the tokenizers and compiles loops."""


def serve(model: Model, host: str, port: int, limits: Limits, workers: int = 1) -> None:
    """Serve a model over HTTP until SIGTERM or SIGINT, then answer the pending requests and return.

    With port 0, the system chooses a free port. Several `workers` are forked processes, so that
    they share the memory of the weights. Raises ConfigError if the address cannot be used, and
    RunError for a model that reads images.
    """
    if model.trained.reads_images:
        raise RunError(
            f"--run={model.trained.files.folder}: reads images, which the server does not accept; "
            "use headrace predict"
        )
    if workers > 1 and model.device.type != "cpu":
        raise ConfigError(
            f"--workers={workers}: several processes cannot share {model.device}; use --workers=1"
        )
    sockets = listen(host, port, workers)
    name = f"[{host}]" if ":" in host else host
    logger.info("serving %r on http://%s:%d", model, name, sockets[0].getsockname()[1])
    if workers == 1:
        _serve(model, sockets[0], limits)
    else:
        _supervise(model, sockets, limits)
    logger.info("stopped")


def listen(host: str, port: int, count: int) -> list[socket.socket]:
    """Return sockets that share an address; the system distributes connections over them.

    Raises ConfigError if the address cannot be used.
    """
    address = f"--host={host} --port={port}"
    try:
        family, *_, target = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Without SO_REUSEPORT, to detect another program that listens on the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            probe.listen(1)
            target = probe.getsockname()
        sockets = []
        for _ in range(count):
            shared = socket.socket(family, socket.SOCK_STREAM)
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if count > 1:
                shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind(target)
            shared.listen(BACKLOG)
            sockets.append(shared)
    except socket.gaierror as error:
        raise ConfigError(f"{address}: {error.strerror}; give an address of this machine") from None
    except (OSError, OverflowError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ConfigError(f"{address}: {reason}; use another port or address") from None
    return sockets


def make_server(model: Model, limits: Limits) -> uvicorn.Server:
    """Return the server of one process; its method `run` takes the sockets."""
    from pipeline.serving.app import make_app
    from pipeline.serving.http import Protocol

    return uvicorn.Server(
        uvicorn.Config(
            make_app(model, limits),
            http=Protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            limit_concurrency=limits.max_connections,
            timeout_graceful_shutdown=int(limits.request_timeout + GRACE_SECONDS),
        )
    )


def _serve_in_child(
    model: Model, sockets: Sequence[socket.socket], number: int, limits: Limits, parent: int
) -> None:
    """Serve with one of the sockets, until a signal or the end of the process `parent`."""
    for handled in SIGNALS:
        signal.signal(handled, signal.SIG_DFL)
    for other in sockets:
        if other is not sockets[number]:
            other.close()
    _serve(model, sockets[number], limits, parent)


def _serve(model: Model, listener: socket.socket, limits: Limits, parent: int = 0) -> None:
    """Serve in this process until a signal, or until the process `parent` has ended."""
    use_one_core()
    model.predict([WARM_UP])
    server = make_server(model, limits)

    async def check_parent() -> None:
        server.should_exit = server.should_exit or (parent != 0 and os.getppid() != parent)

    server.config.callback_notify, server.config.timeout_notify = check_parent, 1
    for number in SIGNALS:  # uvicorn raises the signal again when it has stopped
        signal.signal(number, server.handle_exit)
    server.run([listener])


def _supervise(model: Model, sockets: Sequence[socket.socket], limits: Limits) -> None:
    """Serve with one process per socket; replace processes that end before a signal arrives."""
    folder = tempfile.mkdtemp(prefix="headrace-metrics-")
    os.environ[METRICS_FOLDER] = folder  # before prometheus_client is imported in the processes
    stop, restarts = False, 0

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal stop
        stop = True

    for number in SIGNALS:
        signal.signal(number, end)
    context = multiprocessing.get_context("fork")

    def start(number: int) -> BaseProcess:
        arguments = (model, sockets, number, limits, os.getpid())
        process = context.Process(target=_serve_in_child, args=arguments)
        process.start()
        return process

    processes = [start(number) for number in range(len(sockets))]
    try:
        while not stop:
            wait([process.sentinel for process in processes], timeout=0.2)
            for i, process in enumerate(processes):
                if stop or process.is_alive():
                    continue
                restarts += 1
                logger.warning(
                    "a process ended with status %s and is replaced (%d so far)",
                    process.exitcode,
                    restarts,
                )
                _forget(process.pid)
                time.sleep(RESTART_SECONDS)
                processes[i] = start(i)
    finally:
        for listener in sockets:  # so that new connections are refused
            listener.close()
        _stop(processes, limits.request_timeout + 2 * GRACE_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def _forget(process: int | None) -> None:
    """Remove the queue length of a process that has ended from the metrics."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(process)


def _stop(processes: Sequence[BaseProcess], seconds: float) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0))
        if process.is_alive():
            process.kill()
