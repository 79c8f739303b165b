"""What the entry points share: `--config`, overrides, `--help` with every key, exit statuses."""

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pipeline.errors import ConfigError, HeadraceError

FIRST_RANK_SPEAKS = 15
"""Seconds that the other ranks of a node wait with an error that its first prints: torchrun ends
them once that one has left, and would end that one unheard if another left before it."""


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


def run(main: Callable[[], None], *, at_once: bool = False) -> NoReturn:
    """Run an entry point and end the process with its status.

    A user's mistake prints its lines, on each node's first rank alone unless another rank met it
    alone, and exits with 2. `at_once` skips the interpreter's finalisation, in which the threads
    of a process group now and then abort a process that has done its work.
    """
    status = _status(main)
    if at_once:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _status(main: Callable[[], None]) -> int:
    try:
        main()
    except HeadraceError as error:
        rank = os.environ.get("RANK", "0")
        prefix = "error: " if rank == "0" else f"error: rank {rank}: "
        if os.environ.get("LOCAL_RANK", "0") == "0" or error.local:
            print(*(prefix + line for line in error.lines), sep="\n", file=sys.stderr)
        else:
            time.sleep(FIRST_RANK_SPEAKS)
        return 2
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
