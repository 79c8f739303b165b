"""Real runs on tars that nobody prepared: they learn, go on where they were stopped, and serve."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.corpora import SMALL, write_reviews, write_tars
from tests.helpers.processes import metrics, run
from tests.launch.test_entry_points import launch

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tars")
    write_tars(folder, (50,) * 8 + (20, 30, 60, 90))
    write_tars(folder, (70, 31), name="held", seed=9)
    return folder


@pytest.fixture(scope="module")
def direct(tars: Path, corpus: Path) -> Run:
    """Train on the tars; the tokenizer is that of the prepared corpus."""

    def direct(folder: Path, *overrides: str, nproc: int = 1) -> tuple[int, str, str]:
        return run(
            *SMALL, f"corpus.root={tars}", "corpus.input=train-*.tar", "corpus.text=txt",
            "corpus.label=cls", "corpus.label_names=[negative, positive]",
            "corpus.validation=held-*.tar", f"corpus.tokenizer={corpus}/shards/tokenizer.json",
            f"corpus.shards={folder}/unused", "stream.unprepared_rows=600", "stream.batch_rows=24",
            "train.lr=2e-2", "train.checkpoint_every=10", f"run.dir={folder}/run", *overrides,
            nproc=nproc,
        )  # fmt: skip

    return direct


@pytest.fixture(scope="module")
def trained(direct: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 3 epochs on 2 ranks, which was stopped twice and begun by 3."""
    folder = tmp_path_factory.mktemp("direct")
    warnings = []
    for steps, nproc in ((17, 3), (60, 2), (0, 2)):
        status, _, err = direct(folder, "train.epochs=3", f"train.max_steps={steps}", nproc=nproc)
        assert status == 0, err
        warnings.append(
            err.count("warning: stream.unprepared_rows: rows are shuffled in part only")
        )
        assert err.count("launch/prepare.py") == 1
    assert warnings == [1, 1, 1], "each start warns once, on one rank"
    assert not (folder / "unused").exists()
    return folder / "run"


def test_a_run_learns_and_goes_on_by_shards(trained: Path) -> None:
    lines = [line for line in metrics(trained) if "val/accuracy" in line]
    assert [line["step"] for line in lines] == [17, 25, 50, 60, 75], "an epoch is 25 updates"
    assert {line["val/examples"] for line in lines} == {101}
    assert lines[-1]["val/accuracy"] > 0.9
    progress = [line.get("progress/epoch", 0) for line in metrics(trained)]
    assert max(progress) == 3
    state = json.loads((trained / "checkpoints" / "latest" / "state.json").read_text())["state"]
    assert state["position"]["epoch"] == 3
    assert state["position"]["window"] > 12, "more than one pass over the 12 shards is done"


def test_its_folder_serves(trained: Path, tmp_path: Path) -> None:
    write_reviews(tmp_path / "reviews.csv", 60, seed=5)
    overrides = ["corpus.text=text", "corpus.label=label"]
    given = ["--run", str(trained), "--input", str(tmp_path / "reviews.csv"), *overrides]
    status, out, err = launch("evaluate.py", *given)
    assert status == 0, err
    assert json.loads(out)["accuracy"] > 0.9
    status, out, err = launch("predict.py", "--run", str(trained), text="a superb film\nhow dull\n")
    assert status == 0, err
    assert [json.loads(line)["label"] for line in out.splitlines()] == ["positive", "negative"]


def test_other_shards_are_not_gone_on_with(direct: Run, tars: Path, tmp_path: Path) -> None:
    status, _, err = direct(tmp_path, "train.max_steps=2")
    assert status == 0, err
    write_tars(tars, (10,), name="train-x")
    try:
        status, _, err = direct(tmp_path, "train.max_steps=3")
    finally:
        (tars / "train-x-0.tar").unlink()
    assert status == 2
    assert f"error: {tars}/train-*.tar: not the dataset that the run in" in err


def test_a_cut_shard_is_named_by_the_rank_that_meets_it(
    direct: Run, tars: Path, tmp_path: Path
) -> None:
    whole = (tars / "train-2.tar").read_bytes()
    (tars / "train-2.tar").write_bytes(whole[:25600])
    try:
        status, _, err = direct(tmp_path, nproc=2)
    finally:
        (tars / "train-2.tar").write_bytes(whole)
    assert status != 0
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert any("train-2.tar: ends at byte 25600" in line for line in errors)
    assert "[rank" not in err  # no worker's traceback
