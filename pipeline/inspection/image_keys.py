"""Keys of images: their column, folder and size."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.inspection.column import Column
from pipeline.inspection.keys import Key, Keys
from pipeline.inspection.table import Table

MAX_OPENED = 20
"""Maximum number of images to open for their size and colors."""


def image_keys(table: Table, image: Column, *, largest: int) -> Keys:
    """Return the keys of a column of images, which are resized to at most `largest` pixels."""
    keys: Keys = (
        {"image": Key(image.name, "its values are images")} if image.name != "image" else {}
    )
    root = _image_root(table, image)
    if root is None:
        example = image.example
        raise InputError(
            f"{table.samples[0].source.name}: names images that do not exist, such as {example}; "
            "put them into the folder of this file"
        )
    if root:
        keys["image_root"] = Key(root, "paths of images start there")
    folder = Path(table.root, root)
    sizes = Counter(size for v in image.present[:MAX_OPENED] if (size := _size(v, folder)))
    if sizes:
        (height, width), count = sizes.most_common(1)[0]
        scale = min(1.0, largest / max(height, width))
        fitted = [max(round(height * scale), 1), max(round(width * scale), 1)]
        measured = f"{count} of {sizes.total()} images have {height} x {width} pixels"
        keys["image_size"] = Key(fitted, measured)
    if _has_colors(image.present[:MAX_OPENED], folder):
        keys["channels"] = Key(3, "the images have colors")
    return keys


def _image_root(table: Table, image: Column) -> str | None:
    """Return the value of `corpus.image_root` with which the images exist; None if none does."""
    paths = [value for value in image.present[:MAX_OPENED] if isinstance(value, str)]
    if not paths:
        return ""
    parents = [str(Path(sample.source.name).parent) for sample in table.samples]
    for root in dict.fromkeys(["", *parents]):
        if any(Path(table.root, root, path).is_file() for path in paths):
            return "" if root == "." else root
    return None


def _open(value: Any, folder: Path) -> Any:
    """Return an image; None if it cannot be read or is an image of an idx file."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    try:
        if isinstance(value, bytes):
            return None if value.startswith(b"\0\0") else Image.open(io.BytesIO(value))
        return Image.open(folder / str(value))
    except (OSError, UnidentifiedImageError, ValueError):
        return None


def _size(value: Any, folder: Path) -> tuple[int, int] | None:
    """Return the height and width of an image."""
    image = _open(value, folder)
    return (image.height, image.width) if image else None


def _has_colors(values: list[Any], folder: Path) -> bool:
    images = [image for value in values if (image := _open(value, folder))]
    colored = sum(image.mode not in ("1", "L", "LA", "I", "F") for image in images)
    return 2 * colored > len(images)
