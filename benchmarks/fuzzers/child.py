"""Runs cases in a process of its own, so that a crash, a hang or a lack of memory is noticed."""

import faulthandler
import json
import logging
import os
import resource
import shutil
import warnings
from dataclasses import asdict
from pathlib import Path
from random import Random

from benchmarks.fuzzers import configs, files
from benchmarks.fuzzers.checks import FINDING, Outcome, unexpected

CONFIG = "config"
NAMES = (CONFIG, *files.NAMES)
MEMORY = 2 << 30
"""Bytes of address space that the cases may use in addition to the imported modules."""
SECONDS = 120
"""Time limit of a case."""
OUTCOMES, ERRORS = "outcomes.jsonl", "errors.txt"
"""Files of a process: the outcome of each case, and its stderr."""


def run_case(name: str, seed: int, number: int, folder: Path) -> Outcome:
    """Run a case in an empty folder; the same arguments give the same case."""
    rng = Random(f"{seed} {name} {number}")
    try:
        return configs.run(rng, folder) if name == CONFIG else files.run(name, rng, folder)
    except Exception as error:
        return unexpected(error)


def main(name: str, seed: int, numbers: range, folder: Path) -> None:
    """Run cases in FOLDER/case and append the outcome of each to a file.

    The folder of a finding is left as FOLDER/NUMBER. At the time limit, the process prints a
    traceback and ends.
    """
    errors = (folder / ERRORS).open("w")
    os.dup2(errors.fileno(), 2)
    logging.disable()
    warnings.simplefilter("ignore")
    faulthandler.enable(errors)
    _limit_memory()
    case = folder / "case"
    for number in numbers:
        shutil.rmtree(case, ignore_errors=True)
        case.mkdir(parents=True)
        os.chdir(case)
        faulthandler.dump_traceback_later(SECONDS, exit=True, file=errors)
        outcome = run_case(name, seed, number, case)
        faulthandler.cancel_dump_traceback_later()
        if outcome.status == FINDING:
            case.rename(folder / str(number))
        with (folder / OUTCOMES).open("a") as file:
            file.write(json.dumps({"number": number, **asdict(outcome)}) + "\n")
    os.chdir(folder)


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
