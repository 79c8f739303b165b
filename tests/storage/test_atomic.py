"""Files, folders and links appear complete under their name, or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest

from pipeline.storage.atomic import (
    remove_temporary_files,
    replace_link,
    replaced,
    sha256_of,
    sync_path,
    write_file,
)


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are unlinked, except names that do not exist."""
    names: list[str] = []
    unlink = Path.unlink

    def record(path: Path, missing_ok: bool = False) -> None:
        if path.is_symlink() or path.exists():
            names.append(path.name)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", record)
    return names


def test_a_file_is_replaced_without_being_removed(tmp_path: Path, removed: list[str]) -> None:
    path = tmp_path / "deep" / "file"
    write_file(path, "old")
    write_file(path, b"new")
    assert path.read_text() == "new"
    assert not removed
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_a_link_is_replaced_without_being_removed(tmp_path: Path, removed: list[str]) -> None:
    for step in ("step-1", "step-2"):
        (tmp_path / step).mkdir()
        (tmp_path / step / "state").write_text(step)
        replace_link(tmp_path / "best", step)
        assert (tmp_path / "best").readlink() == Path(step)
    assert not removed
    assert (tmp_path / "step-1" / "state").read_text() == "step-1"


def test_a_folder_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for content in ("old", "new"):
        with replaced(path) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [file.name for file in path.iterdir()] == ["new"]


def test_an_error_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, "old")

    def write_half() -> None:
        with replaced(path) as temporary:
            temporary.write_text("half")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        write_half()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_killed_writer_s_temporary_path_is_overwritten_or_removed(tmp_path: Path) -> None:
    (tmp_path / ".file.tmp").mkdir()
    (tmp_path / ".file.tmp" / "half").write_text("half")
    write_file(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / ".other.tmp").write_text("half")
    (tmp_path / "below" / ".link.tmp").symlink_to("..")
    remove_temporary_files(tmp_path)
    assert not list((tmp_path / "below").iterdir())
    assert (tmp_path / "file").exists()


def test_sha256_of_a_file(tmp_path: Path) -> None:
    write_file(tmp_path / "file", "abc")
    assert sha256_of(tmp_path / "file") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS])
def test_a_folder_that_cannot_be_flushed_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As on some network file systems."""
    flushed: list[str] = []

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        flushed.append(Path(f"/proc/self/fd/{handle}").readlink().name)

    monkeypatch.setattr(os, "fsync", fsync)
    sync_path(tmp_path)
    with replaced(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "file").write_text("new")
    assert (tmp_path / "folder" / "file").read_text() == "new"
    assert flushed == ["file"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_failing_disk_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fsync(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    for path in (tmp_path, tmp_path / "file"):
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match=os.strerror(number)):
            sync_path(path)
