"""Files of an output appear whole or not at all, in a folder and at a URL."""

import os
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest

from pipeline.errors import DatasetError
from pipeline.storage.output import LocalOutput, Output, open_output


@pytest.fixture(params=["folder", "url"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    return open_output(
        str(tmp_path / "out") if request.param == "folder" else f"memory://{uuid4()}"
    )


def test_files_are_put_listed_and_read(output: Output) -> None:
    assert output.sizes() == {}
    output.put("a.txt", b"one")
    output.put("inner/b.txt", b"two")
    output.put("a.txt", b"three")
    assert output.sizes() == {"a.txt": 5, "inner/b.txt": 3}
    assert output.read(["inner/b.txt", "a.txt"]) == [b"two", b"three"]
    assert (output.has("a.txt"), output.has("c.txt"), output.read([])) == (True, False, [])
    with pytest.raises(DatasetError, match=f"--output {output.location}: cannot be read: "):
        output.read(["c.txt"])


def test_an_interrupted_write_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = LocalOutput(tmp_path)
    output.put("a.txt", b"old")

    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(DatasetError, match="cannot be written: No space left on device; nothing"):
        output.put("a.txt", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    output = LocalOutput(tmp_path)
    (tmp_path / "inner").mkdir()
    old, new = tmp_path / "inner/.a.txt.1-1.tmp", tmp_path / ".b.txt.1-2.tmp"
    old.write_text("x")
    new.write_text("x")
    start = time.time() - 60
    os.utime(old, (start - 1, start - 1))
    assert output.sizes() == {}
    output.remove_temporary(start)
    assert (old.exists(), new.exists()) == (False, True)


def test_several_threads_may_write_the_same_file(tmp_path: Path) -> None:
    output = LocalOutput(tmp_path)
    errors: list[BaseException] = []

    def put() -> None:
        try:
            for _ in range(30):
                output.put("a.txt", b"same" * 1000)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=put) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert output.sizes() == {"a.txt": 4000}


def test_an_unknown_kind_of_url_is_one_line() -> None:
    with pytest.raises(DatasetError, match="nothing://a: cannot be opened: "):
        open_output("nothing://a")


def test_passwords_in_a_url_are_not_shown() -> None:
    assert open_output("memory://user:secret@host/a").location == "memory://host/a"
