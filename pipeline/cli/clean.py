"""List the files of a run that only training needs, and delete them.

    headrace clean --run runs/imdb          lists them with their sizes
    headrace clean --run runs/imdb --yes    deletes them

The best checkpoint keeps its weights, so the results of `predict`, `evaluate`, `export` and
`report` stay the same. The run can no longer be resumed or extended.
"""

import logging
from collections.abc import Sequence

from pipeline.cli import common

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None, program: str = "headrace clean") -> None:
    parser = common.make_parser(program, __doc__)
    parser.add_argument(
        "--run", type=common.user_path, required=True, metavar="RUN_DIR", help="folder of the run"
    )
    parser.add_argument("--yes", action="store_true", help="delete the files")
    args = common.parse(parser, arguments)

    from pipeline.errors import RunError
    from pipeline.run.cleaning import deletable, delete, size_of
    from pipeline.run.folder import RunFolder

    folder = RunFolder(args.run)
    if not folder.config.is_file():
        raise RunError(f"--run={args.run}: is not the folder of a run; give one with a config.yaml")
    size = size_of(args.run)
    found = delete(folder) if args.yes else deletable(folder)
    for item in found:
        print(f"{_megabytes(item.bytes)}  {item.path.relative_to(args.run)}: {item.reason}")
    total = f"{_megabytes(sum(item.bytes for item in found))}  of {_megabytes(size).strip()}"
    if args.yes:
        print(f"{total} deleted")
    elif found:
        print(f"{total} can be deleted; then the run cannot be resumed; --yes deletes the files")
        if not folder.summary.is_file():
            logger.warning("%s: training has not finished", args.run)
    else:
        print(f"{total} can be deleted")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:8,.1f} MB"
