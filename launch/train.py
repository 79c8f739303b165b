"""Train, or go on training.

    torchrun --nproc_per_node=4 launch/train.py [--config FILE] [key=value ...]

On GPUs if there are any, else on CPU cores. `python launch/train.py` does it in one process. The
same command again goes on where a run was stopped.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # a clone works without installation

from pipeline.cli import common


def main() -> None:
    args = common.config_parser(__doc__).parse_intermixed_args()

    from pipeline import config
    from pipeline.runtime.launcher import end_with_launcher

    end_with_launcher()
    from pipeline.train.session import train

    train(config.load(args.config, args.overrides))


if __name__ == "__main__":
    common.run(main, at_once=True)
