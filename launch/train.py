"""Train: `torchrun --nproc_per_node=4 launch/train.py [--config FILE] [key=value ...]`."""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # a clone works without installation

from pipeline.cli import common, train

if __name__ == "__main__":
    command = partial(train.main, program="launch/train.py")
    common.run(command, distributed=True, finalizes=False)
