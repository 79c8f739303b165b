"""Image corpora: all layouts give the same rows, and errors name what is wrong with a layout."""

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

from pipeline.corpus.dataset.input_changes import reason_to_prepare_again
from pipeline.corpus.dataset.manifest import Manifest, check_settings
from pipeline.corpus.prepare.prepare import prepare
from pipeline.errors import DatasetError, InputError
from pipeline.tasks.images import Images
from tests.corpus.fields.test_images import COUNT, HEIGHT, PIXELS, SIZE, idx, png
from tests.helpers.files import pack, read, row_dicts, settings_in, write

NAMES = ["cat", "dog", "emu"]
LABELS = [NAMES[number % 3] for number in range(COUNT)]


def in_folder(folder: Path) -> dict[str, Any]:
    """Write the images into a folder, and return the settings that read them; as all `in_...`."""
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
    paths = write_images(folder)
    write(folder / "a.csv", [{"p": p, "label": y} for p, y in zip(paths, LABELS, strict=True)])
    return {"input": "a.csv", "image": "p"}


def in_jsonl(folder: Path) -> dict[str, Any]:
    paths = write_images(folder)
    write(folder / "a.jsonl", [{"p": p, "label": y} for p, y in zip(paths, LABELS, strict=True)])
    return {"input": "a.jsonl", "image": "p"}


def write_images(folder: Path) -> list[str]:
    """Write a PNG file for each image, and return their paths relative to `folder`."""
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
    """Write Parquet as the `datasets` library does: half of the images in it, half beside it."""
    paths = write_images(folder)
    pairs = [
        {"bytes": None if number % 2 else png(pixels), "path": path}
        for number, (pixels, path) in enumerate(zip(PIXELS, paths, strict=True))
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(pairs, kind), "label": LABELS})
    pq.write_table(table, folder / "a.parquet")
    return {"input": "a.parquet"}


def prepare_images(folder: Path, **changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "image_size": SIZE, "max_tokens": 24, "rows_per_block": 8, "shard_mb": 0.001,
        "chunk_mb": 0.001,
    }  # fmt: skip
    settings = settings_in(folder, **(values | changes))
    return prepare(settings, Images.fields(settings))


def rows(manifest: Manifest) -> list[tuple[str, Any, str]]:
    """Return (split, pixels, label) of each row, sorted."""
    return sorted(
        (split, row["steps"], manifest.names["label"][row["label"]])
        for split in manifest.splits
        for row in row_dicts(manifest, split)
    )


LAYOUTS = [in_folder, in_idx, in_csv, in_jsonl, in_tar, in_parquet, in_hugging_face]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_layouts_give_the_same_rows(tmp_path: Path, layout: Callable[[Path], dict[str, Any]]):
    manifest = prepare_images(tmp_path, **layout(tmp_path))
    found = rows(manifest)
    expected = sorted((p.tolist(), y) for p, y in zip(PIXELS, LABELS, strict=True))
    assert sorted((pixels, label) for _, pixels, label in found) == expected
    assert {name for name, _, _ in found} == {"train", "validation"}
    (tmp_path / "again").mkdir()
    again = prepare_images(tmp_path / "again", **in_idx(tmp_path / "again"))
    assert rows(again) == found  # the same rows are held out
    assert manifest.splits["train"].max_length == HEIGHT
    assert not manifest.tokenizers


def test_held_out_images_do_not_depend_on_the_step(tmp_path: Path):
    settings, held_out = in_idx(tmp_path), []
    for step in ("row", "pixel", "patch"):
        manifest = prepare_images(
            tmp_path, **settings, shards=str(tmp_path / step), step=step, patch=2
        )
        held_out.append(
            sorted(sorted(np.ravel(r["steps"])) for r in row_dicts(manifest, "validation"))
        )
    assert held_out[0] == held_out[1] == held_out[2]


