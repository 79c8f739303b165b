"""Bulk prediction: each process writes some of the parts of an output, without communication.

A process that has finished its own parts takes over parts that others have not started, so slow
processes do not delay the others. Two processes may then write the same part, with the same
content. The first rank waits until all parts are written, and then writes the manifest; if another
process has died, the first rank also writes the parts of that process.
"""

import hashlib
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.errors import InputError, RunError
from pipeline.inference.bulk.assignment import ListedParts, OwnParts, spare_parts
from pipeline.inference.bulk.columns import (
    OutputColumns,
    check_keep,
    kept_columns,
    prediction_columns,
)
from pipeline.inference.bulk.input_parts import START, InputPart, InputParts, Place
from pipeline.inference.bulk.job import Job, input_versions
from pipeline.inference.bulk.manifest import check_parts, make_manifest
from pipeline.inference.bulk.parts import PARQUET, PartFiles, PartRecord, encode
from pipeline.inference.bulk.progress import Progress, duration
from pipeline.inference.predictor import Predictor
from pipeline.inference.run_input import RunInput, is_stream
from pipeline.inference.trained import TrainedModel
from pipeline.runtime.launcher import RankInfo
from pipeline.storage.output import open_output
from pipeline.stream.batch import Batch

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
"""Minimum time to wait for parts that other processes have started. The wait is longer if parts
take longer."""

ONE_PROCESS = RankInfo()

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BulkOptions:
    """The options of a bulk prediction."""

    output: str
    """Folder or URL."""
    output_format: str = PARQUET
    keep: tuple[str, ...] = ()
    """Columns of the input to copy to the output."""
    rows_per_part: int = 0
    """0: `chunk_rows` of the model."""


def predict_to(
    model: TrainedModel,
    given: Sequence[str],
    options: BulkOptions,
    overrides: Sequence[str] = (),
    ranks: RankInfo = ONE_PROCESS,
) -> None:
    """Write the predictions for all rows of the input to an output, in parts.

    `given` has files, globs, URLs, folders and parallel files, as `RunInput` describes. Parts that
    an earlier call has completed are kept. Raises InputError if the input cannot be read, RunError
    if the output belongs to another job, and DatasetError if it cannot be written.
    """
    for value in given:
        if is_stream(value):
            raise InputError(
                f"--input {value}: is a stream, which --output could not read again after an "
                "interruption; save it to a file, or leave out --output"
            )
    check_keep(options.keep, model.task)
    BulkPrediction(model, given, options, overrides, ranks).run()


