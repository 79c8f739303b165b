"""Load mutated configs and prepare mutated files, and report what is not refused in plain words.

    python benchmarks/fuzz.py [--seed N] [--configs 2000] [--files 500] [--only FORM ...]
    python benchmarks/fuzz.py --only csv --first 17 --files 1    # one case again

A config must be refused with one line per mistake, or load, and its dump must load back equal.
An input must be refused in one line, or become a dataset in which

  rows read = rows kept + rows left out, by reason

and which is the same if the input is read in many small chunks. Everything else is a finding: other
exceptions, crashes, more than two minutes or 2 GiB for a file of some kilobytes. The cases run in
processes of their own; the same seed gives the same cases. The command prints a table, and each
finding with the folder of its input; it ends with status 1 if there is one.

  ok       a config that loads, a file that becomes a dataset
  refused  with a line that names the key or file and what to do
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.fuzzers import child  # noqa: E402
from benchmarks.fuzzers.checks import FINDING, OK, REFUSED  # noqa: E402

ENVIRONMENT = {
    "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0",
}  # fmt: skip
"""Settings that keep the address space small, and the cases the same."""


@dataclass
class Form:
    """The cases of a form, and their outcomes."""

    name: str
    numbers: range
    out: Path
    """Folder for the inputs of findings."""
    done: int = 0
    process: BaseProcess | None = None
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    @property
    def is_finished(self) -> bool:
        return self.done == len(self.numbers)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all cases [0]")
    parser.add_argument("--configs", type=int, default=2000, help="mutated configs [2000]")
    parser.add_argument("--files", type=int, default=500, help="mutated files of each form [500]")
    parser.add_argument("--first", type=int, default=0, help="number of the first case [0]")
    parser.add_argument("--only", nargs="+", metavar="FORM", choices=child.NAMES,
                        help=f"only these forms: {', '.join(child.NAMES)}")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)),
                        help="forms that run at the same time [one per core]")  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder for the inputs of findings [a new one]")
    parser.add_argument("--errors", action="store_true", help="print the lines of refused cases")
    args = parser.parse_args()
    out = args.out or Path(tempfile.mkdtemp(prefix="headrace-fuzz-"))
    if out.resolve().is_relative_to(REPOSITORY.resolve()):
        parser.error(f"--out {out}: is in the repository; give another folder")

    if not ENVIRONMENT.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ENVIRONMENT)
    forms = []
    for name in args.only or child.NAMES:
        count = args.configs if name == child.CONFIG else args.files
        forms.append(Form(name, range(args.first, args.first + count), out.resolve() / name))
    print("| form | cases | ok | refused | findings | seconds |\n|---|---|---|---|---|---|")
    for form, seconds in run(forms, args.seed, args.jobs):
        counts = form.counts
        print(f"| {form.name} | {counts.total():,} | {counts[OK]:,} | {counts[REFUSED]:,} | "
              f"{counts[FINDING]:,} | {seconds:.0f} |", flush=True)  # fmt: skip
    for form in forms if args.errors else ():
        for line, count in form.reasons.most_common():
            print(f"{form.name}: {count} x {line}")
    findings = [line for form in forms for line in form.findings]
    print("\n".join(["", *findings, f"{len(findings)} finding(s), seed {args.seed}"]))
    if not any(out.iterdir()):
        out.rmdir()
    sys.exit(bool(findings))


def run(forms: Sequence[Form], seed: int, jobs: int) -> Iterator[tuple[Form, float]]:
    """Run the cases of several forms at the same time; yield each that is finished, with the
    seconds that it took."""
    waiting = [*forms]
    running: dict[str, tuple[Form, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            form = waiting.pop(0)
            running[form.name] = (form, time.monotonic())
        for form, begin in list(running.values()):
            if form.process is None:
                _start(form, seed)
            elif not form.process.is_alive():
                _collect(form, seed)
                if form.is_finished:
                    del running[form.name]
                    yield form, time.monotonic() - begin
        time.sleep(0.05)


def _start(form: Form, seed: int) -> None:
    """Start a process for the cases that are left."""
    shutil.rmtree(form.out / "case", ignore_errors=True)
    form.out.mkdir(parents=True, exist_ok=True)
    arguments = (form.name, seed, form.numbers[form.done :], form.out)
    form.process = multiprocessing.get_context("fork").Process(target=child.main, args=arguments)
    form.process.start()


def _collect(form: Form, seed: int) -> None:
    """Count the outcomes of a process that has ended; the case in which it died is a finding."""
    assert form.process is not None
    form.process.join()
    outcomes, errors = form.out / child.OUTCOMES, form.out / child.ERRORS
    for line in outcomes.read_text().splitlines() if outcomes.exists() else ():
        _count(form, json.loads(line), seed)
    if not form.is_finished:
        if not (form.out / "case").exists():
            sys.exit(errors.read_text())  # the process has not begun
        number = form.numbers[form.done]
        shutil.move(form.out / "case", form.out / str(number))
        kind = f"crashes with status {form.process.exitcode}"
        text = errors.read_text(errors="replace")
        if "Timeout" in text:
            kind = f"takes more than {child.SECONDS} s"
        own = [line.strip() for line in text.splitlines() if "/pipeline/" in line]
        detail = f"{kind}: {own[0] if own else text[-300:]!r}"
        outcome: dict[str, Any] = {"number": number, "status": FINDING, "detail": detail}
        _count(form, outcome, seed)
    form.process = None
    for path in (outcomes, errors):
        path.unlink(missing_ok=True)
    shutil.rmtree(form.out / "case", ignore_errors=True)
    if form.is_finished and not any(form.out.iterdir()):
        form.out.rmdir()


def _count(form: Form, outcome: dict[str, Any], seed: int) -> None:
    status, detail, number = outcome["status"], outcome["detail"], outcome["number"]
    form.done += 1
    form.counts[status] += 1
    if status == REFUSED:
        form.reasons[detail] += 1
    elif status == FINDING:
        place = form.out / str(number)
        line = f"{form.name}, --seed {seed} --first {number}: {detail}"
        (place / "finding.txt").write_text(f"{line}\n")
        form.findings.append(f"{line} ({place})")


if __name__ == "__main__":
    main()
