"""Predict with a run: `python launch/predict.py --run RUN_DIR [key=value ...] < texts.txt`.

With --output, torchrun can start several processes.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # a clone works without installation

from pipeline.cli import common, predict

if __name__ == "__main__":
    common.run(partial(predict.main, program="launch/predict.py"), distributed=True)
