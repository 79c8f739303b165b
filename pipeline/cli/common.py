"""Shared by all commands: `--config`, overrides, `--help` with all keys, logging, exit statuses."""

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from pipeline.errors import ConfigError, HeadraceError
from pipeline.runtime.launcher import RankInfo, exit_with_launcher, is_torchrun
from pipeline.runtime.streams import protect_streams

ERROR_DELAY = 15
"""Seconds that the other ranks of a node wait before they exit after an error.

torchrun ends all ranks once one has exited, and could end the first rank before it has printed.
"""


class Parser(argparse.ArgumentParser):
    """A parser that raises ConfigError, so that its errors are printed like all others, once."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help shows the usage")


def user_path(text: str) -> Path:
    """Return an argument as a path, with `~` expanded, which a shell does not do in `--run=~/a`."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  Path refuses unknown users


def model_folder(text: str) -> Path:
    """Return the folder of a model, downloading it if the argument is a URI. Raises RunError."""
    from pipeline.inference.sources import local_folder

    return local_folder(os.path.expanduser(text))  # noqa: PTH111  see user_path


def input_files(text: str) -> str:
    """Return an argument, which is a file or one file per column, with home folders expanded.

    >>> input_files("a.csv")
    'a.csv'
    """
    from pipeline.settings import expand_home

    parts = [part.partition("=") for part in text.split(",")]
    return ",".join(f"{expand_home(name)}{sign}{expand_home(file)}" for name, sign, file in parts)


def make_parser(program: str, description: str | None) -> Parser:
    """Return a parser with the options that all commands have."""
    parser = Parser(
        prog=program,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    level = parser.add_mutually_exclusive_group()
    level.add_argument(
        "-q", "--quiet", action="store_const", dest="verbosity", const=-1, default=0,
        help="show warnings and errors only",
    )  # fmt: skip
    level.add_argument(
        "-v", "--verbose", action="store_const", dest="verbosity", const=1,
        help="show debugging messages too",
    )  # fmt: skip
    return parser


def make_config_parser(program: str, description: str | None) -> Parser:
    """Return a parser for `[--config FILE] [key=value ...]` whose help lists every key."""
    from pipeline.config import DEFAULT

    parser = make_parser(program, description)
    parser.add_argument(
        "--help-all", action="store_true", help="show the keys of all components, too, and exit"
    )
    parser.set_defaults(show_keys=True)
    parser.add_argument(
        "--config",
        type=user_path,
        metavar="FILE",
        help=f"YAML file, or the name of a bundled config [{DEFAULT.stem}, or the task's "
        "defaults if corpus.input is set]",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as train.lr=1e-3")
    return parser


def make_run_parser(program: str, description: str | None, *, example_override: str) -> Parser:
    """Return a parser for commands that use a trained run.

    The help text shows `example_override`; it is not applied.
    """
    parser = make_parser(program, description)
    parser.add_argument(
        *("--run", "--run-dir"),
        type=model_folder,
        required=True,
        metavar="RUN_DIR",
        help="folder of the run or of an exported model, or a URI such as models:/reviews@champion "
        "or hf://me/reviews (use --run-dir with torchrun: in Python 3.11, torchrun reads --run as "
        "one of its own options)",
    )
    parser.add_argument(
        "--checkpoint",
        type=user_path,
        metavar="DIR",
        help="folder of a checkpoint [the run's best]",
    )
    parser.add_argument(
        "--trust-code",
        action="store_true",
        help="run the code of components in the run's folder, even if someone else wrote it",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help=f"such as {example_override}"
    )
    return parser


def parse(
    parser: Parser, arguments: Sequence[str] | None, rank: int | None = None
) -> argparse.Namespace:
    """Parse a command line (sys.argv if None) and configure logging.

    `rank` is None in a process without other ranks.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if parser.get_default("show_keys") and {"-h", "--help", "--help-all"} & set(given):
        _print_help_with_keys(parser, given)
    parsed = parser.parse_intermixed_args(given)
    from pipeline.runtime.logs import configure_logging

    configure_logging(parsed.verbosity, rank)
    return parsed


def started_rank() -> int | None:
    """Return the rank of this process, and end the process when its launcher ends; None for a
    process without other ranks."""
    ranks = RankInfo.from_environment()
    exit_with_launcher()  # before torch is loaded
    return ranks.rank if ranks.size > 1 else None


def _print_help_with_keys(parser: Parser, arguments: Sequence[str]) -> NoReturn:
    """Print the help with the keys of the config that the arguments choose, and exit."""
    from pipeline.config import help_text

    asked = {"-h", "--help", "--help-all"}
    parsed = parser.parse_intermixed_args([a for a in arguments if a not in asked])
    keys = help_text(parsed.config, parsed.overrides, all_components="--help-all" in arguments)
    parser.epilog = f"keys, with their defaults:\n{keys}"
    parser.print_help()
    raise SystemExit(0)


def run(main: Callable[[], None], *, distributed: bool = False, finalizes: bool = True) -> NoReturn:
    """Run a command and end the process with its exit status.

    The lines of a HeadraceError are printed, and the status is the error's.

    `distributed` is for a command that torchrun can start on several ranks. Only the first rank of
    each node then prints the lines, unless the error may have occurred on another rank only, or
    torchrun did not start the process (its variables may be left in the environment). A process
    that had a process group exits without the interpreter's finalization (`finalizes=False`), in
    which threads of the group can abort it.
    """
    protect_streams()
    status = exit_status(main, distributed=distributed)
    if not finalizes:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def exit_status(main: Callable[[], None], *, distributed: bool = False) -> int:
    """Run a command, print its errors and return its exit status."""
    try:
        main()
    except HeadraceError as error:
        ranks = RankInfo.from_environment() if distributed else RankInfo()
        prefix = f"error: rank {ranks.rank}: " if ranks.rank else "error: "
        if ranks.local_rank == 0 or error.local or not is_torchrun():
            print(*(prefix + line for line in error.lines), sep="\n", file=sys.stderr)
        else:
            time.sleep(ERROR_DELAY)
        return error.exit_status
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception:
        traceback.print_exc()
        return 1
    return 0
