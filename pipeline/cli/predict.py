"""Predict with a trained run: print one JSON object per row, text or image path, in order.

    headrace predict --run runs/imdb < texts.txt
    headrace predict --run runs/imdb --input reviews.csv [corpus.text=review ...]

With --output, the predictions are written to Parquet or JSON Lines files, in parts. Run the same
command again to resume after an interruption. With torchrun, several processes share the work:

    torchrun --nproc_per_node=4 -m pipeline.cli predict --run-dir runs/imdb \\
        --input 's3://bucket/*.parquet' --output labels --keep id

A file is read in the same way as by `prepare`. Only the input columns are needed: those in the
run's config, unless overrides set other columns. A text file (.txt, or a name without a known
suffix) and stdin have one text or image path per line. The output for an input that cannot be used
is {"error": ...}.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from pipeline.cli import common
from pipeline.cli.bulk import add_output_options, check_no_output_options, predict_to_output
from pipeline.runtime.garbage import paused_collection
from pipeline.runtime.streams import has_all_characters


def main(arguments: Sequence[str] | None = None, program: str = "headrace predict") -> None:
    parser = common.make_run_parser(program, __doc__, example_override="stream.token_budget=4096")
    parser.add_argument(
        "--input",
        action="append",
        type=common.input_files,
        metavar="FILE",
        help="a table in any format of corpus.input, such as CSV, TSV, JSONL, Parquet, CoNLL, "
        "fastText or a WebDataset tar; a text file with one text or image path per line; a glob; "
        "a folder of images; parallel files, as source=FILE; an s3://, gs://, az://, hf:// or "
        "http(s):// URL; or - for stdin, which is read as a table if corpus.format is given. May "
        "be repeated [stdin]",
    )
    parser.add_argument(
        "--top-k",
        type=_positive,
        default=0,
        metavar="K",
        help="limit `scores` to the K most probable labels, in descending order [all labels; if "
        "there are more than 50, the 50 most probable]",
    )
    add_output_options(parser)
    args = common.parse(parser, arguments, common.started_rank())
    given = args.input or ["-"]
    if args.output:
        predict_to_output(args, given)
        return
    check_no_output_options(args)

    with paused_collection():
        from pipeline.inference.predictor import Predictor, use_top_k
        from pipeline.inference.trained import load_trained

        model = load_trained(
            args.run, args.overrides, weights=args.checkpoint, trust_code=args.trust_code
        )
    use_top_k(model, args.top_k)
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
    sys.stdout.flush()  # a closed pipe is then reported as in the loop


def _positive(text: str) -> int:
    """Return an argument as a number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: is not at least 1; give the number of labels")
    return value


def _names_format(overrides: Sequence[str]) -> bool:
    """Return whether the command line sets `corpus.format`; the run's value is for its own data."""
    return any(override.startswith("corpus.format=") for override in overrides)
