"""Load the library of C++ loops in another process."""

from pathlib import Path

from pipeline.kernels import build


def loads_from(source_folder: Path) -> bool:
    """Return whether the library that is compiled from a folder can be loaded."""
    build.SOURCE_DIR = source_folder
    return build.library().loaded is not None
