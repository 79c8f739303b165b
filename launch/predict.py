"""Predict with a run: a text, or the path of an image, a line in, a JSON object a line out, in the
same order.

python launch/predict.py --run runs/imdb [--input FILE] [key=value ...] < texts.txt
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
        "--input", type=Path, metavar="FILE", help="texts or paths of images, one a line [stdin]"
    )
    args.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="a checkpoint [the best of the run]"
    )
    args.add_argument(
        "overrides", nargs="*", metavar="key=value", help="such as stream.token_budget=4096"
    )
    given = args.parse_intermixed_args()

    from pipeline.errors import InputError
    from pipeline.inference.predictor import Predictor, lines
    from pipeline.run.folder import RunFolder

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    config = RunFolder(given.run).read_config(given.overrides)
    predictor = Predictor(given.run, config, say, given.checkpoint)
    try:
        source = given.input.open("rb") if given.input else sys.stdin.buffer
    except OSError as error:
        raise InputError(f"--input {given.input}: cannot be read: {error.strerror}") from None
    texts = (line.decode("utf-8", "replace") for line in source)
    typed = given.input is None and sys.stdin.isatty()
    for prediction in lines(texts, predictor, chunk=1 if typed else predictor.chunk):
        print(json.dumps(prediction, ensure_ascii=False), flush=typed)


if __name__ == "__main__":
    common.run(main)
