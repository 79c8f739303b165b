"""Runs the steps of a part one by one, each in a process of its own, and keeps each result at once.

A step is a function that takes a `Machine` and returns its measurements, or raises an exception. A
part that is called again continues with the first step that has no result.
"""

import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

PART_SECONDS = 540
"""A part starts no step that could run longer: commands on a borrowed machine may be limited to ten
minutes."""
MAX_ATTEMPTS = 2
"""Number of attempts of a step during which the part was killed; then the step has failed."""
RESULT_IS_WRITTEN = 10
"""Exit status of a step's process that wrote its result, whether the step passed or failed."""


@dataclass(frozen=True)
class Machine:
    """The device that the steps run on, and the folder of files that outlive a step."""

    device: torch.device
    folder: Path
    data: Path | None = None
    """Folder of named files that some steps read."""
    seconds: float = 0.0
    """Time limit of the current step."""
    kept_in: Path | None = None
    """File of the measurements that a step keeps before its end."""
    kept: dict[str, Any] = field(default_factory=dict)
    """These measurements."""

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    def keep(self, name: str, value: Any) -> None:
        """Keep a measurement in a file at once, in case the step fails or is killed later."""
        self.kept[name] = value
        if self.kept_in is not None:
            self.kept_in.write_text(json.dumps(self.kept))

    def choose(self, on_gpu: Any, in_rehearsal: Any) -> Any:
        """Return one value for a GPU and a smaller one for a rehearsal on a CPU."""
        return on_gpu if self.is_gpu else in_rehearsal


@dataclass(frozen=True)
class Step:
    """One measurement or check of a part."""

    name: str
    seconds: float
    """Limit of its time on a GPU."""
    run: Callable[[Machine], dict[str, Any]]
    table: str = ""
    """Table of the report that has a line for this step and a column for each measurement."""

    @property
    def help(self) -> str:
        return (self.run.__doc__ or "").strip().splitlines()[0]


@dataclass
class Result:
    """Result of a step, stored as JSON."""

    step: str
    passed: bool
    seconds: float
    measurements: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    """The exception's traceback, or why the step was ended."""
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """False if the step's run was stopped and would continue in another call."""
        return bool(self.measurements.get("finished", True))


def run_part(
    part: str,
    steps: Sequence[Step],
    out: Path,
    *,
    limit_scale: float = 1.0,
    data: Path | None = None,
) -> list[Result]:
    """Run the steps that have no result yet, as far as the part's time allows.

    Prints a line per step, and returns the results of all steps that have one. `limit_scale`
    multiplies the time limits, for slower machines. `data` is the folder of named files.
    """
    folder = out / part
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + PART_SECONDS * limit_scale
    for step in steps:
        path, attempts = folder / f"{step.name}.json", folder / f"{step.name}.attempts"
        limit = step.seconds * limit_scale
        if path.exists() and read(path).finished:
            print(f"done   {step.name}" if read(path).passed else f"failed {step.name} earlier")
        elif time.monotonic() + limit > end:
            print(f"left   {step.name}: up to {limit:.0f} s; call the part again")
        elif _count_attempt(attempts) > MAX_ATTEMPTS:
            error = f"the part was killed {MAX_ATTEMPTS} times during this step"
            write(path, Result(step.name, False, 0.0, error=error))
            attempts.unlink()
            print(_line(read(path)), flush=True)
        else:
            if failure := run_in_process(part, step.name, out, limit, data):
                kept = folder / f"{step.name}.kept"
                failure.measurements = json.loads(kept.read_text()) if kept.exists() else {}
                write(path, failure)
            attempts.unlink()
            print(_line(read(path)), flush=True)
    return [read(path) for step in steps if (path := folder / f"{step.name}.json").exists()]


def run_in_process(
    part: str, step: str, out: Path, limit: float, data: Path | None = None
) -> Result | None:
    """Run a step in a new process group, which is killed after `limit` seconds.

    The step writes its result. Returns a failure if the step could not.
    """
    script = Path(__file__).parents[1] / "gpu.py"
    command = [sys.executable, str(script), part, "--out", str(out), "--step", step]
    command += [f"--seconds={limit}", *([f"--data={data}"] if data else [])]
    begin = time.monotonic()
    log = out / part / f"{step}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(limit)
            if process.returncode == RESULT_IS_WRITTEN:
                return None
            reason = f"the process ended with status {process.returncode}"
        except subprocess.TimeoutExpired:
            reason = f"took longer than {limit:.0f} s"
        finally:
            _kill_group(process)
    end_of_log = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    return Result(step, False, time.monotonic() - begin, error=f"{end_of_log}\n{reason}")


def run_step(step: Step, machine: Machine, path: Path) -> Result:
    """Run a step in this process and write its result."""
    begin = time.monotonic()
    try:
        measurements = step.run(machine)
        result = Result(step.name, True, time.monotonic() - begin, measurements)
    except Exception:
        error = traceback.format_exc()
        result = Result(step.name, False, time.monotonic() - begin, machine.kept, error)
    result.machine = describe_machine(machine)
    write(path, result)
    return result


def describe_machine(machine: Machine) -> dict[str, Any]:
    """Return the card, driver, versions and date, which are kept with each result."""
    facts: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if machine.is_gpu else "CPU (rehearsal)",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "python": platform.python_version(),
        "date": str(datetime.date.today()),
    }
    if machine.is_gpu:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True)
        facts["driver"] = done.stdout.strip().splitlines()[0] if done.returncode == 0 else "?"
    return facts


def write(path: Path, result: Result) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(result), indent=1) + "\n")
    temporary.replace(path)


def read(path: Path) -> Result:
    return Result(**json.loads(path.read_text()))


def _count_attempt(path: Path) -> int:
    """Count an attempt in a file, before it begins; return its number."""
    number = int(path.read_text()) + 1 if path.exists() else 1
    path.write_text(str(number))
    return number


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _line(result: Result) -> str:
    if result.passed:
        more = "" if result.finished else "; not finished, call the part again to continue"
        return f"PASS   {result.step} ({result.seconds:.1f} s){more}"
    reason = result.error.strip().splitlines() or ["no reason"]
    return f"FAIL   {result.step} ({result.seconds:.1f} s): {reason[-1]}"
