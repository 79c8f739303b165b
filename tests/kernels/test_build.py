"""The C++ loops are compiled once per machine, and replaced by PyTorch if that fails."""

import ctypes
import multiprocessing
from pathlib import Path

import pytest
import torch

from pipeline.kernels import build
from pipeline.storage.locks import file_lock
from tests.helpers.compiled import loads_from

needs_compiler = pytest.mark.skipif(build.library().loaded is None, reason=build.library().reason)


@pytest.fixture(autouse=True)
def cache_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def fresh_library() -> build.Library:
    """Return the library, bypassing the cache of this process."""
    return build.library.__wrapped__()


def test_a_missing_compiler_is_given_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    library = fresh_library()
    assert library.loaded is None
    assert not library.bf16
    description = library.describe(torch.float32)
    assert description == "PyTorch layers (no C++ compiler found; install g++ for faster layers)"


def test_the_compilers_message_is_given_as_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'no such flag' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    assert fresh_library().reason == f"{broken}: no such flag"


def test_the_compiler_named_by_cxx_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    reason = "CXX=no-such-compiler -m64 not found; install g++ for faster layers"
    assert fresh_library().reason == reason


@pytest.mark.parametrize("stderr, reported", [("", "exit status 1"), ("In file\nx: error: y", "y")])
def test_the_error_line_of_the_compilers_output_is_reported(
    stderr: str, reported: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "c++"
    broken.write_text(f"#!/bin/sh\nprintf '{stderr}\n' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    assert reported in fresh_library().reason


@pytest.fixture
def small_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a source that compiles in much less time than the loops."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "scan.cpp").write_text('extern "C" int answer() { return 1; }')
    monkeypatch.setattr(build, "SOURCE_DIR", folder)
    return folder


@pytest.mark.usefixtures("small_source")
@needs_compiler
def test_without_a_home_folder_the_library_is_in_the_temporary_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert fresh_library().loaded
    assert list(tmp_path.glob("headrace-*/scan-*.so"))


@pytest.mark.usefixtures("small_source")
@needs_compiler
def test_a_damaged_library_is_recompiled(monkeypatch: pytest.MonkeyPatch, cache_home: Path) -> None:
    assert fresh_library().loaded
    (intact,) = (cache_home / "headrace").glob("*.so")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home / "other"))
    damaged = cache_home / "other" / "headrace" / intact.name
    damaged.parent.mkdir(parents=True)
    damaged.write_text("junk")
    assert fresh_library().loaded
    assert damaged.stat().st_size == intact.stat().st_size


@needs_compiler
def test_a_changed_source_is_recompiled(cache_home: Path, small_source: Path) -> None:
    assert fresh_library().loaded.answer() == 1  # type: ignore[union-attr]
    assert fresh_library().loaded.answer() == 1  # type: ignore[union-attr]
    (small_source / "scan.cpp").write_text('extern "C" int answer() { return 2; }')
    assert fresh_library().loaded.answer() == 2  # type: ignore[union-attr]
    assert len(list((cache_home / "headrace").glob("*.so"))) == 2


@pytest.mark.slow
@needs_compiler
def test_concurrent_processes_compile_only_once(cache_home: Path, small_source: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(loads_from, [small_source] * 3, chunksize=1) == [True] * 3
    folder = cache_home / "headrace"
    (library,) = folder.glob("*.so")
    assert ctypes.CDLL(str(library)).answer() == 1
    assert {path.suffix for path in folder.iterdir()} == {".so", ".lock"}


@needs_compiler
def test_the_description_depends_on_the_data_type() -> None:
    library = build.library()
    assert library.describe(torch.float32).startswith("C++ loops (")
    fallback = library.describe(torch.float16)
    assert fallback.startswith("PyTorch layers (this CPU has no C++ loop for")


@needs_compiler
def test_a_lock_that_is_never_released_is_given_as_the_reason(
    monkeypatch: pytest.MonkeyPatch, cache_home: Path
) -> None:
    """As where a killed process of another machine has left it, on a file system without flock."""
    monkeypatch.setattr(build, "COMPILER_TIMEOUT", 0.1)
    monkeypatch.setattr(build, "_cache_key", lambda compiler: "key")
    (cache_home / "headrace").mkdir()
    with file_lock(cache_home / "headrace" / "scan-key.lock"):
        assert "scan-key.lock' could not be acquired" in fresh_library().reason
