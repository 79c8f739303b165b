"""Corpora of images: every layout gives the same rows, and what is wrong with one is told."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.corpus.dataset.manifest import Manifest, check_settings
from pipeline.corpus.prepare.prepare import prepare
from pipeline.errors import DatasetError, InputError
from pipeline.tasks.images import Images
from tests.corpus.fields.test_images import (
    COUNT,
    HEIGHT,
    LABELS,
    NAMES,
    PIXELS,
    SIZE,
    idx,
    png,
)
from tests.helpers.files import columns_of, pack, settings_in, write


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
        "chunk_mb": 0.001,
    }  # fmt: skip
    given = settings_in(folder, **(values | changes))
    return prepare(given, Images.fields(given))


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
        make(tmp_path, **given, shards=str(tmp_path / "other"), max_skipped_ratio=0.01)


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
    with pytest.raises(InputError, match=r"digits/: contains no images; needs a subfolder for "):
        make(tmp_path, input="digits/", format="images")
    (tmp_path / "digits" / "a.png").write_bytes(png(PIXELS[0]))
    with pytest.raises(InputError, match=r"digits/: the image a\.png is not in a subfolder"):
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
        chunk_mb=0.001,
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
    from pipeline.corpus.readers.opening import read

    data = b"\xef\xbb\xbf\xff\x00 no image"
    pack(
        tmp_path / "a.tar",
        [("0.jpg", data), ("0.seg.png", data), ("0.json", json.dumps({"label": 1}).encode())],
    )
    (row,) = read(tmp_path / "a.tar", ["jpg", "seg.png", "label"])
    assert row.values == {"jpg": data, "seg.png": data, "label": 1}
