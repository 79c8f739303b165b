"""Compiles the C++ loops on the machine they run on, once, and loads them.

Wants a C++17 compiler with GCC's vector extensions (g++ or clang++; CXX names another). Without
one, or where the compiled library does not load, there is a reason instead of a library, and
callers go by torch's own operations.
"""

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock

SOURCES = Path(__file__).parent
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared")
TYPES = (torch.float64, torch.float32, torch.bfloat16)
"""In the order of scan.cpp."""
SECONDS = 120
"""A compiler that takes longer is given up."""


@dataclass(frozen=True)
class Library:
    """The compiled loops, or why there are none."""

    loaded: ctypes.CDLL | None
    reason: str = ""

    @property
    def vector_bytes(self) -> int:
        """Bytes of the vector registers in use."""
        return self.loaded.vector_bytes() if self.loaded else 0

    @property
    def bf16(self) -> bool:
        """Whether the machine multiplies in bf16."""
        return bool(self.loaded and self.loaded.multiplies_bf16())

    def runs(self, dtype: torch.dtype) -> bool:
        """Whether there is a loop for this type on this machine."""
        return self.loaded is not None and dtype in TYPES[: 2 + self.bf16]

    def described(self, dtype: torch.dtype) -> str:
        """What recurrent layers run by in this type."""
        if self.runs(dtype):
            return f"native loops of {8 * self.vector_bytes} bits"
        return f"torch's own loops ({self.reason or f'no native ones for {dtype} here'})"


@cache
def library() -> Library:
    """Compiled at the first call on a machine, by one of its processes, and cached on disk."""
    named = shlex.split(os.environ.get("CXX", ""))
    compiler = named or [next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), "")]
    if not shutil.which(compiler[0]):
        missing = f"CXX={' '.join(named)} is not found" if named else "no C++ compiler"
        return Library(None, f"{missing}; install g++ for faster ones")
    try:
        path = _folder() / f"scan-{_key(compiler)}.so"
        with FileLock(path.with_suffix(".lock")):
            if path.exists():
                try:
                    return Library(ctypes.CDLL(str(path)))
                except OSError:  # damaged
                    path.unlink()
            _compile(compiler, path)
            return Library(ctypes.CDLL(str(path)))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return Library(None, f"{compiler[0]}: {_told(error)}")


def _compile(compiler: list[str], path: Path) -> None:
    number, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    os.close(number)
    try:
        _run(*compiler, *FLAGS, "-o", partial, str(SOURCES / "scan.cpp"))
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)


def _told(error: Exception) -> str:
    """The line of a failure that says most."""
    told = getattr(error, "stderr", None) or ""
    lines = (told.decode(errors="replace") if isinstance(told, bytes) else told).splitlines()
    lines = [line.strip() for line in lines if line.strip()] or str(error).splitlines()
    return next((line for line in lines if "error" in line), lines[0] if lines else repr(error))


def _key(compiler: list[str]) -> str:
    """Changes with the source, the compiler and the instructions that this machine has."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in sorted(SOURCES.glob("*.[ch]*")):
        digest.update(source.read_bytes())
    digest.update(_run(*compiler, *FLAGS, "-x", "c++", "-dM", "-E", os.devnull).encode())
    return digest.hexdigest()[:20]


def _folder() -> Path:
    """The user's cache, or one in the temporary folder where that cannot be written."""
    folders = [Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}"]
    if home := os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME"):
        own = Path(home) if "XDG_CACHE_HOME" in os.environ else Path(home) / ".cache"
        folders.insert(0, own / "headrace")
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
                return folder
        except OSError:
            continue
    raise OSError(f"none of {', '.join(map(str, folders))} can be written")


def _run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, timeout=SECONDS, text=True)
    return done.stdout
