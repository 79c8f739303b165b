"""Describe data files, and suggest a task and a config for them.

    headrace inspect tickets.csv
    headrace inspect a.en a.de
    headrace inspect tickets.csv --text note --label category

Nothing is trained or written. Of a large file, only a sample of the rows is read. A path is
relative to the current folder or, if it does not exist there, to data/. If the format is not
detected correctly, set keys such as corpus.delimiter=';'.
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
