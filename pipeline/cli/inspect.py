"""Print what files hold, the task that fits, and the config that reads them.

    headrace inspect tickets.csv
    headrace inspect a.en a.de
    headrace inspect tickets.csv --text note --label category

Nothing is trained or written. Of large files, a sample of the rows is read. Paths start from the
current folder, or else from data/. Keys such as corpus.delimiter=';' say how files are read if that
is not detected.
"""

import sys
from collections.abc import Sequence

from pipeline.cli import common
from pipeline.cli.inspection import inspect_arguments, make_inspection_parser


def main(arguments: Sequence[str] | None = None, program: str = "headrace inspect") -> None:
    parser = make_inspection_parser(program, __doc__)
    args = common.parse(parser, arguments)

    from pipeline.inspection.report import report
    from pipeline.runtime.streams import has_all_characters

    print(report(inspect_arguments(args), is_ascii=not has_all_characters(sys.stdout)))
