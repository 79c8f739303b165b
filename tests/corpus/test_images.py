"""Images become steps alike wherever they come from; what is none is a counted row."""

import gzip
import io
import json
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.corpus import images
from pipeline.corpus.column import Tools
from pipeline.corpus.columns import column
from pipeline.corpus.dataset import Manifest, check_settings
from pipeline.corpus.fields import Field
from pipeline.corpus.prepare import prepare
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skips import Skip
from pipeline.errors import DatasetError, InputError
from pipeline.tasks.images import Images
from tests.corpus.conftest import columns_of, pack, settings_in, write

HEIGHT, WIDTH = SIZE = [4, 6]
COUNT = 60
DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (COUNT, HEIGHT, WIDTH), np.uint8)
COLOURED = DRAW.integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), np.uint8)
NAMES = ["cat", "dog", "emu"]
LABELS = [NAMES[number % 3] for number in range(COUNT)]


def settings(**changes: Any) -> CorpusSettings:
    values: dict[str, Any] = {"input": "x", "shards": "x", "image_size": SIZE, "max_tokens": 24}
    return CorpusSettings(**(values | changes))


def png(pixels: NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def idx(pixels: NDArray[np.uint8]) -> bytes:
    sizes = struct.pack(f">{pixels.ndim}I", *pixels.shape)
    return bytes([0, 0, 8, pixels.ndim]) + sizes + pixels.tobytes()


def one(pixels: NDArray[np.uint8]) -> bytes:
    """The value of an image of an idx file."""
    return idx(pixels)


def check(value: Any, **changes: Any) -> Any:
    """The steps of a value [T, F], or the skip."""
    given = settings(**changes)
    made = column(Images.fields(given)[0], given)
    found = made.check(value)
    if isinstance(found, Skip):
        return found
    ((cell,),) = (cells.rows for cells in made.encode([found], Tools({})))
    return cell


def test_a_step_is_a_row_a_pixel_or_a_patch():
    grey, coloured = PIXELS[0], COLOURED[0]
    assert np.array_equal(check(png(grey)), grey)
    assert np.array_equal(check(png(grey), step="pixel"), grey.reshape(24, 1))
    patches = check(png(grey), step="patch", patch=2)
    assert patches.shape == (6, 4)
    for number, patch in enumerate(patches):
        y, x = 2 * (number // 3), 2 * (number % 3)
        assert np.array_equal(patch, grey[y : y + 2, x : x + 2].ravel())
    assert np.array_equal(check(png(coloured), channels=3), coloured.reshape(4, 18))
    assert np.array_equal(check(png(coloured), channels=3, step="pixel"), coloured.reshape(24, 3))
    patches = check(png(coloured), channels=3, step="patch", patch=2)
    assert np.array_equal(patches[4], coloured[2:4, 2:4].ravel())


@pytest.mark.parametrize("step", ["row", "pixel", "patch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_field_says_what_a_step_is(step: str, channels: int):
    given = settings(step=step, channels=channels, patch=2)
    field, label = Images.fields(given)
    found = check(png(COLOURED[0]), step=step, channels=channels, patch=2)
    assert found.dtype == np.uint8
    assert found.shape == (field.plane[0] * field.plane[1], field.width)
    assert (field.kind, label.kind) == ("steps", "label")


@pytest.mark.parametrize("step", ["row", "pixel", "patch"])
@pytest.mark.parametrize("pixels", [PIXELS[0], COLOURED[0]], ids=["grey", "colours"])
def test_pixels_are_what_steps_were_made_of(step: str, pixels: Any):
    channels = 3 if pixels.ndim == 3 else 1
    steps = check(png(pixels), step=step, channels=channels, patch=2)
    back = images.pixels(steps, pixels.shape[:2], 2 if step == "patch" else 0)
    assert np.array_equal(back, pixels.reshape(*pixels.shape[:2], channels))


def test_an_image_is_the_same_from_wherever_it_comes(tmp_path: Path):
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "x.png"
    path.write_bytes(png(PIXELS[0]))
    for value in (png(PIXELS[0]), one(PIXELS[0]), "a/x.png", " a/../a/x.png\n", str(path), path):
        assert np.array_equal(check(value, root=str(tmp_path)), PIXELS[0]), value
    assert np.array_equal(check(one(PIXELS[0][..., None])), PIXELS[0])
    assert np.array_equal(check(one(COLOURED[0]), channels=3), COLOURED[0].reshape(4, 18))


def test_other_sizes_and_modes_are_fitted():
    smooth = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)
    for data in (png(smooth), png(smooth, "JPEG", quality=95)):
        found = check(data).astype(int)
        assert abs(found - smooth.reshape(4, 16, 6, 16).mean((1, 3))).max() < 6
    grey = np.stack([PIXELS[0]] * 3, -1)
    assert np.array_equal(check(png(grey)), PIXELS[0])
    assert np.array_equal(check(png(PIXELS[0]), channels=3), grey.reshape(4, 18))
    deep = PIXELS[0].astype(np.uint16) * 257  # 16 bits a pixel
    assert np.array_equal(check(png(deep)), PIXELS[0])
    clear = np.dstack([COLOURED[0], np.full(SIZE, 255, np.uint8)])
    assert np.array_equal(check(png(clear), channels=3), COLOURED[0].reshape(4, 18))


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_transparent_lies_on_white(kind: str, channels: int):
    drawn = np.indices(SIZE).sum(0) % 2 == 0  # black where it is drawn, and where it is not
    black = np.zeros((*SIZE, 3), np.uint8)
    image = Image.fromarray(np.dstack([black, np.where(drawn, 255, 0).astype(np.uint8)]))
    file = io.BytesIO()
    if kind == "P":
        image = Image.fromarray(np.where(drawn, 0, 1).astype(np.uint8))
        image.putpalette([0] * 768)
        image.save(file, "PNG", transparency=1)
    else:
        image.convert(kind).save(file, "PNG")
    found = check(file.getvalue(), channels=channels)
    assert np.array_equal(found, np.where(drawn, 0, 255).repeat(channels, 1))


def test_a_photograph_is_turned_as_it_was_taken():
    smooth = np.add.outer(np.arange(64), 2 * np.arange(96)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # stands upright once it is turned by 90 degrees clockwise
    turned = check(png(np.rot90(smooth), "JPEG", quality=95, exif=exif)).astype(int)
    assert abs(turned - check(png(smooth, "JPEG", quality=95))).max() < 3


def bomb() -> bytes:
    """A PNG that says it has 2 * 10^10 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", 200_000, 100_000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


BROKEN: dict[str, Any] = {
    "nothing": None,
    "no bytes": b"",
    "a number": 3,
    "not an image": b"hello" * 10,
    "raw pixels": PIXELS[0].tobytes(),
    "cut": png(DRAW.integers(0, 256, (40, 40), np.uint8))[:-100],
    "cut JPEG": png(DRAW.integers(0, 256, (40, 40), np.uint8), "JPEG")[:300],
    "a head alone": b"\x89PNG\r\n\x1a\n",
    "another format": png(PIXELS[0], "GIF"),
    "a bomb": bomb(),
    "cut idx": one(PIXELS[0])[:-1],
    "no image file": "a.csv",
    "an idx as a file": "idx.png",
}
NO_FILE = {
    "no file": "x.png",
    "a blank path": " ",
    "a NUL in a path": "a\0.png",
    "a folder": ".",
    "out of the root": "../out.png",
    "absolute": "/etc/hostname",
    "a device": "/dev/zero",
}


SKIPPED = [
    *((v, Skip.NO_IMAGE) for v in BROKEN.values()),
    *((v, Skip.NO_FILE) for v in NO_FILE.values()),
]


@pytest.mark.parametrize("value, why", SKIPPED, ids=[*BROKEN, *NO_FILE])
def test_what_is_no_image_is_a_skip(tmp_path: Path, value: Any, why: Skip):
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.csv").write_text("image\n")
    (root / "idx.png").write_bytes(one(PIXELS[0]))
    (tmp_path / "out.png").write_bytes(png(PIXELS[0]))
    assert check(value, root=str(root)) is why


def test_large_images_are_not_decoded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images, "MOST_PIXELS", 99)
    assert check(png(np.zeros((10, 10), np.uint8))) is Skip.NO_IMAGE


@pytest.mark.parametrize(
    "pixels, channels, says",
    [
        (PIXELS[0][:3], 1, r"corpus\.image_size=\[4, 6\].* 3 x 6 pixels and 1 channel.*set corpus"),
        (COLOURED[0], 1, r"corpus\.channels=1: .* 4 x 6 pixels and 3 channel"),
        (PIXELS[0], 3, r"corpus\.channels=3: .* 1 channel"),
    ],
)
def test_an_idx_of_another_size_names_both(pixels: Any, channels: int, says: str):
    with pytest.raises(InputError, match=says):
        check(one(pixels), channels=channels)


def test_without_pillow_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    data = png(PIXELS[0])
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert np.array_equal(check(one(PIXELS[0])), PIXELS[0])
    with pytest.raises(InputError, match=r"pip install headrace\[prepare\]"):
        check(data)


def in_folder(folder: Path) -> dict[str, Any]:
    for number, (pixels, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        path = folder / "digits" / label / f"{number:03d}.{('png', 'PNG', 'jpeg')[number % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels))
    (folder / "digits" / "cat" / ".000.png").write_bytes(b"hidden")
    (folder / "digits" / "notes.txt").write_text("no image")
    return {"input": "digits/", "format": "images"}


def in_idx(folder: Path) -> dict[str, Any]:
    (folder / "i.gz").write_bytes(gzip.compress(idx(PIXELS)))
    (folder / "l").write_text("\n".join(LABELS))
    return {"input": {"image": "i.gz", "label": "l"}}


def in_csv(folder: Path) -> dict[str, Any]:
    paths = files(folder)
    write(folder / "a.csv", [{"p": p, "label": y} for p, y in zip(paths, LABELS, strict=True)])
    return {"input": "a.csv", "image": "p"}


def in_jsonl(folder: Path) -> dict[str, Any]:
    paths = files(folder)
    write(folder / "a.jsonl", [{"p": p, "label": y} for p, y in zip(paths, LABELS, strict=True)])
    return {"input": "a.jsonl", "image": "p"}


def files(folder: Path) -> list[str]:
    (folder / "sub").mkdir()
    for number, pixels in enumerate(PIXELS):
        (folder / "sub" / f"{number}.png").write_bytes(png(pixels))
    return [f"sub/{number}.png" for number in range(COUNT)]


def in_tar(folder: Path) -> dict[str, Any]:
    members = []
    for number, (pixels, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        members += [(f"{number:03d}.png", png(pixels)), (f"{number:03d}.cls", label.encode())]
    pack(folder / "a.tar", members)
    return {"input": "a.tar", "image": "png", "label": "cls"}


def in_parquet(folder: Path) -> dict[str, Any]:
    table = pa.table({"image": [png(pixels) for pixels in PIXELS], "label": LABELS})
    pq.write_table(table, folder / "a.parquet")
    return {"input": "a.parquet"}


def in_hugging_face(folder: Path) -> dict[str, Any]:
    """Parquet as the `datasets` library writes it, half of the images within and half beside it."""
    beside = files(folder)
    pairs = [
        {"bytes": None if number % 2 else png(pixels), "path": path}
        for number, (pixels, path) in enumerate(zip(PIXELS, beside, strict=True))
    ]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"image": pa.array(pairs, kind), "label": LABELS})
    pq.write_table(table, folder / "a.parquet")
    return {"input": "a.parquet"}


def make(folder: Path, **changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "image_size": SIZE, "max_tokens": 24, "rows_per_block": 8, "shard_mb": 0.001,
        "piece_mb": 0.001,
    }  # fmt: skip
    given = settings_in(folder, **(values | changes))
    return prepare(given, Images.fields(given), lambda line: None)


def rows(manifest: Manifest) -> list[tuple[str, Any, str]]:
    """(split, pixels, name of the label), sorted."""
    return sorted(
        (split, row["steps"], manifest.names["label"][row["label"]])
        for split in manifest.splits
        for row in columns_of(manifest, split)
    )


SOURCES = [in_folder, in_idx, in_csv, in_jsonl, in_tar, in_parquet, in_hugging_face]


@pytest.mark.parametrize("lay", SOURCES)
def test_each_form_gives_the_same_rows(tmp_path: Path, lay: Callable[[Path], dict[str, Any]]):
    made = make(tmp_path, **lay(tmp_path))
    found = rows(made)
    expected = sorted((p.tolist(), y) for p, y in zip(PIXELS, LABELS, strict=True))
    assert sorted((pixels, label) for _, pixels, label in found) == expected
    assert {name for name, _, _ in found} == {"train", "validation"}
    (tmp_path / "again").mkdir()
    again = make(tmp_path / "again", **in_idx(tmp_path / "again"))
    assert rows(again) == found  # the same rows are held out
    assert made.splits["train"].max_length == HEIGHT
    assert not made.tokenizers


def test_the_same_images_are_held_out_whatever_a_step_is(tmp_path: Path):
    given, held_out = in_idx(tmp_path), []
    for step in ("row", "pixel", "patch"):
        made = make(tmp_path, **given, shards=str(tmp_path / step), step=step, patch=2)
        held_out.append(
            sorted(sorted(np.ravel(r["steps"])) for r in columns_of(made, "validation"))
        )
    assert held_out[0] == held_out[1] == held_out[2]


def test_equal_pixels_are_duplicates_whatever_the_file(tmp_path: Path):
    table = pa.table({
        "image": [png(p, compress_level=n) for p in PIXELS for n in (0, 9)],
        "label": [label for label in LABELS for _ in range(2)],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    made = make(tmp_path, input="a.parquet")
    assert made.report["duplicates"] == COUNT


def test_several_folders_and_one_held_out(tmp_path: Path):
    for name in ("a", "b", "c"):
        in_folder(tmp_path / name)
    for path in (tmp_path / "c").rglob("[0-9]*.*"):
        path.write_bytes(png(255 - np.asarray(Image.open(path))))
    given = {"format": "images", "input": "[ac]/digits", "validation": "c/digits"}
    made = make(tmp_path, **given, drop_duplicates=False)
    assert {name: split.rows for name, split in made.splits.items()} == {
        "train": COUNT, "validation": COUNT,
    }  # fmt: skip
    assert [entry.path for entry in made.inputs] == ["a/digits", "c/digits"]


def test_broken_images_of_a_folder_are_counted(tmp_path: Path):
    given = in_folder(tmp_path)
    (tmp_path / "digits" / "dog" / "a.png").write_bytes(b"")
    (tmp_path / "digits" / "dog" / "b.jpg").write_bytes(png(PIXELS[0])[:60])
    made = make(tmp_path, **given)
    assert (made.report["rows"], made.report["no_image"]) == (COUNT + 2, 2)
    with pytest.raises(InputError, match=r"2 with no image that can be read .* first digits/:\d+;"):
        make(tmp_path, **given, shards=str(tmp_path / "other"), max_skipped=0.01)


def test_what_is_hidden_in_a_folder_is_no_label_and_no_image(tmp_path: Path):
    given = in_folder(tmp_path)
    for hidden in (".ipynb_checkpoints", "cat/.ipynb_checkpoints/deeper"):
        (tmp_path / "digits" / hidden).mkdir(parents=True)
        for number in range(3):  # a label that stands there once is none
            path = tmp_path / "digits" / hidden / f"{number}-checkpoint.png"
            path.write_bytes(png(255 - PIXELS[number]))
    made = make(tmp_path, **given)
    assert made.names["label"] == tuple(NAMES)
    assert sum(split.rows for split in made.splits.values()) == COUNT


def test_a_folder_without_images_is_named(tmp_path: Path):
    (tmp_path / "digits" / "cat").mkdir(parents=True)
    (tmp_path / "digits" / "cat" / "a.txt").touch()
    with pytest.raises(InputError, match=r"digits/: holds no image; needs a sub-folder for each"):
        make(tmp_path, input="digits/", format="images")
    (tmp_path / "digits" / "a.png").write_bytes(png(PIXELS[0]))
    with pytest.raises(InputError, match=r"digits/: the image a\.png lies in no sub-folder"):
        make(tmp_path, input="digits/", format="images")
    with pytest.raises(InputError, match=r"is a folder; .* or set corpus\.format=images"):
        make(tmp_path, input="digits/")
    with pytest.raises(InputError, match=r"no such file; did you mean .*digits"):
        make(tmp_path, input="digit", format="images")


def test_a_folder_that_has_changed_makes_the_shards_stale(tmp_path: Path):
    given = in_folder(tmp_path)
    made = make(tmp_path, **given)
    now = settings_in(
        tmp_path, **given, image_size=SIZE, max_tokens=24, rows_per_block=8, shard_mb=0.001,
        piece_mb=0.001,
    )  # fmt: skip
    check_settings(made, now)
    with pytest.raises(DatasetError, match=r"corpus\.step='pixel': .* was made with 'row'"):
        check_settings(made, now.model_copy(update={"step": "pixel"}))
    (tmp_path / "digits" / "cat" / "new.png").write_bytes(png(PIXELS[0]))
    with pytest.raises(DatasetError, match=r"digits: has .* bytes but had .* are stale"):
        check_settings(made, now)
    for path in (tmp_path / "digits").rglob("*.*"):
        path.unlink()
    check_settings(made, now)  # training needs no input


def test_a_tar_gives_the_bytes_of_an_image_as_they_are(tmp_path: Path):
    from pipeline.corpus.readers import read

    data = b"\xef\xbb\xbf\xff\x00 no image"
    pack(
        tmp_path / "a.tar",
        [("0.jpg", data), ("0.seg.png", data), ("0.json", json.dumps({"label": 1}).encode())],
    )
    (row,) = read(tmp_path / "a.tar", ["jpg", "seg.png", "label"])
    assert row.values == {"jpg": data, "seg.png": data, "label": 1}


def test_a_field_that_is_no_image_has_no_plane():
    assert Field("tokens", "text", "text").plane == (0, 0)
