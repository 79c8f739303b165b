"""Features of images that another network made, as numpy writes them."""

import io
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pipeline.errors import InputError

MAGIC = npy.MAGIC_PREFIX
HEADERS: dict[tuple[int, int], Callable[[Any], Any]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}
"""A later version is of arrays whose columns have names."""


def decode(data: bytes, width: int) -> NDArray[np.float32] | None:
    """The features [S, F] of the S regions of an image, from a .npy file of them; None if it is
    broken, or they are not finite in float32.

    Raises InputError unless a region has `width` features.
    """
    file = io.BytesIO(data)
    try:
        shape, by_column, kind = HEADERS[npy.read_magic(file)](file)
    except Exception:  # whatever the bytes of a broken file lead numpy to
        return None
    if kind.kind != "f" or not 1 <= len(shape) <= 3 or not prod(shape):
        return None
    if prod(shape) * kind.itemsize != len(data) - file.tell():
        return None
    if shape[-1] != width:
        raise InputError(
            f"corpus.features={width}: an array of the shape {list(shape)} has {shape[-1]} "
            f"features a region; give arrays of {width}, or prepare with corpus.features="
            f"{shape[-1]}"
        )
    found = np.frombuffer(data, kind, offset=file.tell()).reshape(
        shape, order="F" if by_column else "C"
    )
    with np.errstate(over="ignore"):
        regions = found.reshape(-1, width).astype(np.float32)
    return regions if np.isfinite(regions).all() else None
