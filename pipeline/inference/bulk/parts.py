"""The files of a bulk prediction in its output folder or at a URL.

    part-000000.parquet        the predictions for the first rows of the input, and so on
    _parts/part-000000.json    the record of a part, written after it: a part without it is not done
    _job.json                  the input, model and options, written before the first part
    _manifest.json             the records of all parts, written last, when the output is complete

Readers of folders of Parquet files ignore names that begin with _.
"""

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.parquet as pq

from pipeline.errors import RunError
from pipeline.inference.bulk.columns import OutputColumns
from pipeline.inference.bulk.input_parts import InputPart, Place
from pipeline.inference.bulk.job import Job
from pipeline.storage.output import Output

JOB, MANIFEST, RECORDS = "_job.json", "_manifest.json", "_parts/"
PARQUET, JSONL = "parquet", "jsonl"
DAMAGED = (ValueError, KeyError, TypeError)
"""Exceptions that a damaged JSON file raises."""


@dataclass(frozen=True)
class PartRecord:
    """The metadata of a part."""

    name: str
    rows: int
    errors: int
    """Rows without a prediction."""
    bytes: int
    sha256: str
    """SHA-256 of the file."""
    input_sha256: str
    """SHA-256 of the input rows, as `InputPart.digest` computes it."""
    start: Place
    stop: Place
    tokens: int
    padded_tokens: int
    """Tokens of the batches, including padding."""

    def to_text(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "PartRecord":
        """Return the record with the values of `to_text`. Raises KeyError or TypeError."""
        places = {name: Place(*values[name]) for name in ("start", "stop")}
        return cls(**{**values, **places})


class PartFiles:
    """Reads and writes the files of a job at its output."""

    def __init__(self, output: Output, job: Job) -> None:
        self.output, self.job = output, job
        self.location = output.location

    def check(self) -> Job | None:
        """Return the job that has written to the output, with the file versions that it read; None
        if the output is empty.

        Raises RunError if another job has written to it, or if it has other files.
        """
        names = self.output.sizes()
        if not names:
            return None
        if JOB not in names:
            raise RunError(
                f"--output {self.location}: is not empty, and the files ({min(names)}, ...) are "
                "not from a prediction; name another folder"
            )
        (text,) = self.output.read([JOB])
        try:
            earlier = Job.from_text(text)
        except DAMAGED as error:
            raise RunError(
                f"--output {self.location}: {JOB} is damaged ({type(error).__name__}); name "
                "another folder"
            ) from None
        self.job.check(earlier, self.location)
        return earlier

    def write_job(self) -> None:
        self.output.put(JOB, self.job.to_text().encode())

    def name(self, part: int) -> str:
        return f"part-{part:06d}.{self.job.output_format}"

    def is_done(self, part: int) -> bool:
        return self.output.has(_record_name(part)) and self.output.has(self.name(part))

    def done(self) -> set[int]:
        """Return the numbers of the parts that are complete."""
        names = self.output.sizes()
        numbers = (_number(name) for name in names if name.startswith(RECORDS))
        return {n for n in numbers if n is not None and self.name(n) in names}

    def records(self, parts: Iterable[int]) -> list[PartRecord]:
        """Return the records of finished parts. Raises RunError if they are damaged."""
        texts = self.output.read([_record_name(part) for part in parts])
        try:
            return [PartRecord.from_values(json.loads(text)) for text in texts]
        except DAMAGED as error:
            raise RunError(
                f"--output {self.location}: a file in {RECORDS} is damaged "
                f"({type(error).__name__}); delete it, and the same command writes its part again"
            ) from None

    def write(self, part: int, data: bytes, record: PartRecord) -> None:
        """Write a part, then its record."""
        self.output.put(self.name(part), data)
        self.output.put(_record_name(part), record.to_text().encode())

    def write_manifest(self, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        self.output.put(MANIFEST, text.encode())

    def whole_manifest(self) -> dict[str, Any] | None:
        """Return the content of the manifest; None if it or a part is missing."""
        sizes = self.output.sizes()
        if MANIFEST not in sizes:
            return None
        (text,) = self.output.read([MANIFEST])
        try:
            content: dict[str, Any] = json.loads(text)
            parts = {part["name"]: part["bytes"] for part in content["parts"]}
        except DAMAGED as error:
            raise RunError(
                f"--output {self.location}: {MANIFEST} is damaged ({type(error).__name__}); delete "
                "it, and the same command makes it again"
            ) from None
        return content if parts.items() <= sizes.items() else None


def encode(
    columns: OutputColumns,
    output_format: str,
    part: InputPart,
    predictions: list[dict[str, Any]],
) -> bytes:
    """Return the content of a part's file. Raises InputError for a kept value of another type than
    its column."""
    if output_format == JSONL:
        return "".join(columns.lines(part.items, predictions)).encode()
    buffer = io.BytesIO()
    pq.write_table(columns.table(part.items, predictions), buffer, compression="zstd")
    return buffer.getvalue()


def _record_name(part: int) -> str:
    return f"{RECORDS}part-{part:06d}.json"


def _number(record_name: str) -> int | None:
    text = record_name.removeprefix(f"{RECORDS}part-").removesuffix(".json")
    return int(text) if text.isdecimal() else None