class BulkPrediction:
    """The work of one process in a bulk prediction."""

    def __init__(
        self,
        model: TrainedModel,
        given: Sequence[str],
        options: BulkOptions,
        overrides: Sequence[str],
        ranks: RankInfo,
    ) -> None:
        self._options, self._ranks, self._model = options, ranks, model
        self._predictor = Predictor(model, self._on_batch)
        columns = self._predictor.columns
        run_input = RunInput(model.config.corpus, given, columns, model.reads_images)
        self._sources = sources = run_input.sources()
        self._columns = list(dict.fromkeys([*columns, *options.keep]))
        rows_per_part = options.rows_per_part or model.chunk_rows
        self._job = Job.of(
            model,
            sources,
            self._columns,
            overrides,
            keep=options.keep,
            output_format=options.output_format,
            rows_per_part=rows_per_part,
        )
        self._files = PartFiles(open_output(options.output), self._job)
        sizes = [file.bytes for file in self._job.inputs]
        self._input = InputParts(run_input, sources, sizes, options.keep, rows_per_part)
        self._progress = Progress(enabled=ranks.rank == 0)
        self._tokens = self._padded_tokens = 0
        self._part_rows = self._batch_rows = 0
        self._part_start = (0, 0.0)
        self._longest_part = 0.0

    def run(self) -> None:
        """Write this process's share of the parts. The first rank writes the manifest."""
        self._started = time.time()
        earlier = self._files.check()
        is_same = earlier and self._job.first_changed(earlier) == len(self._job.inputs)
        if is_same and (manifest := self._files.whole_manifest()):
            logger.info(
                "%s: is complete: %s rows, %s of them with errors, in %s parts",
                self._files.location, f"{manifest['rows']:,}", f"{manifest['errors']:,}",
                f"{len(manifest['parts']):,}",
            )  # fmt: skip
            return
        with self._input:
            rows, types = self._input.first_rows()
            kept = kept_columns(self._options.keep, rows, types)
            self._output = OutputColumns(kept, prediction_columns(self._model.task))
            done = self._files.done()
            if earlier:
                self._check_changed(earlier, done)
            if done and self._ranks.rank == 0:
                logger.info("%s: resuming, %s parts are done", self._files.location, len(done))
            self._files.write_job()
            try:
                self._make_all(done)
            finally:
                self._progress.close()

    def _make_all(self, done: set[int]) -> None:
        try:
            own = OwnParts(self._ranks.rank, self._ranks.size, done)
            self._make(self._input.parts(own, self._place_before(own.next_from(0), done)))
        except InputError:
            if self._input.damaged:
                self._help(self._input.rows // self._job.rows_per_part, until_complete=True)
            raise
        rows = self._input.rows
        parts = -(-rows // self._job.rows_per_part)
        self._help(parts, until_complete=self._ranks.rank == 0)
        if self._ranks.rank == 0:
            self._finish(parts, rows, done)

    def _place_before(self, part: int, done: set[int]) -> Place:
        """Return the end of the last finished part before this one."""
        before = max((number for number in done if number < part), default=None)
        return START if before is None else self._files.records([before])[0].stop

    def _make(self, parts: Iterable[InputPart]) -> None:
        """Predict and write parts, except those that another process has finished meanwhile."""
        for part in parts:
            if self._ranks.size > 1 and self._files.is_done(part.number):
                continue
            started = time.monotonic()
            self._make_part(part)
            self._longest_part = max(self._longest_part, time.monotonic() - started)

    def _make_part(self, part: InputPart) -> None:
        self._tokens = self._padded_tokens = self._batch_rows = 0
        self._part_rows = len(part.items)
        if not self._part_start[0]:
            share = self._input.share * part.start.row / part.stop.row
            self._part_start = part.start.row, share
        self._progress.begin(*self._part_start)
        predictions = self._predictor.predict(part.items)
        data = encode(self._output, self._options.output_format, part, predictions)
        record = PartRecord(
            name=self._files.name(part.number),
            rows=len(predictions),
            errors=sum("error" in prediction for prediction in predictions),
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            input_sha256=part.digest(self._columns),
            start=part.start,
            stop=part.stop,
            tokens=self._tokens,
            padded_tokens=self._padded_tokens,
        )
        self._files.write(part.number, data, record)
        self._part_start = (part.stop.row, self._input.share)
        self._progress.update(*self._part_start)

    def _on_batch(self, batch: Batch) -> None:
        """Count a batch's tokens, and show the progress within a part."""
        rows, width = next(iter(batch.columns.values())).shape[:2]
        self._tokens += int(batch.lengths.sum())
        self._padded_tokens += rows * width
        row, share = self._part_start
        fraction = min(self._batch_rows / max(self._part_rows, 1), 1.0)
        own_row = row + int(fraction * max(self._input.rows - row, 0))
        self._progress.update(own_row, share + fraction * (self._input.share - share))
        self._batch_rows += rows

    def _help(self, parts: int, *, until_complete: bool) -> None:
        """Take over parts of other processes; if `until_complete`, wait until all are finished."""
        waiting_since, missing_before = time.monotonic(), parts + 1
        while missing := sorted(set(range(parts)) - (done := self._files.done())):
            if len(missing) < missing_before:
                waiting_since, missing_before = time.monotonic(), len(missing)
            spare = spare_parts(missing, self._ranks.size)
            if time.monotonic() - waiting_since > max(PATIENCE_SECONDS, 3 * self._longest_part):
                spare = missing
            if spare:
                start = self._place_before(spare[0], done)
                self._make(self._input.parts(ListedParts(spare), start))
            elif until_complete:
                time.sleep(POLL_SECONDS)
            else:
                return

    def _check_changed(self, earlier: Job, done: set[int]) -> None:
        """Raise RunError if a file has changed and the input rows of a finished part differ.

        This allows a user to replace a damaged file.
        """
        changed = self._job.first_changed(earlier)
        if changed == len(self._job.inputs) or not done:
            return
        records = dict(zip(sorted(done), self._files.records(sorted(done)), strict=True))
        numbers = [number for number, record in records.items() if record.stop.file >= changed]
        if not numbers:
            return
        name = self._job.inputs[changed].name
        logger.info("%s: has changed; comparing the rows of the parts that are done", name)
        start = records[numbers[0]].start
        seen: set[int] = set()
        for part in self._input.parts(ListedParts(numbers), start):
            if part.digest(self._columns) == records[part.number].input_sha256:
                seen.add(part.number)
        if missing := sorted(set(numbers) - seen):
            raise RunError(
                f"--output {self._files.location}: {name} has changed since "
                f"{records[missing[0]].name} was made from it; name another folder"
            )

    def _finish(self, parts: int, rows: int, done: set[int]) -> None:
        """Check all parts and write the manifest; `done` are the parts of earlier calls."""
        if input_versions(self._sources) != self._job.inputs:
            raise InputError(
                f"--output {self._files.location}: the input has changed meanwhile; run the same "
                "command again, which compares the rows of the parts with the input"
            )
        records = self._files.records(range(parts))
        check_parts(self._files, records, rows)
        manifest = make_manifest(self._job, records)
        self._files.write_manifest(manifest)
        self._files.output.remove_temporary(self._started)
        seconds = time.time() - self._started
        made = rows - sum(records[part].rows for part in done if part < parts)
        logger.info(
            "%s: %s rows in %s parts, %s with errors; padding %.1f %%; %s, %s rows/s",
            self._files.location, f"{rows:,}", f"{parts:,}", f"{manifest['errors']:,}",
            100 * manifest["padding"], duration(seconds), f"{made / max(seconds, 1e-3):,.0f}",
        )  # fmt: skip
