"""Image fields: steps are the same for every source of an image, and broken images are skipped."""

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields import images
from pipeline.corpus.fields.base import EncodingContext
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError
from pipeline.tasks.images import Images
from tests.helpers.settings import corpus_settings

HEIGHT, WIDTH = SIZE = [4, 6]
COUNT = 60
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (COUNT, HEIGHT, WIDTH), np.uint8)
COLORED = RNG.integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), np.uint8)


def settings(**changes: Any) -> Any:
    values: dict[str, Any] = {"input": "x", "shards": "x", "image_size": SIZE, "max_tokens": 24}
    return corpus_settings(**(values | changes))


def png(pixels: NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    """An image file of the given kind."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def idx(pixels: NDArray[np.uint8]) -> bytes:
    """The value of one image of an idx file."""
    sizes = struct.pack(f">{pixels.ndim}I", *pixels.shape)
    return bytes([0, 0, 8, pixels.ndim]) + sizes + pixels.tobytes()


def check(value: Any, **changes: Any) -> Any:
    """Check and encode an image value: its steps [T, F], or a SkipReason."""
    corpus = settings(**changes)
    spec = Images.fields(corpus)[0]
    kind = spec.kind_class(spec, corpus)
    checked = kind.check(value)
    if isinstance(checked, SkipReason):
        return checked
    ((cell,),) = (cells.rows for cells in kind.encode([checked], EncodingContext({})))
    return cell


def test_a_step_is_a_row_a_pixel_or_a_patch():
    grey, colored = PIXELS[0], COLORED[0]
    assert np.array_equal(check(png(grey)), grey)
    assert np.array_equal(check(png(grey), step="pixel"), grey.reshape(24, 1))
    patches = check(png(grey), step="patch", patch=2)
    assert patches.shape == (6, 4)
    for number, patch in enumerate(patches):
        y, x = 2 * (number // 3), 2 * (number % 3)
        assert np.array_equal(patch, grey[y : y + 2, x : x + 2].ravel())
    assert np.array_equal(check(png(colored), channels=3), colored.reshape(4, 18))
    assert np.array_equal(check(png(colored), channels=3, step="pixel"), colored.reshape(24, 3))
    patches = check(png(colored), channels=3, step="patch", patch=2)
    assert np.array_equal(patches[4], colored[2:4, 2:4].ravel())


@pytest.mark.parametrize("step", ["row", "pixel", "patch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_field_spec_has_the_grid_and_width_of_steps(step: str, channels: int):
    corpus = settings(step=step, channels=channels, patch=2)
    field, label = Images.fields(corpus)
    steps = check(png(COLORED[0]), step=step, channels=channels, patch=2)
    assert steps.dtype == np.uint8
    assert steps.shape == (field.plane[0] * field.plane[1], field.width)
    assert (field.kind, label.kind) == ("steps", "label")


@pytest.mark.parametrize("step", ["row", "pixel", "patch"])
@pytest.mark.parametrize("pixels", [PIXELS[0], COLORED[0]], ids=["grey", "colors"])
def test_pixels_are_restored_from_steps(step: str, pixels: Any):
    channels = 3 if pixels.ndim == 3 else 1
    steps = check(png(pixels), step=step, channels=channels, patch=2)
    restored = images.pixels(steps, pixels.shape[:2], 2 if step == "patch" else 0)
    assert np.array_equal(restored, pixels.reshape(*pixels.shape[:2], channels))


def test_steps_do_not_depend_on_the_source_of_an_image(tmp_path: Path):
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "x.png"
    path.write_bytes(png(PIXELS[0]))
    for value in (png(PIXELS[0]), idx(PIXELS[0]), "a/x.png", " a/../a/x.png\n", str(path), path):
        assert np.array_equal(check(value, root=str(tmp_path)), PIXELS[0]), value
    assert np.array_equal(check(idx(PIXELS[0][..., None])), PIXELS[0])
    assert np.array_equal(check(idx(COLORED[0]), channels=3), COLORED[0].reshape(4, 18))


def test_other_sizes_and_modes_are_converted():
    smooth = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)
    for data in (png(smooth), png(smooth, "JPEG", quality=95)):
        resized = check(data).astype(int)
        assert abs(resized - smooth.reshape(4, 16, 6, 16).mean((1, 3))).max() < 6
    grey = np.stack([PIXELS[0]] * 3, -1)
    assert np.array_equal(check(png(grey)), PIXELS[0])
    assert np.array_equal(check(png(PIXELS[0]), channels=3), grey.reshape(4, 18))
    deep = PIXELS[0].astype(np.uint16) * 257  # 16 bits per pixel
    assert np.array_equal(check(png(deep)), PIXELS[0])
    opaque = np.dstack([COLORED[0], np.full(SIZE, 255, np.uint8)])
    assert np.array_equal(check(png(opaque), channels=3), COLORED[0].reshape(4, 18))


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_pixels_are_blended_with_white(kind: str, channels: int):
    opaque = np.indices(SIZE).sum(0) % 2 == 0  # all pixels are black, but only these are opaque
    black = np.zeros((*SIZE, 3), np.uint8)
    image = Image.fromarray(np.dstack([black, np.where(opaque, 255, 0).astype(np.uint8)]))
    file = io.BytesIO()
    if kind == "P":
        image = Image.fromarray(np.where(opaque, 0, 1).astype(np.uint8))
        image.putpalette([0] * 768)
        image.save(file, "PNG", transparency=1)
    else:
        image.convert(kind).save(file, "PNG")
    steps = check(file.getvalue(), channels=channels)
    assert np.array_equal(steps, np.where(opaque, 0, 255).repeat(channels, 1))


def test_exif_orientation_is_applied():
    smooth = np.add.outer(np.arange(64), 2 * np.arange(96)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90 degrees clockwise
    rotated = check(png(np.rot90(smooth), "JPEG", quality=95, exif=exif)).astype(int)
    assert abs(rotated - check(png(smooth, "JPEG", quality=95))).max() < 3


def bomb() -> bytes:
    """A PNG whose header claims 2 * 10^10 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", 200_000, 100_000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


BROKEN: dict[str, Any] = {
    "nothing": None,
    "no bytes": b"",
    "a number": 3,
    "not an image": b"hello" * 10,
    "raw pixels": PIXELS[0].tobytes(),
    "truncated PNG": png(RNG.integers(0, 256, (40, 40), np.uint8))[:-100],
    "truncated JPEG": png(RNG.integers(0, 256, (40, 40), np.uint8), "JPEG")[:300],
    "only a header": b"\x89PNG\r\n\x1a\n",
    "another format": png(PIXELS[0], "GIF"),
    "decompression bomb": bomb(),
    "truncated idx": idx(PIXELS[0])[:-1],
    "path of another file": "a.csv",
    "path of an idx file": "idx.png",
}
NO_FILE = {
    "missing file": "x.png",
    "a blank path": " ",
    "a NUL in a path": "a\0.png",
    "a folder": ".",
    "outside the root": "../out.png",
    "absolute": "/etc/hostname",
    "a device": "/dev/zero",
}


SKIPPED = [
    *((value, SkipReason.NO_IMAGE) for value in BROKEN.values()),
    *((value, SkipReason.NO_FILE) for value in NO_FILE.values()),
]


@pytest.mark.parametrize("value, reason", SKIPPED, ids=[*BROKEN, *NO_FILE])
def test_invalid_images_are_skipped(tmp_path: Path, value: Any, reason: SkipReason):
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.csv").write_text("image\n")
    (root / "idx.png").write_bytes(idx(PIXELS[0]))
    (tmp_path / "out.png").write_bytes(png(PIXELS[0]))
    assert check(value, root=str(root)) is reason


def test_large_images_are_not_decoded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    assert check(png(np.zeros((10, 10), np.uint8))) is SkipReason.NO_IMAGE


@pytest.mark.parametrize(
    "pixels, channels, message",
    [
        (PIXELS[0][:3], 1, r"corpus\.image_size=\[4, 6\].* 3 x 6 pixels and 1 channel.*set corpus"),
        (COLORED[0], 1, r"corpus\.channels=1: .* 4 x 6 pixels and 3 channel"),
        (PIXELS[0], 3, r"corpus\.channels=3: .* 1 channel"),
    ],
)
def test_an_idx_image_of_another_size_is_an_error(pixels: Any, channels: int, message: str):
    with pytest.raises(InputError, match=message):
        check(idx(pixels), channels=channels)


def test_missing_pillow_is_an_error_with_install_instructions(monkeypatch: pytest.MonkeyPatch):
    data = png(PIXELS[0])
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert np.array_equal(check(idx(PIXELS[0])), PIXELS[0])
    with pytest.raises(InputError, match=r"pip install headrace\[prepare\]"):
        check(data)


def test_fields_without_images_have_no_grid():
    assert FieldSpec("tokens", "text", "text").plane == (0, 0)
