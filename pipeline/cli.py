"""What the entry points share: `--config`, overrides, `--help` with every key, exit statuses."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pipeline.errors import ConfigError, HeadraceError


class Parser(argparse.ArgumentParser):
    """A parser whose errors are printed as others are, by one rank."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help shows how it is used")


def parser(description: str) -> Parser:
    return Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def config_parser(description: str) -> Parser:
    """A parser for `[--config FILE] [key=value ...]` whose help lists every key."""
    from pipeline.config import DEFAULT, help_text

    args = parser(description)
    args.epilog = f"keys, with their defaults:\n{help_text()}"
    args.add_argument("--config", type=Path, metavar="FILE", help=f"YAML file [{DEFAULT.name}]")
    args.add_argument("overrides", nargs="*", metavar="key=value", help="such as train.lr=1e-3")
    return args


def run(main: Callable[[], None]) -> None:
    """Run an entry point. A user's mistake prints its lines, on rank 0 alone, and exits with 2."""
    try:
        main()
    except HeadraceError as error:
        rank = os.environ.get("RANK", "0")
        if rank == "0" or error.local:
            for line in error.lines:
                print(
                    f"error: {line}" if rank == "0" else f"error: rank {rank}: {line}",
                    file=sys.stderr,
                )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
