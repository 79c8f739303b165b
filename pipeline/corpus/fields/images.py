"""Images as steps: a row of pixels each, a single pixel, or a square patch, from the upper left
corner on, row by row.

Legend: H rows and W columns of pixels, K channels; T steps, F figures of a step; P the side of a
patch.
"""

import io
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.readers.idx import image_shape, pixel_offset
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import InputError

MOST_PIXELS = 1 << 26
"""Of an image that is decoded; Pillow, too, warns of more and refuses twice that."""
MODES = {1: "L", 3: "RGB"}
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
Pixels = NDArray[np.uint8]


def plane(settings: CorpusSettings) -> tuple[int, int]:
    """How many steps there are down an image, and across."""
    height, width = settings.image_size
    side = settings.patch
    return {"row": (height, 1), "pixel": (height, width), "patch": (height // side, width // side)}[
        settings.step
    ]


def features(settings: CorpusSettings) -> int:
    """The figures of a step, F."""
    of_step = {"row": settings.image_size[1], "pixel": 1, "patch": settings.patch**2}
    return of_step[settings.step] * settings.channels


def steps(pixels: Pixels, settings: CorpusSettings) -> Pixels:
    """[H, W, K] -> [T, F]. A step has the channels of a pixel side by side, and those of a patch
    its pixels row by row."""
    if settings.step == "patch":
        down, across = plane(settings)
        side = settings.patch
        patches = pixels.reshape(down, side, across, side, -1)  # H = down * P, W = across * P
        pixels = patches.swapaxes(1, 2)
    return np.ascontiguousarray(pixels).reshape(prod(plane(settings)), features(settings))


def pixels(steps: Pixels, size: Sequence[int], side: int = 0) -> Pixels:
    """[T, F] -> [H, W, K], what `steps` made them of; `side` is that of patches, else 0."""
    height, width = size
    if not side:
        return steps.reshape(height, width, -1)
    patches = steps.reshape(height // side, width // side, side, side, -1)
    return patches.swapaxes(1, 2).reshape(height, width, -1)


def decode(data: bytes, settings: CorpusSettings) -> Pixels | None:
    """The pixels [H, W, K] of an image, resized to `image_size`; of what an idx file gave as they
    are. An image is turned as its EXIF orientation says, and what is transparent lies on white.
    None if it is broken, or neither PNG nor JPEG.

    Raises InputError for an image of an idx file that has another size.
    """
    if shape := image_shape(data):
        return _given(data, shape, settings)
    return _read(data, settings) if data.startswith(MAGIC) else None


def _given(data: bytes, shape: tuple[int, ...], settings: CorpusSettings) -> Pixels:
    size, channels = list(shape[:2]), shape[2] if len(shape) > 2 else 1
    if size != settings.image_size or channels != settings.channels:
        raise InputError(
            f"corpus.image_size={settings.image_size}, corpus.channels={settings.channels}: the "
            f"idx file has images of {size[0]} x {size[1]} pixels and {channels} channel(s), which "
            f"are taken as they are; set corpus.image_size={size} and corpus.channels={channels}"
        )
    return np.frombuffer(data, np.uint8, offset=pixel_offset(data)).reshape(*size, channels)


def _read(data: bytes, settings: CorpusSettings) -> Pixels | None:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise InputError(
            "corpus.image: PNG and JPEG are read by Pillow, which is not installed; pip install "
            "headrace[prepare]"
        ) from None
    height, width = settings.image_size
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as file:
            if file.width * file.height > MOST_PIXELS:
                return None
            image: Image.Image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I"):  # of 16 bits, which Pillow would clip to 8
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.has_transparency_data:  # which conversion would drop
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert(MODES[settings.channels])
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            pixels: Any = np.asarray(image)
    except MemoryError:
        raise
    except Exception:  # whatever the bytes of a broken image lead a decoder to
        return None
    return pixels.reshape(height, width, settings.channels)
