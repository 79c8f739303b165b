"""Shared by the commands that inspect files: their options."""

import argparse
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.cli import common
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.inspection.inspection import Inspection

READING = ("format", "delimiter", "quoting", "encoding", "columns", "label_prefix")
"""Keys of the section `corpus` that say how files are read."""
PREFIX = "corpus."


def make_inspection_parser(program: str, description: str | None) -> common.Parser:
    """Return a parser for files and the choices that a user may make about them."""
    parser = common.make_parser(program, description)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a file of any format of corpus.input, a pattern, a folder or a URL; parallel files "
        "as source=FILE,target=FILE; or a key that says how files are read, such as "
        "corpus.delimiter=';'",
    )
    parser.add_argument(
        "--text", metavar="COLUMN", action="append", default=[],
        help="column of the texts; may be repeated [found by its values]",
    )  # fmt: skip
    parser.add_argument(
        "--label", metavar="COLUMN", action="append", default=[],
        help="column of the labels or numbers to predict; may be repeated [found by its values]",
    )  # fmt: skip
    parser.add_argument("--task", default="", help="task.name [the task that fits best]")
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
        raise ConfigError(_mistake(mistake) for mistake in error.errors()) from None


def _mistake(mistake: Any) -> str:
    """Return the error line for a key that has a wrong value."""
    name = ".".join(map(str, mistake["loc"]))
    return f"{PREFIX}{name}={mistake['input']}: {mistake['msg']}; correct it"


def _reading_key(argument: str) -> tuple[str, Any]:
    """Return the name and value of a key that says how files are read."""
    from pipeline.config.yaml_tree import plain, read_override

    name, _, text = argument.removeprefix(PREFIX).partition("=")
    if name not in READING:
        keys = ", ".join(PREFIX + key for key in READING)
        raise ConfigError(f"{argument}: only keys that say how files are read are used: {keys}")
    return name, text if name in ("delimiter", "format", "encoding") else plain(read_override(text))
