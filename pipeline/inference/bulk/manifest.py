"""The manifest of a bulk prediction: its content, and a check that the parts are complete."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from pipeline.errors import RunError
from pipeline.inference.bulk.job import Job
from pipeline.inference.bulk.parts import PartFiles, PartRecord


def make_manifest(job: Job, records: Sequence[PartRecord]) -> dict[str, Any]:
    """Return the content of the manifest.

    `input_sha256` is the SHA-256 over the digests of the parts' input rows, in order. `padding` is
    the share of the batches' tokens that are padding.
    """
    chain = hashlib.sha256("".join(r.input_sha256 for r in records).encode()).hexdigest()
    return {
        "version": job.version,
        "rows": sum(record.rows for record in records),
        "errors": sum(record.errors for record in records),
        "input_sha256": chain,
        "padding": round(padding(records), 4),
        "job": asdict(job),
        "parts": [asdict(record) for record in records],
    }


def padding(records: Sequence[PartRecord]) -> float:
    """Return the share of padding in the tokens of all batches."""
    padded = sum(record.padded_tokens for record in records)
    return 1 - sum(record.tokens for record in records) / padded if padded else 0.0


def check_parts(files: PartFiles, records: Sequence[PartRecord], rows: int) -> None:
    """Raise RunError unless each input row is in exactly one part and the files of all parts have
    their sizes."""
    sizes = files.output.sizes()
    for record in records:
        if sizes.get(record.name) != record.bytes:
            raise RunError(
                f"--output {files.location}: {record.name} has "
                f"{sizes.get(record.name, 0):,} bytes instead of {record.bytes:,}; delete it, and "
                "the same command writes it again"
            )
    starts = [record.start.row for record in records]
    stops = [record.stop.row for record in records]
    joins = all(stop == start for stop, (_, start) in zip(stops, pairwise(starts), strict=False))
    counts = all(record.rows == record.stop.row - record.start.row for record in records)
    if not (records and starts[0] == 0 and stops[-1] == rows and joins and counts):
        raise RunError(
            f"--output {files.location}: the parts do not have each of the {rows:,} rows once, "
            "because the input changed meanwhile; name another folder"
        )
