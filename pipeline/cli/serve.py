"""Serve a run's model over HTTP: predictions as JSON, metrics, and a page to try the model.

    headrace serve --run runs/imdb --port 8000
    curl localhost:8000/predict -d '{"inputs": ["A fine film.", "Dull."]}'

The predictions are those of `headrace predict`. Open http://localhost:8000 to try the model by
hand. Requests that arrive together are batched. On SIGTERM and Ctrl-C, the server answers the
pending requests and ends. There is no encryption and no authentication: put a reverse proxy in
front of a server that other machines can reach.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.cli import common
from pipeline.errors import ConfigError
from pipeline.serving.limits import Limits

MAX_PORT = 65535


def main(arguments: Sequence[str] | None = None, program: str = "headrace serve") -> None:
    parser = common.make_run_parser(program, __doc__, example_override="stream.token_budget=4096")
    default = Limits()
    for name, read, value, text in (
        ("host", str, "127.0.0.1", "address to listen on; 0.0.0.0: all addresses of the machine"),
        ("port", _number(int, 0, MAX_PORT), 8000, "port to listen on; 0: any free port"),
        ("workers", _number(int, 1), 1, "number of processes, each with one CPU thread"),
        ("max-batch-size", _number(int, 1), default.max_batch_size, "maximum inputs per batch"),
        (
            "batch-timeout-ms", _number(float, 0), 1000 * default.batch_timeout,
            "longest time that an input waits for others while the model is free, in milliseconds",
        ),
        ("max-queue", _number(int, 1), default.max_queue, "maximum waiting inputs per process"),
        ("max-body", _number(int, 1), default.max_body, "maximum bytes of a request body"),
        ("max-characters", _number(int, 1), default.max_characters, "maximum characters per input"),
        (
            "timeout", _number(float, 0.001), default.request_timeout,
            "longest time until a request is answered, in seconds",
        ),
    ):  # fmt: skip
        parser.add_argument(
            f"--{name}", type=read, default=value, metavar="N" if read is not str else "ADDRESS",
            help=f"{text} [{value:g}]" if isinstance(value, float) else f"{text} [{value}]",
        )  # fmt: skip
    args = common.parse(parser, arguments)

    from pipeline.inference.model import Model
    from pipeline.inference.trained import load_trained

    try:
        from pipeline.serving.server import serve
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"headrace serve: {error.name} is not installed; pip install 'headrace[serve]'"
        ) from None

    model = load_trained(
        args.run,
        args.overrides,
        weights=args.checkpoint,
        trust_code=args.trust_code,
    )
    serve(Model(model), args.host, args.port, _limits(args), args.workers)


def _limits(args: argparse.Namespace) -> Limits:
    return Limits(
        max_batch_size=args.max_batch_size,
        batch_timeout=args.batch_timeout_ms / 1000,
        max_queue=args.max_queue,
        max_body=args.max_body,
        max_characters=args.max_characters,
        request_timeout=args.timeout,
    )


def _number(kind: type, low: float, high: float = 1e9) -> Callable[[str], Any]:
    """Return a function that reads a number from `low` to `high`."""

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            noun = "an integer" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text}: is not {noun} from {low:g} to {high:g}")
        return value

    return read
