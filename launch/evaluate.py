"""Evaluate a run on raw labeled data: every row counts, duplicates too.

    python launch/evaluate.py --run runs/imdb --input reviews.csv [corpus.text=review ...]

The columns are those of the run's config unless an override names others. The last line printed
is one JSON object with the count and the metrics.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # a clone works without installation

from pipeline.cli import common


def main() -> None:
    args = common.parser(__doc__)
    args.add_argument(
        "--run", type=Path, required=True, metavar="RUN_DIR", help="folder of the run"
    )
    args.add_argument(
        "--input",
        required=True,
        metavar="FILE",
        help="CSV, TSV, JSONL, CoNLL, CoNLL-U, WebDataset tar (each also .gz) or Parquet; a folder "
        "of images; or files that lie side by side, as image=FILE,label=FILE",
    )
    args.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="a checkpoint [the best of the run]"
    )
    args.add_argument(
        "overrides", nargs="*", metavar="key=value", help="such as corpus.text=review"
    )
    given = args.parse_intermixed_args()

    from pipeline.inference.predictor import Predictor, describe_skips
    from pipeline.run.folder import RunFolder

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    config = RunFolder(given.run).read_config(given.overrides)
    predictor = Predictor(given.run, config, say, given.checkpoint)
    metrics, skips = predictor.evaluate(given.input)
    for line in describe_skips(skips):
        say(line)
    print(json.dumps({**metrics, "skipped": sum(skips.values())}))


if __name__ == "__main__":
    common.run(main)
