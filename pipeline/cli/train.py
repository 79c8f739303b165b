"""Train, or resume training.

    headrace train [--config FILE] [key=value ...]                      one process
    torchrun --nproc_per_node=4 -m pipeline.cli train [key=value ...]   several

Uses GPUs if there are any, else CPU cores. Run the same command again to resume a stopped run.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.cli import common

if TYPE_CHECKING:
    from pipeline.runtime.stop_signal import StopSignal


logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None, program: str = "headrace train") -> None:
    from pipeline.runtime.launcher import exit_with_launcher
    from pipeline.runtime.stop_signal import Stopped, StopSignal

    exit_with_launcher()  # first: what follows takes seconds
    stop = StopSignal()
    try:
        with stop.handled():
            _main(arguments, program, stop)
    except Stopped as end:
        if not end.is_logged:
            logger.info(end.line)
        raise


def _main(arguments: Sequence[str] | None, program: str, stop: "StopSignal") -> None:
    from pipeline.runtime.launcher import RankInfo, check_environment

    ranks = RankInfo.from_environment()
    rank = ranks.rank if ranks.size > 1 else None
    args = common.parse(common.make_config_parser(program, __doc__), arguments, rank)

    from pipeline import config
    from pipeline.training.session import train

    settings = config.load(args.config, args.overrides)
    check_environment()
    train(settings, stop)
