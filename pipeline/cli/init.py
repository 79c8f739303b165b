"""Write a config for data files: a task that fits, the columns, and a comment for each key.

    headrace init tickets.csv -o tickets.yaml
    headrace init a.en a.de -o en-de.yaml
    headrace init tickets.csv --text note --label category

A path is relative to the current folder or, if it does not exist there, to data/. `headrace
inspect` shows the statistics behind the config.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.cli import common
from pipeline.cli.inspection import inspect_arguments, make_inspection_parser
from pipeline.errors import ConfigError


def main(arguments: Sequence[str] | None = None, program: str = "headrace init") -> None:
    parser = make_inspection_parser(program, __doc__)
    parser.add_argument(
        "-o", "--output", metavar="FILE",
        help="YAML file to write; -: standard output [named after the first file]",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")
    args = common.parse(parser, arguments)

    from pipeline.inspection.config_text import config_text
    from pipeline.inspection.report import problem_lines

    words = sys.argv[2:] if arguments is None else list(arguments)
    inspection = inspect_arguments(args)
    text = config_text(inspection, shlex.join(["headrace", "init", *words]))
    if args.output == "-":
        print(text, end="")
        return
    path = (
        common.user_path(args.output)
        if args.output
        else _default_path(inspection.keys["input"].value)
    )
    _write(path, text, force=args.force)
    print(f"{path}: {inspection.proposal.task}, {inspection.proposal.why}")
    print(*problem_lines(inspection), "next:", sep="\n")
    print(f"  headrace train --config {shlex.quote(str(path))}")
    print(f"  torchrun --nproc_per_node=2 -m pipeline.cli train --config {shlex.quote(str(path))}")


def _default_path(inputs: object) -> Path:
    from pipeline.config.defaults import input_name

    return Path(f"{input_name(inputs)}.yaml")


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write a config. Raises ConfigError if the file exists or cannot be written."""
    if path.exists() and not force:
        raise ConfigError(
            f"--output {path}: this file exists; add --force to replace it, or name another one"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--output {path}: cannot be written: {error.strerror}; name another file"
        ) from None
