"""Outcomes of a mutated config or input, and the check of errors."""

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import HeadraceError

OK, REFUSED, FINDING = "ok", "refused", "finding"
MAX_LINE = 4000
"""Characters of an error line."""
CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
REMEDY = re.compile(r"; |\b(needs|should|must)\b")


@dataclass(frozen=True)
class Outcome:
    """What a case led to, and in one line why, or how it was found."""

    status: str
    detail: str = ""


def refused(error: HeadraceError, folder: Path) -> Outcome:
    """Return the outcome of an error: a finding unless each of its lines is one, with a remedy."""
    for line in error.lines:
        if problem := line_problem(line):
            return Outcome(FINDING, f"{problem}: {line[:300]!a}")
    return Outcome(REFUSED, " | ".join(error.lines).replace(str(folder), ""))


def line_problem(line: str) -> str:
    """Return what is wrong with the line of an error, or an empty text."""
    if CONTROL.search(line):
        return "the error has a control character"
    if len(line) > MAX_LINE:
        return f"the error has {len(line):,} characters"
    start, colon, rest = line.partition(": ")
    if not start.strip() or not colon or not rest.strip():
        return "the error has no key or file and colon"
    return "" if REMEDY.search(rest) else "the error does not say what to do"


def unexpected(error: BaseException) -> Outcome:
    """Return the finding of an exception that is not for the user."""
    trace, last = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if "pipeline" in code.co_filename or not last:
            last = f"{Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}"
        trace = trace.tb_next
    return Outcome(FINDING, f"{type(error).__name__} in {last}: {str(error)[:200]!a}")
