"""Evaluate a run: `python launch/evaluate.py --run RUN_DIR --input FILE [key=value ...]`."""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # a clone works without installation

from pipeline.cli import common, evaluate

if __name__ == "__main__":
    common.run(partial(evaluate.main, program="launch/evaluate.py"))
