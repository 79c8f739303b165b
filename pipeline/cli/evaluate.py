"""Evaluate a run on raw labeled data, on all rows, including duplicates.

    headrace evaluate --run runs/imdb --input reviews.csv [corpus.text=review ...]

A file is read in the same way as by `prepare`. The columns are those in the run's config unless
overrides set other columns. A row whose label is unknown to the run counts as wrong. The last line
of the output is a JSON object with the number of examples, the metrics, and the numbers of unknown
labels and skipped rows. `--by source` adds the metrics for each value of the column `source`.
"""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence

from pipeline.cli import common
from pipeline.runtime.garbage import paused_collection
from pipeline.wording import shorten

logger = logging.getLogger(__name__)

MAX_VALUES = 50
"""Maximum number of rows in a table; the most frequent values are shown."""
MAX_CHARACTERS = 30
"""Maximum length of a value in a table, in characters."""


def main(arguments: Sequence[str] | None = None, program: str = "headrace evaluate") -> None:
    parser = common.make_run_parser(program, __doc__, example_override="corpus.text=review")
    parser.add_argument(
        "--input",
        required=True,
        action="append",
        type=common.input_files,
        metavar="FILE",
        help="a file of any format of corpus.input, such as CSV, TSV, JSONL, Parquet, CoNLL, "
        "fastText or a WebDataset tar; a glob of such files; a folder of images; parallel files, "
        "as image=FILE,label=FILE; or - for stdin, in the format that the run was prepared from "
        "unless corpus.format sets another. May be repeated",
    )
    parser.add_argument(
        "--unknown-labels",
        choices=("wrong", "refuse"),
        default="wrong",
        help="how to handle a label that is unknown to the run; wrong: its row counts as wrong; "
        "refuse: stop [wrong]",
    )
    parser.add_argument(
        "--by",
        default="",
        metavar="COLUMN",
        help="also print a table of the metrics for each value of a column",
    )
    args = common.parse(parser, arguments)

    with paused_collection():
        from pipeline.inference.evaluator import evaluate_files
        from pipeline.inference.trained import load_trained

        model = load_trained(
            args.run, args.overrides, weights=args.checkpoint, trust_code=args.trust_code
        )
    refuse = args.unknown_labels == "refuse"
    metrics, skips = evaluate_files(model, args.input, refuse_unknown=refuse, by=args.by)
    for line in skips.describe():
        logger.info(line)
    if args.by:
        print("\n".join(_table(args.by, metrics["by"])))
    print(json.dumps(_json_value({**metrics, "skipped": skips.total()})))


def _table(column: str, by_value: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yield the lines of a table with the metrics for each value of a column."""
    rows = [
        [_shown(value), *(_format(metric) for metric in metrics.values())]
        for value, metrics in list(by_value.items())[:MAX_VALUES]
    ]
    table = [[_shown(column), *next(iter(by_value.values()))], *rows]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    for first, *others in table:
        aligned = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join([first.ljust(widths[0]), *aligned])
    if (more := len(by_value) - MAX_VALUES) > 0:
        yield f"and {more:,} more values, which are in the JSON object"


def _format(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _shown(text: str) -> str:
    return shorten(" ".join(text.split()) or "(empty)", MAX_CHARACTERS)


def _json_value(value: object) -> object:
    """Return a value that JSON can represent; an undefined metric becomes None."""
    if isinstance(value, dict):
        return {name: _json_value(item) for name, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
