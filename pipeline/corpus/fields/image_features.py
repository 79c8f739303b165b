"""Precomputed image features in .npy files."""

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
"""By version of the format. Version 3 is only for arrays with named columns."""


def decode(data: bytes, width: int) -> NDArray[np.float32] | None:
    """Decode a .npy file of an image's features to [S, F]: S regions, F = `width` features.

    The array may be [S, F], [H, W, F] or [F] floating-point numbers. Returns None if the file is
    broken or has a number that is not finite in float32. Raises InputError if F is not `width`.
    """
    file = io.BytesIO(data)
    try:
        shape, fortran_order, dtype = HEADERS[npy.read_magic(file)](file)
    except Exception:  # numpy may raise any exception on a broken file
        return None
    if dtype.kind != "f" or not 1 <= len(shape) <= 3 or not prod(shape):
        return None
    if prod(shape) * dtype.itemsize != len(data) - file.tell():
        return None
    if shape[-1] != width:
        raise InputError(
            f"corpus.features={width}: an array of shape {list(shape)} has {shape[-1]} "
            f"features per region; use arrays with {width}, or prepare with corpus.features="
            f"{shape[-1]}"
        )
    array = np.frombuffer(data, dtype, offset=file.tell()).reshape(
        shape, order="F" if fortran_order else "C"
    )
    with np.errstate(over="ignore"):
        regions = array.reshape(-1, width).astype(np.float32)
    return regions if np.isfinite(regions).all() else None
