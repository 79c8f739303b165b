"""Predict with a run: one text or image path per line in, one JSON object per line out, in order.

headrace predict --run runs/imdb [--input FILE] [key=value ...] < texts.txt
"""

import json
import sys
from collections.abc import Sequence

from pipeline.cli import common


def main(arguments: Sequence[str] | None = None, program: str = "headrace predict") -> None:
    parser = common.make_run_parser(program, __doc__, example_override="stream.token_budget=4096")
    parser.add_argument(
        "--input",
        type=common.user_path,
        metavar="FILE",
        help="texts or image paths, one per line [stdin]",
    )
    args = common.parse(parser, arguments)

    from pipeline.config import load_run_config
    from pipeline.errors import InputError
    from pipeline.inference.predictor import Predictor, predict_lines

    path = args.run / "config.yaml"
    config = load_run_config(path, args.overrides, trust_code=args.trust_code)
    predictor = Predictor(args.run, config, args.checkpoint)
    try:
        source = args.input.open("rb") if args.input else sys.stdin.buffer
    except OSError as error:
        raise InputError(f"--input {args.input}: cannot be read: {error.strerror}") from None
    lines = (line.decode("utf-8", "replace") for line in source)
    interactive = args.input is None and sys.stdin.isatty()
    chunk_rows = 1 if interactive else predictor.chunk_rows
    for prediction in predict_lines(lines, predictor, chunk_rows):
        print(json.dumps(prediction, ensure_ascii=False), flush=interactive)
