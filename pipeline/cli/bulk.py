"""`predict --output`: the options, and the command in each process."""

import argparse
from collections.abc import Sequence

from pipeline.cli import common
from pipeline.errors import ConfigError
from pipeline.runtime.launcher import RankInfo, check_environment

FORMATS = ("parquet", "jsonl")


def add_output_options(parser: common.Parser) -> None:
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder, or URL such as s3://bucket/labels, for files with the predictions "
        "[stdout, one JSON object per line]",
    )
    parser.add_argument(
        "--output-format",
        choices=FORMATS,
        help="with --output: format of the files [parquet]",
    )
    parser.add_argument(
        "--keep",
        metavar="COLUMN[,COLUMN...]",
        help="with --output: input columns to copy to the output [none]",
    )
    parser.add_argument(
        "--rows-per-part",
        type=int,
        metavar="N",
        help="with --output: rows per file; they are sorted by length and batched [4096; 256 for "
        "images]",
    )


def check_no_output_options(args: argparse.Namespace) -> None:
    """Raise ConfigError for an option that applies only with --output, or for several ranks."""
    for name in ("output_format", "keep", "rows_per_part"):
        if getattr(args, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(
                f"{option}={getattr(args, name)}: applies only with --output; add it, or leave out "
                f"{option}"
            )
    if RankInfo.from_environment().size > 1:
        raise ConfigError(
            "--output: is missing, and several processes cannot print to one stream; add it, or "
            "start one process"
        )


def predict_to_output(args: argparse.Namespace, given: Sequence[str]) -> None:
    """Run `predict` with --output, in each of the processes that torchrun has started."""
    if args.rows_per_part is not None and args.rows_per_part < 1:
        raise ConfigError(f"--rows-per-part={args.rows_per_part}: is not at least 1; raise it")
    check_environment()

    from pipeline.inference.bulk.worker import BulkOptions, predict_to
    from pipeline.inference.predictor import use_top_k
    from pipeline.inference.trained import load_trained
    from pipeline.runtime.device import choose_device
    from pipeline.settings import expand_home

    ranks = RankInfo.from_environment()
    model = load_trained(
        args.run,
        args.overrides,
        weights=args.checkpoint,
        trust_code=args.trust_code,
        device=choose_device(ranks),
    )
    use_top_k(model, args.top_k)
    overrides = [*args.overrides, *([f"--top-k={args.top_k}"] if args.top_k else [])]
    options = BulkOptions(
        expand_home(args.output),
        args.output_format or FORMATS[0],
        tuple(args.keep.split(",")) if args.keep is not None else (),
        args.rows_per_part or 0,
    )
    predict_to(model, given, options, overrides, ranks)
