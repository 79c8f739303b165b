"""Train, or resume training.

    headrace train [--config FILE] [key=value ...]                      one process
    torchrun --nproc_per_node=4 -m pipeline.cli train [key=value ...]   several

Uses GPUs if there are any, else CPU cores. Run the same command again to resume a stopped run.
"""

from collections.abc import Sequence

from pipeline.cli import common


def main(arguments: Sequence[str] | None = None, program: str = "headrace train") -> None:
    from pipeline.runtime.launcher import RankInfo, check_environment, exit_with_launcher

    ranks = RankInfo.from_environment()
    rank = ranks.rank if ranks.size > 1 else None
    args = common.parse(common.make_config_parser(program, __doc__), arguments, rank)

    from pipeline import config

    exit_with_launcher()  # before torch is loaded
    from pipeline.training.session import train

    settings = config.load(args.config, args.overrides)
    check_environment()
    train(settings)
