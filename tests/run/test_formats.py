"""Files on disk, as docs/formats.md describes them: what this version must read, and refuses.

`format_4` is a dataset and a run that were written when format 4 was new. They are never written
again: a version that does not read them must raise the format's number. The corpus has 48 reviews
such as "film dull dull 0", as bytes; the run is stopped in an epoch, at step 19 of 32.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import load_run_config
from pipeline.corpus.dataset.manifest import open_dataset
from pipeline.errors import RunError
from pipeline.inference.model import load
from pipeline.run import checkpoint
from pipeline.run.folder import RunFolder
from pipeline.run.summary import read_summary
from pipeline.stream.reader import Reader
from tests.helpers.processes import call, metrics

FORMAT_4 = Path(__file__).parent / "format_4"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with `dataset` and `run`."""
    return Path(shutil.copytree(FORMAT_4, tmp_path / "format_4", symlinks=True))


def resume(folder: Path) -> tuple[int, str, str]:
    paths = [f"run.dir={folder / 'run'}", f"corpus.shards={folder / 'dataset'}"]
    config = str(folder / "run" / "config.yaml")
    return call("train", "--config", config, *paths, "train.max_steps=0")


def test_a_dataset_of_format_4_is_read() -> None:
    manifest = open_dataset(FORMAT_4 / "dataset")
    texts = {}
    for split, rows in (("train", 34), ("validation", 14)):
        reader = Reader(manifest, split)
        for block in reader.blocks(reader.index.read(np.arange(reader.index.blocks))):
            assert block is not None
            for tokens, label in zip(*(c.to_pylist() for c in block.columns), strict=True):
                texts[manifest.decode("tokenizer", tokens)] = manifest.names["label"][label]
        assert manifest.splits[split].rows == rows
    assert len(texts) == 48
    assert texts["film dull dull 0"] == "negative"
    assert texts["the the lovely fine 1"] == "positive"
    fingerprint = "add63d340e6395158c442fef4a15769d685813ce0d03df73d9ef92382e29a546"
    assert manifest.fingerprint == fingerprint


def test_a_run_of_format_4_predicts() -> None:
    """With its best checkpoint, which is not its latest."""
    folder = FORMAT_4 / "run"
    predictor = load(folder)
    positive, negative = predictor.predict(["a lovely film", "the dull plot"])
    assert positive["label"] == "positive"
    assert positive["probability"] == pytest.approx(0.737992, abs=1e-4)
    assert negative["label"] == "negative"
    assert negative["probability"] == pytest.approx(0.833586, abs=1e-4)


def test_a_run_of_format_4_resumes(copy: Path) -> None:
    """From the middle of an epoch, as long as the plan version is still 2."""
    before = metrics(copy / "run")
    status, out, err = resume(copy)
    assert status == 0, err
    assert f"resuming from {copy}/run/checkpoints/step-00000019" in err
    assert "accuracy 1.0000 at step 32" in out
    lines = metrics(copy / "run")
    assert lines[: len(before)] == before
    (last,) = [line for line in lines if line["step"] == 32 and "train/loss" in line]
    assert last["train/loss"] == pytest.approx(0.0759201, abs=1e-4)


def test_a_summary_of_format_4_is_read() -> None:
    summary = read_summary(RunFolder(FORMAT_4 / "run"))
    assert summary is not None
    assert summary.lines()[0] == ("validation  accuracy 1.0000 at step 19, best 1.0000 at step 16")


def to_format_3(path: Path) -> None:
    """Give a checkpoint the files of format 3, with valid checksums."""
    (path / "training.safetensors").rename(path / "optimizer.safetensors")
    write_format(path, 3)


def to_format_5(path: Path) -> None:
    write_format(path, 5)


def write_format(path: Path, number: int) -> None:
    state = json.loads((path / "state.json").read_text()) | {"format": number}
    (path / "state.json").write_text(json.dumps(state))
    files = [file for file in path.iterdir() if file.name != "MANIFEST.json"]
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    (path / "MANIFEST.json").write_text(json.dumps(digests))


def refusal(path: Path, number: str) -> str:
    return (
        f"{path}: has checkpoint format {number}, but this version reads 4; use the version that "
        f"wrote it, or another run.dir"
    )


OTHER_FORMATS = {"3": to_format_3, "5": to_format_5}


@pytest.mark.parametrize("number", OTHER_FORMATS)
def test_a_checkpoint_of_another_format_is_refused_in_one_line(copy: Path, number: str) -> None:
    """Whoever asks for it. It is not reported as damaged: its files are intact."""
    folder = RunFolder(copy / "run")
    for path in folder.checkpoints.glob("step-*"):
        OTHER_FORMATS[number](path)
    latest, best = folder.checkpoints / "step-00000019", folder.best_checkpoint()
    requests: dict[Path, Callable[[], object]] = {
        latest: lambda: checkpoint.newest(folder.checkpoints),
        best: lambda: load(folder.path),
    }
    for path, request in requests.items():
        with pytest.raises(RunError) as error:
            request()
        assert error.value.lines == [refusal(path, number)]


def test_a_run_with_a_checkpoint_of_another_format_is_left_unchanged(copy: Path) -> None:
    to_format_3(copy / "run" / "checkpoints" / "step-00000019")
    files = {path: path.read_bytes() for path in (copy / "run").rglob("*.*") if path.is_file()}
    status, _, err = resume(copy)
    assert status == 2
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert errors == [f"error: {refusal(copy / 'run' / 'checkpoints' / 'step-00000019', '3')}"]
    assert {path: path.read_bytes() for path in files} == files


def test_a_renamed_key_in_a_config_is_named(copy: Path) -> None:
    path = copy / "run" / "config.yaml"
    path.write_text(path.read_text().replace("shuffle_window:", "window:"))
    with pytest.raises(RunError, match=r"this key is now named stream\.shuffle_window") as error:
        load_run_config(path)
    assert len(error.value.lines) == 1
    assert str(path) in error.value.lines[0]


def test_a_config_with_several_old_keys_is_refused_in_one_line(copy: Path) -> None:
    """Whoever reads it. The dataset of the run is left as it is."""
    path = copy / "run" / "config.yaml"
    text = path.read_text().replace("shuffle_window:", "window:").replace("max_grad_norm:", "clip:")
    path.write_text(text)
    with pytest.raises(RunError) as error:
        load_run_config(path)
    (line,) = error.value.lines
    assert line.startswith(f"{path}: was written by an earlier version: 2 of its keys")
    assert line.endswith("; use the version that wrote the run")


@pytest.mark.parametrize("content", ["{", '{"step": 1}'])
def test_a_summary_of_another_version_is_refused_in_one_line(copy: Path, content: str) -> None:
    folder = RunFolder(copy / "run")
    folder.summary.write_text(content)
    with pytest.raises(RunError, match=r"summary\.json: cannot be read .*delete it") as error:
        read_summary(folder)
    assert len(error.value.lines) == 1
