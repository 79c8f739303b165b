"""What the entry points share: `--config`, overrides, `--help` with every key, exit statuses."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import HeadraceError


def parser(description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def config_parser(description: str) -> argparse.ArgumentParser:
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
        if os.environ.get("RANK", "0") == "0":
            for line in error.lines:
                print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
