"""Images as sequences of steps: rows of pixels, single pixels or square patches, in row-major order
from the upper left corner.

Shapes: H rows and W columns of pixels, K channels; T steps, F values per step; P side of a patch.
"""

import io
from collections.abc import Sequence
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.readers.idx import image_shape, pixel_offset
from pipeline.corpus.settings import ImageSettings
from pipeline.errors import InputError
from pipeline.settings import setting

MAX_PIXELS = 1 << 26
"""Size limit of an image that is decoded. Pillow warns at a similar size and refuses twice that."""
MODES = {1: "L", 3: "RGB"}
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
Pixels = NDArray[np.uint8]


class StepSettings(ImageSettings):
    """Keys of images that are read as a sequence of steps."""

    step: Literal["row", "pixel", "patch"] = setting("row", "part of an image that is one step")
    patch: int = setting(4, "side of a square patch in pixels, for corpus.step=patch", ge=1)


def _size(settings: ImageSettings) -> Sequence[int]:
    """Return height and width; zeros if they are not set, which is reported as a conflict."""
    return settings.image_size or (0, 0)


def plane(settings: StepSettings) -> tuple[int, int]:
    """Return the grid of an image's steps: the number of rows and of columns of steps."""
    height, width = _size(settings)
    side = settings.patch
    return {"row": (height, 1), "pixel": (height, width), "patch": (height // side, width // side)}[
        settings.step
    ]


def features(settings: StepSettings) -> int:
    """Return F, the number of values per step."""
    pixels_per_step = {"row": _size(settings)[1], "pixel": 1, "patch": settings.patch**2}
    return pixels_per_step[settings.step] * settings.channels


def steps(pixels: Pixels, settings: StepSettings) -> Pixels:
    """Convert an image to its steps: [H, W, K] -> [T, F].

    Within a step, the pixels are in row-major order and the channels of a pixel are adjacent.
    """
    if settings.step == "patch":
        down, across = plane(settings)
        side = settings.patch
        patches = pixels.reshape(down, side, across, side, -1)  # [H/P, P, W/P, P, K]
        pixels = patches.swapaxes(1, 2)  # [H/P, W/P, P, P, K]
    return np.ascontiguousarray(pixels).reshape(prod(plane(settings)), features(settings))


def pixels(steps: Pixels, size: Sequence[int], side: int = 0) -> Pixels:
    """Convert steps back to the image, [T, F] -> [H, W, K]: the inverse of `steps`.

    `size` is H and W; `side` is P, or 0 if the steps are not patches.
    """
    height, width = size
    if not side:
        return steps.reshape(height, width, -1)
    patches = steps.reshape(height // side, width // side, side, side, -1)
    return patches.swapaxes(1, 2).reshape(height, width, -1)


def decode(data: bytes, settings: ImageSettings) -> Pixels | None:
    """Decode an image to its pixels [H, W, K].

    A PNG or JPEG is rotated to its EXIF orientation, blended with white where it is transparent,
    and resized to `image_size`. An image of an idx file is used as it is. Returns None if the data
    is broken or in another format. Raises InputError if an image of an idx file has another size
    or another number of channels than configured.
    """
    if shape := image_shape(data):
        return _decode_idx(data, shape, settings)
    return _decode_with_pillow(data, settings) if data.startswith(MAGIC) else None


def _decode_idx(data: bytes, shape: tuple[int, ...], settings: ImageSettings) -> Pixels:
    size, channels = list(shape[:2]), shape[2] if len(shape) > 2 else 1
    if size != settings.image_size or channels != settings.channels:
        raise InputError(
            f"corpus.image_size={settings.image_size}, corpus.channels={settings.channels}: the "
            f"idx file has images of {size[0]} x {size[1]} pixels and {channels} channel(s), which "
            f"are not resized; set corpus.image_size={size} and corpus.channels={channels}"
        )
    return np.frombuffer(data, np.uint8, offset=pixel_offset(data)).reshape(*size, channels)


def _decode_with_pillow(data: bytes, settings: ImageSettings) -> Pixels | None:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise InputError(
            "corpus.image: reading PNG and JPEG needs Pillow, which is not installed; pip install "
            "headrace[prepare]"
        ) from None
    height, width = settings.image_size
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as file:
            if file.width * file.height > MAX_PIXELS:
                return None
            image: Image.Image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I"):  # 16 bits, which Pillow would clip to 8
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.has_transparency_data:  # lost in the conversion below
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert(MODES[settings.channels])
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            pixels: Any = np.asarray(image)
    except MemoryError:
        raise
    except Exception:  # a decoder may raise any exception on a broken image
        return None
    return pixels.reshape(height, width, settings.channels)
