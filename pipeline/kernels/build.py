"""Compiles the C++ loops on first use, caches the library on disk and loads it.

This needs a C++17 compiler with GCC's vector extensions: g++, clang++ or the one that CXX names. If
there is no compiler, or the compiled library does not load, `library()` returns the reason and
callers fall back to PyTorch operations.
"""

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import torch

from pipeline.storage.atomic import replaced
from pipeline.storage.locks import file_lock

SOURCE_DIR = Path(__file__).parent
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared")
DTYPES = (torch.float64, torch.float32, torch.bfloat16)
"""Data types in the order of their numbers in scan.cpp."""
CPU_FACTS = Path("/proc/cpuinfo")
"""Facts about each CPU core, in lines of `key : value`."""
MAX_FACTS = 40
"""Lines of CPU_FACTS that are read; the first core has fewer."""
CPU_KEYS = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU ")
"""First words of the keys that determine the instructions: of x86, and of ARM."""
COMPILER_TIMEOUT = 120
"""Seconds after which the compiler is stopped and compilation counts as failed."""


@dataclass(frozen=True)
class Library:
    """The loaded C++ library, or the reason why there is none."""

    loaded: ctypes.CDLL | None
    reason: str = ""

    @property
    def vector_bytes(self) -> int:
        """Size in bytes of the vector registers that the library uses; 0 without a library."""
        return self.loaded.vector_bytes() if self.loaded else 0

    @property
    def bf16(self) -> bool:
        """Whether the CPU has bf16 multiplication."""
        return bool(self.loaded and self.loaded.multiplies_bf16())

    def supports(self, dtype: torch.dtype) -> bool:
        """Return whether this machine has a C++ loop for a data type."""
        return self.loaded is not None and dtype in DTYPES[: 2 + self.bf16]

    def describe(self, dtype: torch.dtype) -> str:
        """Describe, for the log, how recurrent layers run in a data type."""
        if self.supports(dtype):
            return f"C++ loops ({8 * self.vector_bytes}-bit vectors)"
        return f"PyTorch layers ({self.reason or f'this CPU has no C++ loop for {dtype}'})"


@cache
def library() -> Library:
    """Return the C++ library; the first process to need it on a machine compiles it."""
    cxx = shlex.split(os.environ.get("CXX", ""))
    compiler = cxx or [next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), "")]
    if not shutil.which(compiler[0]):
        missing = f"CXX={' '.join(cxx)} not found" if cxx else "no C++ compiler found"
        return Library(None, f"{missing}; install g++ for faster layers")
    try:
        path = _cache_dir() / f"scan-{_cache_key(compiler)}.so"
        with suppress(OSError):  # missing or damaged
            return Library(ctypes.CDLL(str(path)))
        with file_lock(path.with_suffix(".lock")).acquire(timeout=2 * COMPILER_TIMEOUT):
            if path.exists():
                try:
                    return Library(ctypes.CDLL(str(path)))
                except OSError:  # damaged file
                    path.unlink()
            _compile(compiler, path)
            return Library(ctypes.CDLL(str(path)))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return Library(None, f"{compiler[0]}: {_summarize(error)}")


def _compile(compiler: list[str], path: Path) -> None:
    """Compile to `path`, which appears when the library is complete. Callers hold its lock."""
    with replaced(path) as temporary:
        _run(*compiler, *FLAGS, "-o", str(temporary), str(SOURCE_DIR / "scan.cpp"))


def _summarize(error: Exception) -> str:
    """Return the most informative line of an error: the compiler's first line with "error"."""
    stderr = getattr(error, "stderr", None) or ""
    text = stderr.decode(errors="replace") if isinstance(stderr, bytes) else stderr
    lines = [line.strip() for line in text.splitlines() if line.strip()] or str(error).splitlines()
    return next((line for line in lines if "error" in line), lines[0] if lines else repr(error))


def _cache_key(compiler: list[str]) -> str:
    """Hash the flags, the sources, the compiler and this machine's instruction set."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in sorted(SOURCE_DIR.glob("*.[ch]*")):
        digest.update(source.read_bytes())
    digest.update(_instruction_set(compiler).encode())
    return digest.hexdigest()[:20]


def _instruction_set(compiler: list[str]) -> str:
    """Return the compiler and the instructions of this CPU.

    The compiler is not started where Linux lists the instructions: each process would wait for it.
    """
    try:
        with CPU_FACTS.open() as file:
            facts = [line for line in islice(file, MAX_FACTS) if line.startswith(CPU_KEYS)]
    except OSError:
        facts = []
    if not facts:
        return _run(*compiler, *FLAGS, "-x", "c++", "-dM", "-E", os.devnull)
    program = Path(shutil.which(compiler[0]) or compiler[0]).resolve()
    status = program.stat()
    return f"{compiler} {program} {status.st_size} {status.st_mtime_ns} {facts}"


def _cache_dir() -> Path:
    """Return the user's cache folder, or one in the temporary folder if that is not writable.

    Raises OSError if neither is a writable folder of this user.
    """
    folders = [Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}"]
    if home := os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME"):
        user_cache = Path(home) if "XDG_CACHE_HOME" in os.environ else Path(home) / ".cache"
        folders.insert(0, user_cache / "headrace")
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
                return folder
        except OSError:
            continue
    raise OSError(f"cannot write to {' or '.join(map(str, folders))}")


def _run(*command: str) -> str:
    """Run a command and return its standard output."""
    completed = subprocess.run(
        command, check=True, capture_output=True, timeout=COMPILER_TIMEOUT, encoding="utf-8",
        errors="replace",
    )  # fmt: skip
    return completed.stdout
