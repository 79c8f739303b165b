"""Make the dataset of a config: raw files -> examples -> tokens -> shards.

Training does it by itself if the dataset does not exist. The same command resumes a stopped one.
"""

from collections.abc import Sequence

from pipeline.cli import common


def main(arguments: Sequence[str] | None = None, program: str = "headrace prepare") -> None:
    args = common.parse(common.make_config_parser(program, __doc__), arguments)

    from pipeline import config, tasks
    from pipeline.corpus.prepare.prepare import prepare

    settings = config.load(args.config, args.overrides)
    prepare(settings.corpus, tasks.get(settings.task.name).fields(settings.corpus))
