"""Bulk prediction: each row once, for any number of processes, and after interruptions."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.errors import ConfigError, DatasetError, HeadraceError, InputError, RunError
from pipeline.inference.bulk import worker
from pipeline.inference.bulk.worker import BulkOptions, predict_to
from pipeline.inference.predictor import Predictor
from pipeline.inference.trained import TrainedModel, load_trained
from pipeline.runtime.launcher import RankInfo
from pipeline.storage.output import LocalOutput
from pipeline.tasks.base.calibration import Calibration
from tests.helpers.files import write

Runs = Callable[[str], Path]
TEXTS = ["the film was superb", "a dull plot, and long", "", "the\0film", "music", "a scene it was"]


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Return rows, some of which cannot be used."""
    return [
        {"text": f"{TEXTS[n % 6]} {'plot ' * (n % 9)}" if TEXTS[n % 6] else "", "id": n}
        for n in range(start, start + count)
    ]


def write_jsonl(path: Path, content: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


@pytest.fixture(scope="module")
def model(runs: Runs) -> TrainedModel:
    return load_trained(runs("classification"))


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """Files of 40, 25 and 12 rows in three formats; the ids count all rows."""
    write_jsonl(tmp_path / "a.jsonl", rows(40))
    write(tmp_path / "b.parquet", rows(25, 40), row_group=4)
    write(tmp_path / "c.jsonl.gz", rows(12, 65))
    return [str(tmp_path / name) for name in ("a.jsonl", "b.parquet", "c.jsonl.gz")]


def options(folder: Path | str, **changed: Any) -> BulkOptions:
    chosen = BulkOptions(str(folder), keep=("id",), rows_per_part=10)
    return replace(chosen, **changed)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of all files, without hidden ones."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def table(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder).to_pylist()


def expected_predictions(model: TrainedModel, given: list[str]) -> list[dict[str, Any]]:
    """Return the predictions as `predict` prints them, with the ids."""
    predictor = Predictor(model)
    return [{"id": n, **prediction} for n, prediction in enumerate(predictor.predict_files(given))]


def check_manifest(folder: Path, ids: int) -> None:
    """Check the rows, digests and sizes of a manifest against the input and the parts."""
    manifest = json.loads((folder / "_manifest.json").read_text())
    assert manifest["rows"] == ids
    digests = []
    for number, part in enumerate(manifest["parts"]):
        data = (folder / part["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (part["bytes"], part["sha256"])
        own = rows(ids)[number * 10 : number * 10 + 10]
        lines = "".join(json.dumps([row["text"], row["id"]]) + "\n" for row in own)
        assert part["input_sha256"] == hashlib.sha256(lines.encode()).hexdigest()
        assert part["rows"] == len(own)
        digests.append(part["input_sha256"])
    assert manifest["input_sha256"] == hashlib.sha256("".join(digests).encode()).hexdigest()
    errors = [row for row in rows(ids) if not row["text"] or "\0" in row["text"]]
    assert manifest["errors"] == len(errors)


def run_ranks(model: TrainedModel, given: list[str], folder: Path | str, size: int) -> None:
    """Run the share of each rank, the first one last, as it waits for the others."""
    for rank in reversed(range(size)):
        predict_to(model, given, options(folder), (), RankInfo(rank, rank, size))


def test_each_row_is_there_once_with_the_prediction_of_the_command(
    model: TrainedModel, inputs: list[str], tmp_path: Path
) -> None:
    predict_to(model, inputs, options(tmp_path / "out"))
    found = table(tmp_path / "out")
    assert [row["id"] for row in found] == list(range(77))
    expected = expected_predictions(model, inputs)
    shown = [{k: v for k, v in row.items() if v is not None} for row in found]
    for row, own in zip(shown, expected, strict=True):
        if "error" in own:
            assert row == own
        else:
            assert row["label"] == own["label"]
            assert row["probability"] == pytest.approx(own["probability"], abs=2e-6)
            assert row["scores"] == pytest.approx(own["scores"], abs=2e-6)
    check_manifest(tmp_path / "out", 77)
    names = {path.name for path in (tmp_path / "out").glob("*")}
    assert names == {f"part-{n:06d}.parquet" for n in range(8)} | {
        "_job.json", "_manifest.json", "_parts",
    }  # fmt: skip


@pytest.mark.parametrize("size", [2, 3])
def test_files_do_not_depend_on_the_number_of_processes(
    model: TrainedModel, inputs: list[str], tmp_path: Path, size: int
) -> None:
    predict_to(model, inputs, options(tmp_path / "one"))
    run_ranks(model, inputs, tmp_path / "several", size)
    assert contents(tmp_path / "several") == contents(tmp_path / "one")


class KilledError(BaseException):
    """Represents SIGKILL: no handler of the package catches it."""


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """A function that makes write number n, counted from now, fail before its file appears."""
    put, left = LocalOutput.put, [0]

    def dying_put(self: LocalOutput, name: str, data: bytes) -> None:
        left[0] -= 1
        if left[0] == 0:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.1-1.tmp").write_bytes(data[: len(data) // 2])
            raise KilledError
        put(self, name, data)

    monkeypatch.setattr(LocalOutput, "put", dying_put)
    yield lambda number: left.__setitem__(0, number)
    left[0] = 0


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_prediction_resumes_with_any_number_of_processes(
    model: TrainedModel,
    inputs: list[str],
    tmp_path: Path,
    killer: Callable[[int], None],
    seed: int,
) -> None:
    predict_to(model, inputs, options(tmp_path / "whole"))
    rng, folder, deaths = random.Random(seed), tmp_path / "out", 0
    for size in [1, 2, 3, 2, 1]:
        for rank in reversed(range(1, size)):
            killer(rng.randint(1, 5))
            try:
                predict_to(model, inputs, options(folder), (), RankInfo(rank, rank, size))
            except KilledError:
                deaths += 1
        killer(rng.randint(1, 6) if size > 1 or not deaths else 0)
        try:
            predict_to(model, inputs, options(folder), (), RankInfo(0, 0, 1))
        except KilledError:
            deaths += 1
    predict_to(model, inputs, options(folder))
    assert deaths >= 2
    whole = contents(tmp_path / "whole")
    assert {n: d for n, d in contents(folder).items() if not n.endswith(".tmp")} == whole
    check_manifest(folder, 77)


def test_only_missing_parts_are_made(
    model: TrainedModel, inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_to(model, inputs, options(tmp_path / "out"))
    whole = contents(tmp_path / "out")
    for name in ("part-000003.parquet", "_parts/part-000006.json", "_manifest.json"):
        (tmp_path / "out" / name).unlink()
    made: list[int] = []
    make = worker.BulkPrediction._make_part

    def counting(self: worker.BulkPrediction, part: Any) -> None:
        made.append(part.number)
        make(self, part)

    monkeypatch.setattr(worker.BulkPrediction, "_make_part", counting)
    predict_to(model, inputs, options(tmp_path / "out"))
    assert made == [3, 6]
    assert contents(tmp_path / "out") == whole


def test_a_finished_prediction_is_left_alone(
    model: TrainedModel, inputs: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    predict_to(model, inputs, options(tmp_path / "out"))
    assert "77 rows in 8 parts, 26 with errors; padding " in caplog.text
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    caplog.clear()
    predict_to(model, inputs, options(tmp_path / "out"))
    (line,) = caplog.messages
    assert line.endswith("out: is complete: 77 rows, 26 of them with errors, in 8 parts")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == times


def test_a_process_makes_parts_that_another_one_has_not_begun(
    model: TrainedModel, inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two ranks makes its own four parts, and two that the first would make last.
    Parts of a process that has died are made by the first rank, which does not wait for ever."""
    folder = tmp_path / "out"
    predict_to(model, inputs, options(folder), (), RankInfo(1, 1, 2))
    names = sorted(path.stem for path in folder.glob("part-*"))
    assert names == [f"part-{n:06d}" for n in (1, 3, 4, 5, 6, 7)]
    monkeypatch.setattr(worker, "PATIENCE_SECONDS", 0.1)
    (folder / "part-000003.parquet").unlink()
    predict_to(model, inputs, options(folder), (), RankInfo(0, 0, 2))
    predict_to(model, inputs, options(tmp_path / "one"))
    assert contents(folder) == contents(tmp_path / "one")


@pytest.mark.parametrize("task", ["multilabel", "regression", "entailment", "tagging"])
def test_json_lines_are_those_of_the_command(runs: Runs, tmp_path: Path, task: str) -> None:
    model = load_trained(runs(task))
    values: list[dict[str, Any]] = [
        {"text": "the red film", "claim": "red", "word": ["Peter", "saw"], "id": [1]},
        {"text": "", "claim": "x", "word": [], "id": None},
    ]
    given = [str(write_jsonl(tmp_path / "a.jsonl", values))]
    predict_to(model, given, options(tmp_path / "out", output_format="jsonl"))
    lines = (tmp_path / "out/part-000000.jsonl").read_text().splitlines()
    expected = list(Predictor(model).predict_files(given))
    kept = [{"id": row["id"]} for row in values]
    assert [json.loads(line) for line in lines] == [
        k | e for k, e in zip(kept, expected, strict=True)
    ]


TASKS: dict[str, dict[str, Any]] = {
    "multilabel": {"text": "a fine film"},
    "regression": {"text": "fine lovely film"},
    "entailment": {"text": "the red film", "claim": "red"},
    "tagging": {"word": ["Peter", "Miller"]},
    "translation": {"text": "the film"},
    "language_modeling": {"text": "the film"},
}


@pytest.mark.parametrize("task", TASKS)
def test_the_schema_is_the_same_in_each_part(runs: Runs, tmp_path: Path, task: str) -> None:
    """Also in a part in which all rows are errors. Values are those that the command prints."""
    model = load_trained(runs(task))
    bad = dict.fromkeys(TASKS[task], "")
    given = [str(write_jsonl(tmp_path / "a.jsonl", [TASKS[task], TASKS[task], bad, bad]))]
    predict_to(model, given, options(tmp_path / "out", keep=(), rows_per_part=2))
    first, second = (pq.read_table(tmp_path / f"out/part-00000{n}.parquet") for n in (0, 1))
    assert first.schema == second.schema
    assert first.column_names == [*model.task.prediction_types(), "error"]
    (expected, _, error, _) = Predictor(model).predict_files(given)
    assert first.to_pylist()[0] == {**expected, "error": None}
    assert second.to_pylist()[0]["error"] == error["error"]
    assert all(second[name].null_count == 2 for name in model.task.prediction_types())


def test_a_task_without_declared_types_has_a_column_of_json(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_trained(runs("regression"))
    given = [str(write_jsonl(tmp_path / "a.jsonl", [{"text": "fine"}, {"text": ""}]))]
    monkeypatch.setattr(type(model.task), "prediction_types", lambda self: {"mean": float})
    with pytest.raises(HeadraceError, match="predictions have number, but its prediction_types"):
        predict_to(model, given, options(tmp_path / "a", keep=()))
    monkeypatch.setattr(type(model.task), "prediction_types", lambda self: {})
    predict_to(model, given, options(tmp_path / "b", keep=()))
    (expected, error) = Predictor(model).predict_files(given)
    first, second = table(tmp_path / "b")
    assert (json.loads(first["prediction"]), first["error"]) == (expected, None)
    assert second == {"prediction": None, **error}


def test_other_inputs_runs_and_options_are_refused(
    runs: Runs, model: TrainedModel, inputs: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    predict_to(model, inputs, options(folder))
    before = contents(folder)
    others: list[tuple[str, list[str], BulkOptions, list[str]]] = [
        ("--input", inputs[:2], options(folder), []),
        ("the columns of the input, --keep", inputs, options(folder, keep=()), []),
        ("--output-format", inputs, options(folder, output_format="jsonl"), []),
        ("--rows-per-part", inputs, options(folder, rows_per_part=9), []),
        ("key=value", inputs, options(folder), ["stream.token_budget=900"]),
    ]
    for name, given, chosen, overrides in others:
        with pytest.raises(RunError, match=f"of another job, with a different {name}; name"):
            predict_to(model, given, chosen, overrides)
    with pytest.raises(RunError, match="with a different --run; name another folder"):
        predict_to(load_trained(runs("regression")), inputs, options(folder))
    calibrated = load_trained(model.files.folder)
    calibrated.task.calibration = Calibration(temperature=2.0)
    with pytest.raises(RunError, match="with a different calibration of --run; name another"):
        predict_to(calibrated, inputs, options(folder))
    assert contents(folder) == before
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/notes.txt").write_text("x")
    with pytest.raises(RunError, match=r"is not empty, and the files \(notes.txt, ...\) are not"):
        predict_to(model, inputs, options(tmp_path / "foreign"))
    assert contents(tmp_path / "foreign") == {"notes.txt": b"x"}


def test_a_changed_file_is_refused_unless_its_rows_are_the_same(
    model: TrainedModel, inputs: list[str], tmp_path: Path
) -> None:
    folder, path = tmp_path / "out", Path(inputs[0])
    predict_to(model, inputs, options(folder))
    whole = contents(folder)
    write_jsonl(path, [{**row, "note": "new"} for row in rows(40)])
    predict_to(model, inputs, options(folder))
    parts = {name: data for name, data in whole.items() if "part-" in name}
    assert {n: d for n, d in contents(folder).items() if "part-" in n} == parts
    before = contents(folder)
    write_jsonl(path, [*rows(39), {"text": "new", "id": 39}])
    with pytest.raises(RunError, match=r"a\.jsonl has changed since part-000003\.parquet was made"):
        predict_to(model, inputs, options(folder))
    assert contents(folder) == before


def test_a_file_that_changes_meanwhile_is_reported(
    model: TrainedModel, inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, make = tmp_path / "out", worker.BulkPrediction._make_part

    def changing(self: worker.BulkPrediction, part: Any) -> None:
        make(self, part)
        if part.number == 5:
            Path(inputs[0]).write_text("")

    monkeypatch.setattr(worker.BulkPrediction, "_make_part", changing)
    with pytest.raises(InputError, match="the input has changed meanwhile"):
        predict_to(model, inputs, options(folder))
    assert not (folder / "_manifest.json").exists()


def test_rows_before_damage_are_kept_and_a_repaired_file_resumes(
    model: TrainedModel, inputs: list[str], tmp_path: Path
) -> None:
    path, folder = Path(inputs[2]), tmp_path / "out"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    for size in (1, 2):
        for rank in reversed(range(size)):
            with pytest.raises(InputError, match=r"c\.jsonl\.gz"):
                predict_to(model, inputs, options(folder), (), RankInfo(rank, rank, size))
        names = sorted(path.name for path in folder.glob("part-*"))
        assert names == [f"part-{n:06d}.parquet" for n in range(6)]
        assert not (folder / "_manifest.json").exists()
    path.write_bytes(whole)
    predict_to(model, inputs, options(folder))
    check_manifest(folder, 77)


def test_mistakes_are_one_line(model: TrainedModel, inputs: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(InputError, match=r"a\.jsonl: has no column 'name'"):
        predict_to(model, inputs, options(folder, keep=("name",)))
    with pytest.raises(ConfigError, match=r"--keep label: is also a column of the prediction"):
        predict_to(model, inputs, options(folder, keep=("id", "label")))
    with pytest.raises(ConfigError, match="--keep error: is also a column"):
        predict_to(model, inputs, options(folder, keep=("error",)))
    with pytest.raises(ConfigError, match="--keep id: is given twice"):
        predict_to(model, inputs, options(folder, keep=("id", "id")))
    with pytest.raises(InputError, match="--input -: is a stream"):
        predict_to(model, ["-"], options(folder))
    assert not folder.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"file: cannot be listed: Not a directory"):
        predict_to(model, inputs, options(tmp_path / "file"))


def test_lines_of_a_text_file_are_kept_as_a_column(model: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the film was superb\n\nmusic\n")
    predict_to(model, [str(tmp_path / "a.txt")], options(tmp_path / "out", keep=("line",)))
    found = table(tmp_path / "out")
    assert [(row["line"], row["error"]) for row in found] == [
        ("the film was superb", None), ("", "the text is empty"), ("music", None),
    ]  # fmt: skip


def test_a_prediction_reads_only_the_row_groups_of_its_parts(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.parquet", rows(60), row_group=5)
    read: list[int] = []
    from pipeline.corpus.readers.formats.parquet import Parquet

    groups = Parquet._row_group

    def counting(self: Parquet, group: int, count: int) -> Any:
        read.append(group)
        return groups(self, group, count)

    monkeypatch.setattr(Parquet, "_row_group", counting)
    predict_to(model, [str(path)], options(tmp_path / "out"), (), RankInfo(1, 1, 3))
    assert read[12:16] == [2, 3, 8, 9]  # the first 12 show the columns


def test_a_kept_value_of_another_type_ends_the_job(model: TrainedModel, tmp_path: Path) -> None:
    """Without waiting for the part that cannot be made; the parts before it are kept."""
    values = [{"text": "music", "id": n} for n in range(1030)]
    path = write_jsonl(tmp_path / "a.jsonl", [*values, {"text": "music", "id": "A17"}])
    with pytest.raises(InputError, match="line 1031: id='A17': is not of the type int64"):
        predict_to(model, [str(path)], options(tmp_path / "out", rows_per_part=500))
    assert len(list((tmp_path / "out").glob("part-*"))) == 2
    changed = options(tmp_path / "lines", rows_per_part=500, output_format="jsonl")
    predict_to(model, [str(path)], changed)
    last = (tmp_path / "lines/part-000002.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["id"] == "A17"


def test_a_damaged_part_is_reported(model: TrainedModel, inputs: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    predict_to(model, inputs, options(folder))
    path = folder / "part-000002.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"part-000002\.parquet has [\d,]+ bytes instead of"):
        predict_to(model, inputs, options(folder))
    path.unlink()
    predict_to(model, inputs, options(folder))
    check_manifest(folder, 77)
    (folder / "_manifest.json").write_text("{")
    with pytest.raises(RunError, match=r"_manifest\.json is damaged \(JSONDecodeError\); delete"):
        predict_to(model, inputs, options(folder))
    (folder / "_manifest.json").unlink()
    predict_to(model, inputs, options(folder))
    check_manifest(folder, 77)
