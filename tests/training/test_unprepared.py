"""Runs on unprepared tars learn, resume by whole shards, and can be evaluated and predict."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.corpora import SMALL, write_reviews, write_tars
from tests.helpers.processes import call, error_lines, metrics, run

pytestmark = [pytest.mark.slow, pytest.mark.distributed]

Train = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tars")
    write_tars(folder, (50,) * 8 + (20, 30, 60, 90))
    write_tars(folder, (70, 31), name="held", seed=9)
    return folder


@pytest.fixture(scope="module")
def train(tars: Path, corpus: Path) -> Train:
    """A function that trains on the tars, with the prepared corpus's tokenizer."""

    def train(folder: Path, *overrides: str, nproc: int = 1) -> tuple[int, str, str]:
        return run(
            *SMALL, f"corpus.root={tars}", "corpus.input=train-*.tar", "corpus.text=txt",
            "corpus.label=cls", "corpus.label_names=[negative, positive]",
            "corpus.validation=held-*.tar", f"corpus.tokenizer={corpus}/shards/tokenizer.json",
            f"corpus.shards={folder}/unused", "stream.unprepared_rows=600", "stream.batch_rows=24",
            "train.lr=2e-2", "train.checkpoint_every=10", f"run.dir={folder}/run", *overrides,
            nproc=nproc,
        )  # fmt: skip

    return train


@pytest.fixture(scope="module")
def trained(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 3 epochs, started on 3 ranks and resumed twice on 2."""
    folder = tmp_path_factory.mktemp("unprepared")
    notices = []
    for steps, nproc in ((17, 3), (60, 2), (0, 2)):
        status, _, err = train(folder, "train.epochs=3", f"train.max_steps={steps}", nproc=nproc)
        assert status == 0, err
        notices.append(err.count("stream.unprepared_rows: shuffling is approximate"))
        assert err.count("launch/prepare.py") == 1
    assert notices == [1, 1, 1], "one rank of each start reports it once"
    assert not (folder / "unused").exists()
    return folder / "run"


def test_run_learns_and_resumes_by_whole_shards(trained: Path) -> None:
    lines = [line for line in metrics(trained) if "val/accuracy" in line]
    assert [line["step"] for line in lines] == [17, 25, 50, 60, 75], "an epoch is 25 updates"
    assert {line["val/examples"] for line in lines} == {101}
    assert lines[-1]["val/accuracy"] > 0.9
    progress = [line.get("progress/epoch", 0) for line in metrics(trained)]
    assert max(progress) == 3
    state = json.loads((trained / "checkpoints" / "latest" / "state.json").read_text())
    position = state["components"]["stream"]["position"]
    assert position["epoch"] == 3
    assert position["window"] > 12, "the run has read the 12 shards more than once"


def test_run_folder_evaluates_and_predicts(trained: Path, tmp_path: Path) -> None:
    write_reviews(tmp_path / "reviews.csv", 60, seed=5)
    overrides = ["corpus.text=text", "corpus.label=label"]
    arguments = ["--run", str(trained), "--input", str(tmp_path / "reviews.csv"), *overrides]
    status, out, err = call("evaluate", *arguments)
    assert status == 0, err
    assert json.loads(out)["accuracy"] > 0.9
    status, out, err = call("predict", "--run", str(trained), text="a superb film\nhow dull\n")
    assert status == 0, err
    assert [json.loads(line)["label"] for line in out.splitlines()] == ["positive", "negative"]


def test_run_does_not_resume_on_other_shards(train: Train, tars: Path, tmp_path: Path) -> None:
    status, _, err = train(tmp_path, "train.max_steps=2")
    assert status == 0, err
    write_tars(tars, (10,), name="train-x")
    try:
        status, _, err = train(tmp_path, "train.max_steps=3")
    finally:
        (tars / "train-x-0.tar").unlink()
    assert status == 2
    assert f"error: {tars}/train-*.tar: not the dataset that the run in" in err


def test_truncated_shard_is_reported_by_the_rank_that_reads_it(
    train: Train, tars: Path, tmp_path: Path
) -> None:
    content = (tars / "train-2.tar").read_bytes()
    (tars / "train-2.tar").write_bytes(content[:25600])
    try:
        status, _, err = train(tmp_path, nproc=2)
    finally:
        (tars / "train-2.tar").write_bytes(content)
    assert status != 0
    assert any("train-2.tar: ends at byte 25600" in line for line in error_lines(err)), err
    assert "[rank" not in err  # no worker's traceback
