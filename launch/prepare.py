"""Make the dataset of a config: raw files -> examples -> tokens -> shards.

    python launch/prepare.py [--config FILE] [key=value ...]

Training does it by itself where it is missing. The same command again goes on where it was stopped.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # a clone works without installation

from pipeline.cli import common


def main() -> None:
    args = common.config_parser(__doc__).parse_intermixed_args()

    from pipeline import config, tasks
    from pipeline.corpus.prepare.prepare import prepare

    settings = config.load(args.config, args.overrides)
    prepare(settings.corpus, tasks.get(settings.task.name).fields(settings.corpus))


if __name__ == "__main__":
    common.run(main)
