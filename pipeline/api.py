"""Training from Python, in one process.

run = pipeline.train("my.yaml", **{"train.epochs": 2})
run = pipeline.train(rows=[{"text": "A fine film.", "label": "positive"}, ...])
run.model().predict(["Dull."])
"""

import json
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline import components
from pipeline.config import as_yaml, load
from pipeline.errors import ConfigError
from pipeline.inference import model as inference
from pipeline.inference.model import Model
from pipeline.inference.python_values import check_no_table, python_value
from pipeline.run.folder import RunFolder
from pipeline.run.summary import Summary, read_summary
from pipeline.runtime.logs import configure_logging
from pipeline.storage.atomic import write_file
from pipeline.training import session

ROWS_FOLDER = Path("data")
"""Folder for files with the `rows` of `train`."""
DIGEST_CHARACTERS = 8


@dataclass(frozen=True)
class Run:
    """A trained run."""

    folder: Path
    """Folder of the run: config, checkpoints, metrics, report."""
    summary: Summary
    """Results of the run."""

    def model(self, **options: Any) -> Model:
        """Load the model of the best checkpoint; the options are those of `pipeline.load`."""
        return inference.load(self.folder, **options)


def train(
    config: str | Path | None = None,
    *,
    rows: Iterable[Mapping[str, Any]] | None = None,
    task: str = "",
    quiet: bool = False,
    **overrides: Any,
) -> Run:
    """Train, or resume training, as `headrace train` does, and return the finished run.

    `config` is a YAML file or the name of a bundled config. `rows` are dicts from column to value,
    which replace an input file. They are written to a file in data/ that is named by a digest of
    its content, so the same rows resume the same run. `task` is short for the key `task.name`.
    `overrides` are other keys: `**{"train.epochs": 2}`. `quiet` prints only warnings and errors.

    Training runs in this process, on the first GPU or on one CPU core; use torchrun for several
    processes. In a thread, no signal stops it. Raises ConfigError, with one line per mistake,
    InputError for rows that cannot be used, and KeyboardInterrupt if an interrupt stopped the run,
    which the same call resumes.
    """
    # One worker, because the processes of a pool would run the caller's script again.
    given: dict[str, Any] = {"corpus.workers": 1, **overrides}
    if task:
        given["task.name"] = task
    if rows is not None:
        check_no_table(rows, "rows")
        if "corpus.input" in given:
            raise ConfigError("corpus.input: is set together with rows; leave out one of the two")
        path = _write_rows(rows)
        given = {"corpus.root": ".", "corpus.input": str(path), **given}
        if config is None:
            given.setdefault("run.name", path.stem)
    configure_logging(-1 if quiet else 0)
    try:
        with components.original_files():  # not the copies of a run that was loaded before
            settings = load(
                None if config is None else Path(config),
                [f"{key}={as_yaml(value)}" for key, value in given.items()],
            )
            session.train(settings)
    except SystemExit as end:
        if end.code == 128 + signal.SIGINT:
            raise KeyboardInterrupt from None
        raise
    folder = RunFolder(Path(settings.run.dir))
    summary = read_summary(folder)
    assert summary is not None, "a finished run without a summary"
    return Run(folder.path, summary)


def _write_rows(rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines to a file named by their digest, unless it exists; return its path.

    Raises ConfigError if there are none, or if a row is not a mapping or has a value that JSON
    cannot represent.
    """
    lines = [_json_line(number, row) for number, row in enumerate(rows, 1)]
    if not lines:
        raise ConfigError("rows: is empty; give at least one row per label and split")
    # A lone surrogate becomes bytes that are not UTF-8, so that its row is skipped.
    content = "".join(lines).encode("utf-8", "surrogatepass")
    path = ROWS_FOLDER / f"rows-{sha256(content).hexdigest()[:DIGEST_CHARACTERS]}.jsonl"
    if not path.exists():
        write_file(path, content)
    return path


def _json_line(number: int, row: Mapping[str, Any]) -> str:
    if not isinstance(row, Mapping):
        raise ConfigError(
            f"rows: row {number} is of type {type(row).__name__}; give a dict from column to value"
        )
    try:
        return json.dumps(dict(row), ensure_ascii=False, default=_converted) + "\n"
    except (TypeError, ValueError) as error:
        raise ConfigError(f"rows: row {number} cannot be written as JSON: {error}") from None


def _converted(value: Any) -> Any:
    """Return a value of NumPy, torch or pandas as a Python object."""
    if (converted := python_value(value)) is value:
        raise TypeError(f"a value of type {type(value).__name__}; convert it to text or a number")
    return converted
