"""The checkpoint format: a checkpoint is complete or ignored, and damage is detected."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from pipeline.components import Source
from pipeline.errors import RunError
from pipeline.run import checkpoint
from pipeline.run.checkpoint import Checkpoint, TrainingState
from pipeline.storage.atomic import sha256_of

MUST_MATCH = {"plan version": 1, "dataset": "abc"}


def content(step: int, best_step: int = 0) -> Checkpoint:
    return Checkpoint(
        weights={"layer.weight": torch.arange(12.0).reshape(3, 4).T},
        training={"optimizer/0/exp_avg": torch.ones(3, dtype=torch.float64)},
        state=TrainingState(step=step, best_step=best_step),
        components={"stream": {"position": {"epoch": 1}}},
        must_match=MUST_MATCH,
    )


def write(folder: Path, step: int, best_step: int = 0) -> Path:
    return checkpoint.write(folder, content(step, best_step), keep=2)


def test_content_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    written = content(step=3)
    written.state = TrainingState(
        step=3, rows=99, best=0.5, since_log=[0.1, 1 / 3], seconds=1.5, precision="bf16"
    )
    path = checkpoint.write(tmp_path, written, keep=2)
    state, components = checkpoint.read_state(path, MUST_MATCH)
    assert (state, components) == (written.state, written.components)
    assert checkpoint.precision_of(path) == "bf16"
    for expected, found in (
        (written.weights, checkpoint.read_weights(path)),
        (written.training, checkpoint.read_training(path)),
    ):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert all(found[name].dtype == expected[name].dtype for name in expected)


@pytest.mark.parametrize("name", [*checkpoint.FILES, "MANIFEST.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damaged_newest_checkpoint_is_skipped(tmp_path: Path, name: str, damage: str) -> None:
    good, bad = write(tmp_path, 1), write(tmp_path, 2)
    data = bytearray((bad / name).read_bytes())
    if damage == "remove":
        (bad / name).unlink()
    elif damage == "truncate":
        (bad / name).write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 1
        (bad / name).write_bytes(data)
    path, lines = checkpoint.newest(tmp_path)
    assert path == good
    assert len(lines) == 1
    assert str(bad) in lines[0]


def test_error_if_no_checkpoint_verifies(tmp_path: Path) -> None:
    """Training must not start at step 0 and overwrite them."""
    (write(tmp_path, 1) / "model.safetensors").unlink()
    with pytest.raises(RunError, match="no checkpoint verifies"):
        checkpoint.newest(tmp_path)


def test_newest_and_best_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in range(1, 8):
        write(tmp_path, step, best_step=3 if step >= 3 else 0)
    names = sorted(path.name for path in tmp_path.glob("step-*"))
    assert names == ["step-00000003", "step-00000006", "step-00000007"]
    assert (tmp_path / "best").readlink().name == "step-00000003"
    assert (tmp_path / "latest").readlink().name == "step-00000007"


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_checkpoints_are_written_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    """As on a file system without symbolic links; links of an earlier step would mislead."""

    def symlink(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    caplog.set_level("INFO", logger="pipeline")
    write(tmp_path, 1, best_step=1)
    monkeypatch.setattr(os, "symlink", symlink)
    for step in range(2, 8):
        write(tmp_path, step, best_step=3 if step >= 3 else 1)
    names = ["step-00000003", "step-00000006", "step-00000007"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name, found in (("best", names[0]), ("latest", names[-1])):
        assert checkpoint.latest_and_best(tmp_path)[name].name == found
        assert checkpoint.resolve(tmp_path / name) == tmp_path / found
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path}: no links `latest` and `best` ({os.strerror(number)})")


def test_folders_in_the_place_of_links_are_replaced(tmp_path: Path) -> None:
    """They are copies: `cp -rL` follows links."""
    for step in (1, 2):
        write(tmp_path / "original", step, best_step=1)
    copy = Path(shutil.copytree(tmp_path / "original", tmp_path / "copy"))
    assert not (copy / "best").is_symlink()
    assert checkpoint.newest(copy) == (copy / "step-00000002", [])
    write(copy, 3, best_step=1)
    assert (copy / "best").readlink().name == "step-00000001"
    assert (copy / "latest").readlink().name == "step-00000003"
    names = sorted(path.name for path in copy.glob("step-*"))
    assert names == ["step-00000001", "step-00000002", "step-00000003"]


def test_a_copy_of_links_alone_gets_its_steps_back(tmp_path: Path) -> None:
    for step in (1, 2):
        write(tmp_path / "original", step, best_step=1)
    copy = tmp_path / "copy"
    for name in ("latest", "best"):
        shutil.copytree(tmp_path / "original" / name, copy / name)
    checkpoint.restore_copied(copy)
    assert sorted(path.name for path in copy.iterdir()) == ["step-00000001", "step-00000002"]
    assert checkpoint.newest(copy) == (copy / "step-00000002", [])


def test_failed_write_leaves_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = write(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "sha256_of", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path, 2)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", good.name]
    assert checkpoint.newest(tmp_path) == (good, [])


def test_full_disk_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> str:
        raise OSError(28, "No space left on device")

    good = write(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "sha256_of", fail)
    with pytest.raises(RunError, match=r"step-00000002: .*No space left.*; earlier checkpoints"):
        write(tmp_path, 2)
    monkeypatch.undo()
    assert checkpoint.newest(tmp_path) == (good, [])


def test_temporary_folder_of_a_killed_process_is_ignored_and_removed(tmp_path: Path) -> None:
    good = write(tmp_path, 1)
    temporary = tmp_path / ".step-00000002.tmp"
    shutil.copytree(good, temporary)
    assert checkpoint.newest(tmp_path) == (good, [])
    write(tmp_path, 3)
    assert not temporary.exists()


def test_another_dataset_key_or_format_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    with pytest.raises(RunError, match="written with dataset abc, now it is xyz"):
        checkpoint.read_state(path, MUST_MATCH | {"dataset": "xyz"})
    text = (path / "state.json").read_text()
    (path / "state.json").write_text(text.replace('"stale"', '"stal"'))
    with pytest.raises(RunError, match="'stal'"):
        checkpoint.read_state(path, MUST_MATCH)
    (path / "state.json").write_text(text.replace(f'"format": {checkpoint.FORMAT}', '"format": 99'))
    with pytest.raises(RunError, match="format 99"):
        checkpoint.read_state(path, MUST_MATCH)


def test_a_checkpoint_has_the_code_of_the_runs_components(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file = tmp_path / "mine.py"
    file.write_text("x = 1\n")
    digest = sha256_of(file)
    written = content(step=1)
    written.sources = [Source("cell", "mine.py:Mine", file, digest, is_file=True, version="")]
    path = checkpoint.write(tmp_path / "checkpoints", written, keep=2)
    record = json.loads((path / "code.json").read_text())
    assert record["mine.py:Mine"]["sha256"] == digest
    copy = path / record["mine.py:Mine"]["file"]
    assert copy.read_bytes() == file.read_bytes()
    assert checkpoint.damage(path) == ""
    copy.write_text("x = 2\n")
    assert checkpoint.damage(path).startswith(f"code/{copy.name} does not have the checksum")
