"""The job of a bulk prediction: an output folder has the parts of one job only."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from typing import Any

from pipeline.corpus.readers.inputs import InputSource, file_version
from pipeline.errors import RunError
from pipeline.inference.trained import TrainedModel
from pipeline.storage.atomic import sha256_of
from pipeline.storage.redaction import redacted, without_password

VERSION = 1
"""Version of the format of a job's files."""


@dataclass(frozen=True)
class InputVersion:
    """The version of an input file that was read."""

    name: str
    bytes: int
    version: str
    """A value that changes if the content changes: the time of the last change, or an ETag."""


@dataclass(frozen=True)
class Job:
    """The input, model and options that determine the content of the parts."""

    inputs: tuple[InputVersion, ...]
    weights: str
    """SHA-256 of the model's weights."""
    config: str
    """SHA-256 of the run's config."""
    calibration: str
    """SHA-256 of how the task reads the outputs."""
    overrides: tuple[str, ...]
    columns: tuple[str, ...]
    """The input columns that are read, for predictions or to be copied to the output."""
    keep: tuple[str, ...]
    output_format: str
    rows_per_part: int
    version: int = VERSION

    @classmethod
    def of(
        cls,
        model: TrainedModel,
        sources: Sequence[InputSource],
        columns: Sequence[str],
        overrides: Sequence[str],
        *,
        keep: Sequence[str],
        output_format: str,
        rows_per_part: int,
    ) -> "Job":
        """Return the job that predicts from the sources. Raises InputError if one is missing."""
        return cls(
            input_versions(sources),
            sha256_of(model.files.weights / "model.safetensors"),
            sha256_of(model.files.config),
            sha256(json.dumps(asdict(model.task.calibration), sort_keys=True).encode()).hexdigest(),
            tuple(redacted(list(overrides))),
            tuple(columns),
            tuple(keep),
            output_format,
            rows_per_part,
        )

    def to_text(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_text(cls, text: str | bytes) -> "Job":
        """Parse the result of `to_text`. Raises ValueError, KeyError or TypeError for other
        texts."""
        values: dict[str, Any] = json.loads(text)
        inputs = tuple(InputVersion(**item) for item in values.pop("inputs"))
        lists: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in values.items()
        }
        return cls(inputs=inputs, **lists)

    def check(self, other: "Job", location: str) -> None:
        """Raise RunError if another job has written to the output; changed files are allowed."""
        shown = {"weights": "--run", "config": "--run", "columns": "the columns of the input"}
        shown["calibration"] = "calibration of --run"
        shown |= {"keep": "--keep", "output_format": "--output-format", "overrides": "key=value"}
        shown |= {"rows_per_part": "--rows-per-part", "version": "the version of Headrace"}
        differing = [
            shown[field.name]
            for field in fields(self)
            if field.name != "inputs" and getattr(self, field.name) != getattr(other, field.name)
        ]
        if [file.name for file in self.inputs] != [file.name for file in other.inputs]:
            differing.insert(0, "--input")
        if differing:
            names = ", ".join(dict.fromkeys(differing))
            raise RunError(
                f"--output {location}: has the predictions of another job, with a different "
                f"{names}; name another folder, or repeat the command of that job"
            )

    def first_changed(self, other: "Job") -> int:
        """Return the index of the first file whose version differs from that in another job with
        the same files; the number of files if there is none."""
        pairs = enumerate(zip(self.inputs, other.inputs, strict=True))
        return next((i for i, (own, old) in pairs if own != old), len(self.inputs))


def input_versions(sources: Sequence[InputSource]) -> tuple[InputVersion, ...]:
    """Return the current versions of files. Raises InputError if one is missing."""
    return tuple(_input_version(source) for source in sources)


def _input_version(source: InputSource) -> InputVersion:
    if source.sides:
        sides = [_input_version(side) for side in source.sides.values()]
        version = " ".join(side.version for side in sides)
        return InputVersion(source.name, sum(side.bytes for side in sides), version)
    found = file_version(source.name, source.path)
    return InputVersion(without_password(source.name), found.bytes, found.version)
