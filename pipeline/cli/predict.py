"""Predict with a run: one row, text or image path in, one JSON object per line out, in order.

    headrace predict --run runs/imdb < texts.txt
    headrace predict --run runs/imdb --input reviews.csv [corpus.text=review ...]

A file is read in the same way as by `prepare`. Only the input columns are needed; they are those in
the run's config unless overrides set other columns. A text file (.txt, or a name without a known
suffix) and stdin have one text or image path per line. For an input that cannot be used, the output
is {"error": ...}.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from pipeline.cli import common
from pipeline.errors import ConfigError
from pipeline.runtime.garbage import paused_collection
from pipeline.runtime.streams import has_all_characters


def main(arguments: Sequence[str] | None = None, program: str = "headrace predict") -> None:
    parser = common.make_run_parser(program, __doc__, example_override="stream.token_budget=4096")
    parser.add_argument(
        "--input",
        action="append",
        type=common.input_files,
        metavar="FILE",
        help="a table of any format of corpus.input, such as CSV, TSV, JSONL, Parquet, CoNLL, "
        "fastText or a WebDataset tar; a text file with a text or image path per line; a glob of "
        "files; a folder of images; parallel files, as source=FILE; or - for stdin, which is read "
        "as a table if corpus.format is given too. May be repeated [stdin]",
    )
    parser.add_argument(
        "--top-k",
        type=_positive,
        default=0,
        metavar="K",
        help="number of labels in `scores`, the most probable ones, in descending order [all; the "
        "50 most probable if there are more]",
    )
    args = common.parse(parser, arguments)

    with paused_collection():
        from pipeline.inference.predictor import Predictor
        from pipeline.inference.trained import load_trained

        model = load_trained(
            args.run, args.overrides, weights=args.checkpoint, trust_code=args.trust_code
        )
    if args.top_k and not model.task.has_scores:
        raise ConfigError(
            f"--top-k={args.top_k}: predictions of task.name={model.config.task.name} have no "
            f"scores of labels; remove the option"
        )
    model.task.top_k = args.top_k
    given = args.input or ["-"]
    interactive = given == ["-"] and sys.stdin.isatty()
    is_table = model.config.corpus.format not in ("", "text")
    predictions = Predictor(model).predict_files(
        given,
        stream_of_rows=is_table and _names_format(args.overrides),
        rows_per_chunk=1 if interactive else 0,
    )
    escapes = not has_all_characters(sys.stdout)
    for prediction in predictions:
        print(json.dumps(prediction, ensure_ascii=escapes), flush=interactive)


def _positive(text: str) -> int:
    """Return an argument as a number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: is not at least 1; give the number of labels")
    return value


def _names_format(overrides: Sequence[str]) -> bool:
    """Return whether the command line sets `corpus.format`; the run's value is for its own data."""
    return any(override.startswith("corpus.format=") for override in overrides)
