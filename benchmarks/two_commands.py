"""Type `headrace init` and `headrace train` for files of each form of docs/data.md.

    python benchmarks/two_commands.py --logs logs
    python benchmarks/two_commands.py --only "a shop's CSV" Parquet

The files are made up (own_files.py). Each is written to a fresh folder, where the two commands run
as a user types them. Prints the table of docs/two_commands.md; the seconds are CPU time, on
which other programs have little influence. With --logs, what was typed and printed is kept.
"""

import argparse
import os
import re
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.own_files import FORMS  # noqa: E402

HEADER = ("form", "files", "task", "`init`, s", "`train`, s", "best validation", "baseline")
HEADRACE = Path(sys.executable).with_name("headrace")


@dataclass
class Transcript:
    """What was typed and printed in one folder."""

    folder: Path
    lines: list[str] = field(default_factory=list)
    failed: bool = False

    def type(self, *words: str) -> tuple[str, float]:
        """Run a command of `headrace`; return what it printed and its seconds of CPU time."""
        begin, cpu_before = time.monotonic(), cpu_seconds()
        done = subprocess.run(
            [str(HEADRACE), *words],
            cwd=self.folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        seconds, cpu = time.monotonic() - begin, cpu_seconds() - cpu_before
        self.lines += [f"$ {shlex.join(['headrace', *words])}", done.stdout.rstrip()]
        self.lines.append(f"({seconds:.1f} s, CPU {cpu:.1f} s, exit status {done.returncode})")
        self.failed |= done.returncode != 0
        return done.stdout, cpu

    def text(self) -> str:
        return "\n".join([*self.lines, ""])


def cpu_seconds() -> float:
    """Return the CPU time of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def last(pattern: str, printed: str) -> str:
    """Return the first group of the last match in the output, or a dash."""
    found = re.findall(pattern, printed, re.M)
    return found[-1] if found else "-"


def run(name: str, folder: Path) -> tuple[list[str], Transcript]:
    """Write the files of a form, type the two commands and return the cells of a table's row."""
    folder.mkdir(parents=True)
    files = FORMS[name](folder)
    transcript = Transcript(folder)
    printed, init = transcript.type("init", *files, "-o", "own.yaml")
    task = last(r"^own\.yaml: (\w+),", printed)
    printed, train = transcript.type("train", "--config", "own.yaml")
    best = re.sub(r" at step .*", "", last(r"^validation +.*best (.*)$", printed))
    metric = last(r"^validation +([\w ]+?) [\d.]+", printed)
    baseline = last(r"^baseline +(.*)$", printed)
    cells = [name, shlex.join(files), task, f"{init:.1f}", f"{train:.0f}", f"{metric} {best}"]
    return [*cells, "failed" if transcript.failed else baseline], transcript


def table_rows(names: Sequence[str], logs: Path | None) -> Iterator[str]:
    yield f"| {' | '.join(HEADER)} |"
    yield "|---" * len(HEADER) + "|"
    for name in names:
        with TemporaryDirectory() as folder:
            cells, transcript = run(name, Path(folder) / "own")
        if logs:
            logs.mkdir(parents=True, exist_ok=True)
            file_name = re.sub(r"\W+", "-", name).strip("-")
            (logs / f"{file_name}.txt").write_text(transcript.text())
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(FORMS), help="forms [all]")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="keep what was printed")
    args = parser.parse_args()
    for line in table_rows(args.only or list(FORMS), args.logs):
        print(line, flush=True)


if __name__ == "__main__":
    main()