def test_images_with_equal_pixels_are_duplicates(tmp_path: Path):
    table = pa.table({
        "image": [png(p, compress_level=n) for p in PIXELS for n in (0, 9)],
        "label": [label for label in LABELS for _ in range(2)],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    manifest = prepare_images(tmp_path, input="a.parquet")
    assert manifest.report["duplicates"] == COUNT


def test_one_of_several_folders_is_held_out(tmp_path: Path):
    for name in ("a", "b", "c"):
        in_folder(tmp_path / name)
    for path in (tmp_path / "c").rglob("[0-9]*.*"):
        path.write_bytes(png(255 - np.asarray(Image.open(path))))
    settings = {"format": "images", "input": "[ac]/digits", "validation": "c/digits"}
    manifest = prepare_images(tmp_path, **settings, drop_duplicates=False)
    assert {name: split.rows for name, split in manifest.splits.items()} == {
        "train": COUNT, "validation": COUNT,
    }  # fmt: skip
    assert [entry.path for entry in manifest.inputs] == ["a/digits", "c/digits"]


def test_broken_images_of_a_folder_are_counted(tmp_path: Path):
    settings = in_folder(tmp_path)
    (tmp_path / "digits" / "dog" / "a.png").write_bytes(b"")
    (tmp_path / "digits" / "dog" / "b.jpg").write_bytes(png(PIXELS[0])[:60])
    manifest = prepare_images(tmp_path, **settings)
    assert (manifest.report["rows"], manifest.report["no_image"]) == (COUNT + 2, 2)
    with pytest.raises(
        InputError, match=r"2 with no image that can be .* first digits/dog/a\.png;"
    ):
        prepare_images(tmp_path, **settings, shards=str(tmp_path / "other"), max_skipped_ratio=0.01)


def test_hidden_files_and_folders_are_ignored(tmp_path: Path):
    settings = in_folder(tmp_path)
    for hidden in (".ipynb_checkpoints", "cat/.ipynb_checkpoints/deeper"):
        (tmp_path / "digits" / hidden).mkdir(parents=True)
        for number in range(3):  # several, because a label that occurs once is ignored anyway
            path = tmp_path / "digits" / hidden / f"{number}-checkpoint.png"
            path.write_bytes(png(255 - PIXELS[number]))
    manifest = prepare_images(tmp_path, **settings)
    assert manifest.names["label"] == tuple(NAMES)
    assert sum(split.rows for split in manifest.splits.values()) == COUNT


def test_errors_of_folders_without_labeled_images(tmp_path: Path):
    (tmp_path / "digits" / "cat").mkdir(parents=True)
    (tmp_path / "digits" / "cat" / "a.txt").touch()
    with pytest.raises(InputError, match=r"digits/: contains no images; needs a subfolder for "):
        prepare_images(tmp_path, input="digits/", format="images")
    (tmp_path / "digits" / "a.png").write_bytes(png(PIXELS[0]))
    with pytest.raises(InputError, match=r"digits/: the image a\.png is not in a subfolder"):
        prepare_images(tmp_path, input="digits/", format="images")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.csv").write_text("x")
    with pytest.raises(InputError, match=r"empty: is a folder without \.txt files or images; name"):
        prepare_images(tmp_path, input="empty")
    with pytest.raises(InputError, match=r"no such file; did you mean .*digits"):
        prepare_images(tmp_path, input="digit", format="images")


def test_error_if_a_folder_changed_after_preparation(tmp_path: Path):
    layout = in_folder(tmp_path)
    manifest = prepare_images(tmp_path, **layout)
    settings = settings_in(
        tmp_path, **layout, image_size=SIZE, max_tokens=24, rows_per_block=8, shard_mb=0.001,
        chunk_mb=0.001,
    )  # fmt: skip
    check_settings(manifest, settings)
    with pytest.raises(DatasetError, match=r"corpus\.step='pixel': .* was made with 'row'"):
        check_settings(manifest, settings.model_copy(update={"step": "pixel"}))
    (tmp_path / "digits" / "cat" / "new.png").write_bytes(png(PIXELS[0]))
    with pytest.raises(DatasetError, match=r"digits: has changed from .* bytes since .* stale"):
        reason_to_prepare_again(manifest, settings)
    (tmp_path / "digits" / "cat" / "new.png").unlink()
    assert not reason_to_prepare_again(manifest, settings)
    first = min((tmp_path / "digits" / "cat").glob("[!.]*.png"))
    first.write_bytes(first.read_bytes()[::-1])
    with pytest.raises(DatasetError, match=r"digits: has changed since .* are stale"):
        reason_to_prepare_again(manifest, settings)
    for path in (tmp_path / "digits").rglob("*.*"):
        path.unlink()
    assert not reason_to_prepare_again(manifest, settings)  # training needs no input


def test_the_bytes_of_an_image_in_a_tar_are_not_changed(tmp_path: Path):
    data = b"\xef\xbb\xbf\xff\x00 no image"
    pack(
        tmp_path / "a.tar",
        [("0.jpg", data), ("0.seg.png", data), ("0.json", json.dumps({"label": 1}).encode())],
    )
    (row,) = read(tmp_path / "a.tar", ["jpg", "seg.png", "label"])
    assert row.values == {"jpg": data, "seg.png": data, "label": 1}
