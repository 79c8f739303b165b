"""Evaluate a run on raw labeled data, on all rows, including duplicates.

    headrace evaluate --run runs/imdb --input reviews.csv [corpus.text=review ...]

The columns are those in the run's config unless an override names others. The last line of the
output is a JSON object with the number of examples and the metrics.
"""

import json
import logging
from collections.abc import Sequence

from pipeline.cli import common

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None, program: str = "headrace evaluate") -> None:
    parser = common.make_run_parser(program, __doc__, example_override="corpus.text=review")
    parser.add_argument(
        "--input",
        required=True,
        type=common.input_files,
        metavar="FILE",
        help="CSV, TSV, JSONL, CoNLL, CoNLL-U, WebDataset tar (each also .gz) or Parquet; a folder "
        "of images; or parallel files, as image=FILE,label=FILE",
    )
    args = common.parse(parser, arguments)

    from pipeline.config import load_run_config
    from pipeline.inference.predictor import Predictor, describe_skips

    path = args.run / "config.yaml"
    config = load_run_config(path, args.overrides, trust_code=args.trust_code)
    predictor = Predictor(args.run, config, args.checkpoint)
    metrics, skips = predictor.evaluate(args.input)
    for line in describe_skips(skips):
        logger.info(line)
    print(json.dumps({**metrics, "skipped": sum(skips.values())}))
