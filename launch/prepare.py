"""Make the dataset of a config: raw files -> examples -> tokens -> shards. Training does it too.

python launch/prepare.py [--config configs/NAME.yaml] [corpus.KEY=VALUE ...]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline import cli


def main() -> None:
    args = cli.config_parser(__doc__ or "").parse_args()

    from pipeline import tasks
    from pipeline.config import load
    from pipeline.corpus.prepare import prepare

    config = load(args.config, args.overrides)
    prepare(config.corpus, tasks.get(config.task.name).fields(config.corpus))


if __name__ == "__main__":
    cli.run(main)
