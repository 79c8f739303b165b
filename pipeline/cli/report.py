"""Write report.html, a page about a run: curves, confusions, mistakes, samples, dataset, config.

    headrace report --run runs/imdb

Training writes the page too, after evaluations and at its end. This command writes it again from
the files of the run folder, such as for a run of an earlier version. The page is one file, loads
nothing from the network and can be sent to others. It holds texts of the dataset.
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
        raise RunError(f"--run={args.run}: is not the folder of a run; give one with a config.yaml")
    try:
        path = page.write(args.run)
    except OSError as error:
        raise RunError(
            f"--run={args.run}: report.html cannot be written there ({error.strerror}); free space "
            f"or make the folder writable"
        ) from None
    print(path)
