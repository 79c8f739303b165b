"""Compiles the C++ loops on the machine they run on, once, and loads them.

Wants a C++17 compiler with GCC's vector extensions (g++ or clang++; CXX names another). Without
one, or where the compiled library does not load, there is a reason instead of a library, and
callers go by torch's own operations.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock

SOURCES = Path(__file__).parent
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared")
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

    def __str__(self) -> str:
        if not self.loaded:
            return f"torch's own loops ({self.reason})"
        return f"native loops of {8 * self.vector_bytes} bits{', bf16' if self.bf16 else ''}"


@cache
def library() -> Library:
    """Compiled at the first call on a machine, by one of its processes, and cached on disk."""
    compiler = shutil.which(os.environ.get("CXX") or "c++") or shutil.which("g++")
    if not compiler:
        return Library(None, "no C++ compiler; install g++ for faster ones")
    try:
        path = _folder() / f"scan-{_key(compiler)}.so"
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                partial = path.with_suffix(f".{os.getpid()}")
                _run(compiler, *FLAGS, "-o", str(partial), str(SOURCES / "scan.cpp"))
                partial.replace(path)
        return Library(ctypes.CDLL(str(path)))
    except (OSError, subprocess.SubprocessError) as error:
        told = (getattr(error, "stderr", None) or str(error)).strip()
        return Library(None, f"{compiler}: {told.splitlines()[0]}")


def _key(compiler: str) -> str:
    """Changes with the source, the compiler and the instructions that this machine has."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in sorted(SOURCES.glob("*.[ch]*")):
        digest.update(source.read_bytes())
    digest.update(_run(compiler, *FLAGS, "-x", "c++", "-dM", "-E", os.devnull).encode())
    return digest.hexdigest()[:20]


def _folder() -> Path:
    """The user's cache, or the temporary folder where that cannot be written."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    user = Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}"
    for folder in (home / "headrace", user):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    raise OSError(f"neither {home} nor {user.parent} can be written")


def _run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, timeout=SECONDS, text=True)
    return done.stdout
