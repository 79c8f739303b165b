"""Features of images that another network made, as numpy writes them."""

import io

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

MAGIC = b"\x93NUMPY"


def decode(data: bytes, width: int) -> NDArray[np.float32] | None:
    """The features [S, F] of the S regions of an image, from a .npy file of them; None if it is
    broken, or they are not finite in float32.

    Raises InputError unless a region has `width` features.
    """
    try:
        found = np.load(io.BytesIO(data), allow_pickle=False)
    except MemoryError:
        raise
    except Exception:  # whatever the bytes of a broken file lead numpy to
        return None
    if not isinstance(found, np.ndarray) or found.dtype.kind != "f" or not 1 <= found.ndim <= 3:
        return None
    if found.shape[-1] != width:
        raise InputError(
            f"corpus.features={width}: an array of the shape {list(found.shape)} has "
            f"{found.shape[-1]} features a region; set corpus.features={found.shape[-1]}, or give "
            "files that are all alike"
        )
    with np.errstate(over="ignore"):
        regions = found.reshape(-1, width).astype(np.float32)
    return regions if len(regions) and np.isfinite(regions).all() else None
