"""The native loops are compiled once, and done without where they cannot be."""

import ctypes
import multiprocessing
from pathlib import Path

import pytest
import torch

from pipeline.kernels import build

needs_compiler = pytest.mark.skipif(build.library().loaded is None, reason=build.library().reason)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def fresh() -> build.Library:
    return build.library.__wrapped__()


def test_without_a_compiler_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = fresh()
    assert found.loaded is None
    assert not found.bf16
    told = found.described(torch.float32)
    assert told == "torch's own loops (no C++ compiler; install g++ for faster ones)"


def test_what_a_compiler_says_is_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'no such flag' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    assert fresh().reason == f"{broken}: no such flag"


def test_a_compiler_that_is_named_is_the_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    reason = "CXX=no-such-compiler -m64 is not found; install g++ for faster ones"
    assert fresh().reason == reason


@pytest.mark.parametrize("says, told", [("", "exit status 1"), ("In file\nx: error: y", "y")])
def test_of_what_it_says_the_error_is_told(
    says: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "c++"
    broken.write_text(f"#!/bin/sh\nprintf '{says}\n' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    assert told in fresh().reason


@needs_compiler
def test_without_a_home_it_lies_in_the_temporary_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert fresh().loaded
    assert list(tmp_path.glob("headrace-*/scan-*.so"))


@needs_compiler
def test_a_damaged_library_is_compiled_again(
    monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    assert fresh().loaded
    (whole,) = (own_cache / "headrace").glob("*.so")
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_cache / "other"))
    damaged = own_cache / "other" / "headrace" / whole.name
    damaged.parent.mkdir(parents=True)
    damaged.write_text("junk")
    assert fresh().loaded
    assert damaged.stat().st_size == whole.stat().st_size


@needs_compiler
def test_a_change_of_the_source_is_compiled_anew(
    monkeypatch: pytest.MonkeyPatch, own_cache: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    (tmp_path / "scan.cpp").write_text('extern "C" int answer() { return 1; }')
    assert fresh().loaded.answer() == 1  # type: ignore[union-attr]
    assert fresh().loaded.answer() == 1  # type: ignore[union-attr]
    (tmp_path / "scan.cpp").write_text('extern "C" int answer() { return 2; }')
    assert fresh().loaded.answer() == 2  # type: ignore[union-attr]
    assert len(list((own_cache / "headrace").glob("*.so"))) == 2


@needs_compiler
def test_many_processes_at_once_compile_it_once(own_cache: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert pool.map(compiled, range(4)) == [True] * 4
    folder = own_cache / "headrace"
    (library,) = folder.glob("*.so")
    assert ctypes.CDLL(str(library)).vector_bytes() in (16, 32, 64)
    assert {path.suffix for path in folder.iterdir()} == {".so", ".lock"}


def compiled(_: int) -> bool:
    return build.library().loaded is not None


@needs_compiler
def test_what_runs_is_told_for_the_type_in_use() -> None:
    found = build.library()
    assert found.described(torch.float32).startswith("native loops of ")
    assert found.described(torch.float16).startswith("torch's own loops (no native ones for")
