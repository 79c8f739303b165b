"""Evaluate a run on raw labeled data, on all rows, including duplicates.

    headrace evaluate --run runs/imdb --input reviews.csv [corpus.text=review ...]

A file is read as in preparing: by the reader that its name or corpus.format chooses. The columns
are those in the run's config unless an override names others. A row whose label the run does not
know counts as wrong. The last line of the output is a JSON object with the number of examples, the
metrics, and the numbers of unknown labels and skipped rows.
"""

import json
import logging
import math
from collections.abc import Sequence

from pipeline.cli import common

logger = logging.getLogger(__name__)


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
        "as image=FILE,label=FILE; or - for stdin, in the format of the run's own input unless "
        "corpus.format names another. May be repeated",
    )
    parser.add_argument(
        "--unknown-labels",
        choices=("wrong", "refuse"),
        default="wrong",
        help="how to handle a label that the run does not know; wrong: its row counts as wrong; "
        "refuse: stop [wrong]",
    )
    args = common.parse(parser, arguments)

    from pipeline.config import load_run_config
    from pipeline.inference.predictor import Predictor

    path = args.run / "config.yaml"
    config = load_run_config(path, args.overrides, trust_code=args.trust_code)
    predictor = Predictor(args.run, config, args.checkpoint)
    metrics, skips = predictor.evaluate(args.input, refuse_unknown=args.unknown_labels == "refuse")
    for line in skips.describe():
        logger.info(line)
    result = {**metrics, "skipped": skips.total()}
    print(json.dumps({name: _json_value(value) for name, value in result.items()}))


def _json_value(value: object) -> object:
    """Return a value as JSON has it: null for a number that is not defined."""
    return None if isinstance(value, float) and math.isnan(value) else value
