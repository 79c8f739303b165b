"""Write report.html, a page about a run: curves, confusions, mistakes, samples, dataset, config.

    headrace report --run runs/imdb

Training also writes the page, after evaluations and when it ends. This command writes it again from
the files in the run folder, for example after an upgrade of Headrace. The page is a single file
that loads nothing from the network, so it can be sent to others. It contains texts from the
dataset.
"""

from collections.abc import Sequence

from pipeline.cli import common


def main(arguments: Sequence[str] | None = None, program: str = "headrace report") -> None:
    parser = common.make_parser(program, __doc__)
    parser.add_argument(
        "--run", type=common.user_path, required=True, metavar="RUN_DIR", help="folder of the run"
    )
    args = common.parse(parser, arguments)

    from pipeline.errors import RunError
    from pipeline.report import page
    from pipeline.run.folder import RunFolder

    if not RunFolder(args.run).config.is_file():
        raise RunError(f"--run={args.run}: is not a run folder; give one that has a config.yaml")
    try:
        path = page.write(args.run)
    except OSError as error:
        raise RunError(
            f"--run={args.run}: report.html cannot be written ({error.strerror}); free disk space, "
            f"or make the folder writable"
        ) from None
    print(path)
