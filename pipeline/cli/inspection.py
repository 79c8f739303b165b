"""Options that `headrace inspect` and `headrace init` share."""

import argparse
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.cli import common
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.inspection.inspection import Inspection

READING_KEYS = ("format", "delimiter", "quoting", "encoding", "columns", "label_prefix")
"""Keys of the section `corpus` that set how files are read."""
PREFIX = "corpus."


def make_inspection_parser(program: str, description: str | None) -> common.Parser:
    """Return a parser for data files, and for the user's choice of columns and task."""
    parser = common.make_parser(program, description)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a file in any format of corpus.input, a glob, a folder or a URL; parallel files, as "
        "source=FILE,target=FILE; or a key that sets how files are read, such as "
        "corpus.delimiter=';'",
    )
    parser.add_argument(
        "--text", metavar="COLUMN", action="append", default=[],
        help="text column; may be repeated [detected by its values]",
    )  # fmt: skip
    parser.add_argument(
        "--label", metavar="COLUMN", action="append", default=[],
        help="column of labels or numbers to predict; may be repeated [detected by its values]",
    )  # fmt: skip
    parser.add_argument("--task", default="", help="value of task.name [the task that fits best]")
    return parser


def inspect_arguments(args: argparse.Namespace) -> "Inspection":
    """Inspect the files that a command line names."""
    from pipeline.inspection.inspection import inspect

    given = {}
    for argument in args.files:
        if argument.startswith(PREFIX) and "=" in argument:
            name, value = _reading_key(argument)
            given[name] = value
    files = [f for f in args.files if not (f.startswith(PREFIX) and "=" in f)]
    if not files:
        raise ConfigError("no file is given; name one, such as reviews.csv")
    try:
        return inspect(files, task=args.task, text=args.text, label=args.label, given=given)
    except ValidationError as error:
        raise ConfigError(map(_error_line, error.errors())) from None


def _error_line(error: Any) -> str:
    """Return the error line for a key with an invalid value."""
    name = ".".join(map(str, error["loc"]))
    return f"{PREFIX}{name}={error['input']}: {error['msg']}; correct it"


def _reading_key(argument: str) -> tuple[str, Any]:
    """Return the name and value of a key that sets how files are read."""
    from pipeline.config.yaml_tree import plain, read_override

    name, _, text = argument.removeprefix(PREFIX).partition("=")
    if name not in READING_KEYS:
        keys = ", ".join(PREFIX + key for key in READING_KEYS)
        raise ConfigError(f"{argument}: does not set how files are read; the keys here are {keys}")
    return name, text if name in ("delimiter", "format", "encoding") else plain(read_override(text))
