"""Files that only training needs, and the run without them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import pipeline
from pipeline import config
from pipeline.errors import RunError
from pipeline.run import checkpoint, cleaning
from pipeline.run.folder import RunFolder
from pipeline.training import session
from tests.helpers.corpora import small_run_overrides, write_reviews
from tests.helpers.processes import call

TEXTS = ["the fine film", "a dull plot and a weak scene"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A finished run with several checkpoints, and the overrides that resume it."""
    folder = tmp_path_factory.mktemp("cleaning")
    write_reviews(folder / "reviews.csv", 300)
    overrides = [
        *small_run_overrides(folder), f"run.dir={folder}/run", "train.max_steps=6",
        "train.checkpoint_every=2", "train.keep_checkpoints=3",
    ]  # fmt: skip
    session.train(config.load(None, overrides))
    return folder / "run", overrides


@pytest.fixture
def run(trained: tuple[Path, list[str]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "run", symlinks=True))


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_the_list_deletes_nothing_and_the_sizes_are_those_freed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, size = files(run), cleaning.size_of(run)
    status, listed, err = call("clean", "--run", str(run))
    assert (status, err) == (0, "")
    assert files(run) == before
    assert "can be deleted; then the run cannot be resumed; --yes deletes the files" in listed
    status, deleted, err = call("clean", "--run", str(run), "--yes")
    assert (status, err) == (0, "")
    assert deleted.splitlines()[:-1] == listed.splitlines()[:-1]
    freed = (size - cleaning.size_of(run)) / 1e6
    assert freed > 0.6 * size / 1e6
    assert f"{freed:.1f} MB  of {size / 1e6:.1f} MB deleted" in deleted
    status, again, _ = call("clean", "--run", str(run))
    assert status == 0
    assert again.strip().startswith("0.0 MB  of")


def test_a_cleaned_run_predicts_evaluates_and_reports_as_before(
    run: Path, trained: tuple[Path, list[str]]
) -> None:
    reviews = trained[0].parent / "reviews.csv"
    model = pipeline.load(run)
    predictions, metrics = model.predict(TEXTS), model.evaluate(reviews)
    cleaning.delete(RunFolder(run))
    (kept,) = (run / "checkpoints").glob("step-*")
    assert not (kept / checkpoint.TRAINING).exists()
    cleaned = pipeline.load(run)
    assert cleaned.predict(TEXTS) == predictions
    assert cleaned.evaluate(reviews) == metrics
    assert pipeline.load(run, checkpoint=run / "checkpoints" / "best").predict(TEXTS) == predictions
    assert call("report", "--run", str(run))[0] == 0


def test_resuming_a_cleaned_run_is_one_error_line(
    run: Path, trained: tuple[Path, list[str]]
) -> None:
    cleaning.delete(RunFolder(run))
    overrides = [*trained[1], f"run.dir={run}", "train.max_steps=8"]
    with pytest.raises(RunError) as error:
        session.train(config.load(None, overrides))
    (line,) = error.value.lines
    assert "has no training.safetensors, which `headrace clean` deletes, so training" in line
    elsewhere = [*overrides, f"run.dir={run}-2", f"train.resume={run}/checkpoints/best"]
    with pytest.raises(RunError, match=r"has no training\.safetensors, which"):
        session.train(config.load(None, elsewhere))


def test_the_best_checkpoint_is_kept_though_it_is_not_the_newest(run: Path) -> None:
    folder = RunFolder(run)
    paths = sorted((run / "checkpoints").glob("step-*"))
    assert len(paths) > 1
    state = json.loads((paths[-1] / checkpoint.STATE).read_text())
    state["training"]["best_step"] = int(paths[0].name.removeprefix("step-"))
    (paths[-1] / checkpoint.STATE).write_text(json.dumps(state))
    cleaning.delete(folder)
    assert folder.best_checkpoint() == paths[0].resolve()
    assert [path.name for path in (run / "checkpoints").glob("step-*")] == [paths[0].name]


def test_a_run_that_another_process_writes_is_refused(run: Path) -> None:
    before = files(run)
    with RunFolder(run).lock():
        status, out, err = call("clean", "--run", str(run), "--yes")
    assert (status, out) == (2, "")
    assert [line for line in err.splitlines() if "writes there" in line]
    assert files(run) >= before - {run / ".writer"}


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda run: (run / "config.yaml").unlink(), "is not the folder of a run"),
    "no checkpoint": (lambda run: shutil.rmtree(run / "checkpoints"), "has no checkpoint yet"),
    "damaged": (
        lambda run: [path.write_bytes(b"") for path in run.rglob("model.safetensors")],
        "nothing is deleted; restore it",
    ),
}


@pytest.mark.parametrize("damage, expected", DAMAGES.values(), ids=DAMAGES)
def test_a_run_that_cannot_predict_is_refused(
    damage: Callable[[Path], object], expected: str, run: Path
) -> None:
    damage(run)
    before = files(run)
    status, out, err = call("clean", "--run", str(run), "--yes")
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert expected in err
    assert files(run) - {run / ".lock", run / ".writer"} == before - {
        run / ".lock", run / ".writer"
    }  # fmt: skip
