"""Prepare the dataset of a config: raw files -> examples -> tokens -> shards.

Training does this itself if the dataset does not exist. If preparation is stopped, the same command
resumes it.
"""

from collections.abc import Sequence

from pipeline.cli import common


def main(arguments: Sequence[str] | None = None, program: str = "headrace prepare") -> None:
    args = common.parse(common.make_config_parser(program, __doc__), arguments)

    from pipeline import config, tasks
    from pipeline.corpus.prepare.prepare import prepare_with_summary

    settings = config.load(args.config, args.overrides)
    fields = tasks.fields(settings.task.name, settings.corpus)
    _, summary = prepare_with_summary(settings.corpus, fields)
    print("\n".join([*summary, f"{settings.corpus.shards} is prepared"]))
