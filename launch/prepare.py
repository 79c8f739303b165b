"""Make the dataset of a config: `python launch/prepare.py [--config FILE] [key=value ...]`."""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # a clone works without installation

from pipeline.cli import common, prepare

if __name__ == "__main__":
    common.run(partial(prepare.main, program="launch/prepare.py"))
