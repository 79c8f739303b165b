"""Tests of images with captions: every layout gives the same rows; unusable rows are counted."""

import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import EncodingContext
from pipeline.corpus.prepare.prepare import prepare
from pipeline.corpus.readers.text_format import TextFormat
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.tokenization.special_tokens import END
from pipeline.errors import InputError
from pipeline.tasks.captioning import Captioning
from tests.helpers.files import content, open_reader, pack, row_dicts, settings_in, write

HEIGHT, WIDTH = SIZE = [5, 8]
COUNT = 50
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), np.uint8)
FEATURES = RNG.normal(size=(COUNT, 4, 3)).astype(np.float32)
CAPTIONS = [
    [f"photo {n} of a dog", f'a "dog", number {n}', f"naïve été {n}"][: 1 + n % 3]
    for n in range(COUNT)
]
NAMES = [f"{n:03d}.{('jpg', 'png')[n % 2]}" for n in range(COUNT)]

Rows = set[tuple[bytes, tuple[str, ...]]]


def png(pixels: Any) -> bytes:
    """Encode pixels as PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def npy(values: Any) -> bytes:
    """Encode an array as .npy."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def write_images(folder: Path) -> None:
    """Write the images that the captions name, and features of them."""
    for subfolder, suffix, values in (("images", None, PIXELS), ("arrays", "npy", FEATURES)):
        (folder / subfolder).mkdir()
        for name, value in zip(NAMES, values, strict=True):
            path = folder / subfolder / (f"{name}.{suffix}" if suffix else name)
            path.write_bytes(npy(value) if suffix else png(value))


def token_lines() -> list[str]:
    pairs = zip(NAMES, CAPTIONS, strict=True)
    return [f"{name}#{n}\t{c}\n" for name, captions in pairs for n, c in enumerate(captions)]


def token_file(folder: Path) -> dict[str, Any]:
    (folder / "a.token.txt").write_text("".join(token_lines()))
    return {"input": "a.token.txt", "format": "captions", "image_root": "images"}


def gzipped_token_file(folder: Path) -> dict[str, Any]:
    (folder / "a.gz").write_bytes(gzip.compress("".join(token_lines()).encode()))
    return {"input": "a.gz", "format": "captions", "image_root": "images"}


def csv_file(folder: Path) -> dict[str, Any]:
    """Write the captions as Kaggle distributes Flickr8k: a CSV file named captions.txt."""
    pairs = zip(NAMES, CAPTIONS, strict=True)
    rows = [{"image": name, "caption": c} for name, captions in pairs for c in captions]
    write(folder / "captions.csv", rows)
    (folder / "captions.csv").rename(folder / "captions.txt")
    return {"input": "captions.txt", "format": "captions", "image_root": "images"}


def json_lines(folder: Path) -> dict[str, Any]:
    rows = [
        {"path": f"images/{name}", "caption": captions if len(captions) > 1 else captions[0]}
        for name, captions in zip(NAMES, CAPTIONS, strict=True)
    ]
    write(folder / "a.jsonl", rows)
    return {"input": "a.jsonl", "image": "path"}


def parquet(folder: Path) -> dict[str, Any]:
    pairs = zip(PIXELS, CAPTIONS, strict=True)
    write(folder / "a.parquet", [{"image": png(p), "caption": c} for p, c in pairs])
    return {"input": "a.parquet"}


def tar(folder: Path) -> dict[str, Any]:
    members = []
    for n, (pixels, captions) in enumerate(zip(PIXELS, CAPTIONS, strict=True)):
        members += [(f"{n:03d}.png", png(pixels))]
        members += [(f"{n:03d}.json", json.dumps({"caption": captions}).encode())]
    pack(folder / "a.tar", members)
    return {"input": "a.tar", "image": "png"}


LAYOUTS = [token_file, gzipped_token_file, csv_file, json_lines, parquet, tar]


def prepare_captions(folder: Path, **changes: Any) -> Manifest:
    values = {"target": "caption", "image_size": SIZE, "channels": 3, "max_skipped_ratio": 0.5}
    settings = settings_in(folder, **{**values, **changes})
    return prepare(settings, Captioning.fields(settings))


def images_and_captions(
    manifest: Manifest, splits: Sequence[str] = ("train", "validation")
) -> Rows:
    """Return the pixels or features of each row, and its captions."""
    rows = set()
    field = manifest.fields[0]
    dtype = np.float32 if field.kind == "features" else np.uint8
    for split in splits:
        for row in row_dicts(manifest, split):
            ends = [n for n, token in enumerate(row["target"]) if token == END]
            starts = [0, *(end + 1 for end in ends)]
            assert ends[-1] == len(row["target"]) - 1
            texts = [row["target"][a:b] for a, b in zip(starts, ends, strict=False)]
            captions = tuple(manifest.decode("tokenizer", ids) for ids in texts)
            rows.add((np.array(row["image"], dtype).tobytes(), captions))
    return rows


EXPECTED = {(p.tobytes(), tuple(c)) for p, c in zip(PIXELS, CAPTIONS, strict=True)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chunk_mb", [8.0, 0.0002])
def test_every_layout_gives_all_images_with_their_captions(
    layout: Callable[[Path], dict[str, Any]], chunk_mb: float, tmp_path: Path
) -> None:
    write_images(tmp_path)
    manifest = prepare_captions(tmp_path, chunk_mb=chunk_mb, **layout(tmp_path))
    assert images_and_captions(manifest) == EXPECTED
    assert manifest.report["rows"] == COUNT
    assert manifest.splits["train"].max_length == HEIGHT


def test_dataset_does_not_depend_on_chunk_size(tmp_path: Path) -> None:
    write_images(tmp_path)
    settings = token_file(tmp_path)
    for name, chunk_mb in (("one", 8.0), ("many", 0.0001)):
        prepare_captions(tmp_path, shards=str(tmp_path / name), chunk_mb=chunk_mb, **settings)
    assert content(tmp_path / "one" / "train") == content(tmp_path / "many" / "train")


@pytest.mark.parametrize("layout", [token_file, csv_file])
def test_reading_between_two_marks_returns_the_same_rows(
    layout: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / layout(tmp_path)["input"]
    with open_reader(path, ["image", "caption"], file_format="captions") as reader:
        assert isinstance(reader, TextFormat)
        first, lines = reader.mark, [reader.next_line]
        rows = []
        for row in reader:
            rows.append((row, reader.mark))
            lines.append(reader.next_line)
    assert [row.values for row, _ in rows] == [
        {"image": name, "caption": c} for name, c in zip(NAMES, CAPTIONS, strict=True)
    ]
    marks = [first, *(mark for _, mark in rows)]
    for a, b in ((0, 1), (3, 8), (COUNT - 2, COUNT)):
        with open_reader(path, ["image", "caption"], file_format="captions") as reader:
            reader.next_line = lines[a]
            reader.seek(marks[a], marks[b], a + 1)
            assert list(reader) == [row for row, _ in rows[a:b]]


@pytest.mark.parametrize("layout", [token_file, csv_file])
def test_the_images_can_be_read_without_their_captions(
    layout: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    """As prediction reads them."""
    path = tmp_path / layout(tmp_path)["input"]
    with open_reader(path, ["image"], file_format="captions") as reader:
        assert [row.values for row in reader] == [{"image": name} for name in NAMES]


def test_rows_of_the_same_image_are_in_the_same_split(tmp_path: Path) -> None:
    write_images(tmp_path)
    settings = token_file(tmp_path)
    with (tmp_path / "a.token.txt").open("a") as file:
        for name in NAMES:
            file.write(f"{name}#7\tonce more\n")
        file.write(f"{NAMES[0]}#7\tonce more\n")  # a duplicate
    manifest = prepare_captions(tmp_path, **settings)
    assert (manifest.report["rows"], manifest.report["duplicates"]) == (2 * COUNT + 1, 1)
    train, validation = (
        {pixels for pixels, _ in images_and_captions(manifest, [split])}
        for split in ("train", "validation")
    )
    assert train.isdisjoint(validation)
    repeated = {(pixels, ("once more",)) for pixels, _ in EXPECTED}
    assert images_and_captions(manifest) == EXPECTED | repeated


def test_only_the_first_captions_are_used(tmp_path: Path) -> None:
    write_images(tmp_path)
    manifest = prepare_captions(tmp_path, captions=2, **token_file(tmp_path))
    assert images_and_captions(manifest) == {
        (pixels, captions[:2]) for pixels, captions in EXPECTED
    }


# name: (lines appended to the token file, skipped rows by reason)
BAD_LINES = {
    "no such image": ("gone.jpg#0\ta dog\ngone.jpg#1\ta cat\n", {"no_file": 1}),
    "outside the root": ("../../x.jpg#0\ta dog\n", {"no_file": 1}),
    "broken image": ("broken.jpg#0\ta dog\n", {"no_image": 1}),
    "truncated image": ("cut.jpg#0\ta dog\n", {"no_image": 1}),
    "no tab": ("000.jpg a dog\n\n \n", {"wrong_fields": 1}),
    "no tab on a line between": (
        "x.jpg#0\ta\nx.jpg\nx.jpg#1\tb\n",
        {"wrong_fields": 1, "no_file": 2},
    ),
    "no caption": ("spare.jpg#0\t \n", {"no_target": 1}),
    "a NUL": ("spare.jpg#0\ta\0b\n", {"nul": 1}),
    "one of two blank": ("spare.jpg#0\tdog\nspare.jpg#1\t\n", {"no_target": 1}),
    "too long": ("spare.jpg#0\tdog\nspare.jpg#1\t" + "dog " * 99, {"target_too_long": 1}),
    "not utf-8": ("spare.jpg#0\tcaf\udce9\n", {"not_utf8": 1}),
}


@pytest.mark.parametrize("lines, skipped", BAD_LINES.values(), ids=BAD_LINES)
def test_unusable_rows_are_counted(lines: str, skipped: dict[str, int], tmp_path: Path) -> None:
    write_images(tmp_path)
    settings = token_file(tmp_path)
    image = png(RNG.integers(0, 256, (40, 40, 3), np.uint8))
    for name, data in {"broken": b"\xff\xd8\xff" * 9, "cut": image[:-99], "spare": image}.items():
        (tmp_path / "images" / f"{name}.jpg").write_bytes(data)
    with (tmp_path / "a.token.txt").open("ab") as file:
        file.write(lines.encode("utf-8", "surrogateescape"))
    manifest = prepare_captions(tmp_path, max_target_tokens=30, **settings)
    report = {k: v for k, v in manifest.report.items() if v and k != "rows"}
    assert report == skipped
    assert images_and_captions(manifest) == EXPECTED


def test_error_names_the_first_missing_image(tmp_path: Path) -> None:
    settings = token_file(tmp_path)
    with pytest.raises(InputError) as error:
        prepare_captions(tmp_path, max_skipped_ratio=1.0, **settings)
    message = str(error.value)
    assert (
        "corpus.input: none of 50 rows can be used: 50 with the path of a missing file "
        "(paths start from" in message
    )
    assert "first a.token.txt, line 1 ('000.jpg'); fix them" in message
    assert "\n" not in message


CAPTION_FILES = {
    "another column": (
        "file,caption\na.jpg,b\n", {}, "has no column 'image'; it has 'file', 'caption' (its",
    ),
    "another column in a token file": (
        "a.jpg#0\tb\n", {"image": "path"}, "has no column 'path'; it has 'image', 'caption' (a tok",
    ),
    "too many captions": (
        "a.jpg\tb\n" * 10_001,
        {},
        "line 10001: more than 10,000 consecutive lines name the image 'a.j",
    ),
    "only a header": ("image,caption\n", {}, "has no rows"),
    "blank": ("\n \n", {}, "has no column 'image'"),
}  # fmt: skip


@pytest.mark.parametrize("text, changes, message", CAPTION_FILES.values(), ids=CAPTION_FILES)
def test_error_for_a_bad_caption_file(
    text: str, changes: dict[str, str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InputError) as error:
        prepare_captions(tmp_path, input="a.txt", format="captions", **changes)
    assert "a.txt" in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize("value", [None, [], [""], ["a", None], {"a": "b"}, [["a"]]])
def test_row_without_a_caption_is_skipped(value: Any) -> None:
    field = FieldSpec("target", "caption", "targets")
    assert field.kind_class(field, settings_in(Path())).check(value) is SkipReason.NO_TARGET


def features_in_tar(folder: Path) -> dict[str, Any]:
    members = []
    for n, (values, captions) in enumerate(zip(FEATURES, CAPTIONS, strict=True)):
        members += [(f"{n}.json", json.dumps({"caption": captions}).encode())]
        members += [(f"{n}.npy", npy(values.reshape(2, 2, 3) if n % 2 else values))]
    pack(folder / "a.tar", members)
    return {"input": "a.tar", "image": "npy"}


def features_by_path(folder: Path) -> dict[str, Any]:
    pairs = zip(NAMES, CAPTIONS, strict=True)
    write(folder / "a.jsonl", [{"image": f"{name}.npy", "caption": c} for name, c in pairs])
    return {"input": "a.jsonl", "image_root": "arrays"}


@pytest.mark.parametrize("layout", [features_in_tar, features_by_path])
def test_features_are_stored_unchanged(
    layout: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    write_images(tmp_path)
    manifest = prepare_captions(tmp_path, features=3, image_size=[], channels=1, **layout(tmp_path))
    assert images_and_captions(manifest) == {
        (f.tobytes(), tuple(c)) for f, c in zip(FEATURES, CAPTIONS, strict=True)
    }
    assert manifest.splits["train"].max_length == 4


def features(value: Any, **changes: Any) -> Any:
    """Check and encode a value of the features field; return a SkipReason or its cells."""
    settings = settings_in(Path(), features=3, **changes)
    spec = Captioning.fields(settings)[0]
    field = spec.kind_class(spec, settings)
    checked = field.check(value)
    if isinstance(checked, SkipReason):
        return checked
    return field.encode([checked], EncodingContext({}))[0]


def test_features_of_any_precision_become_regions() -> None:
    values = RNG.normal(size=(2, 2, 3))
    for array, regions in ((values, 4), (values[0].astype(np.float16), 2), (values[0, 0], 1)):
        (cell,) = features(npy(array)).rows
        assert cell.dtype == np.float32
        assert np.array_equal(cell, array.reshape(regions, 3).astype(np.float32))
    assert features(npy(np.ones((9, 3))), max_tokens=8).skip is SkipReason.TOO_LONG


OBJECT_ARRAY = io.BytesIO()
np.save(OBJECT_ARRAY, np.array([[None]]), allow_pickle=True)
INVALID_FEATURES = {
    "nan": npy(np.full((2, 3), np.nan)),
    "beyond float32": npy(np.full((2, 3), 1e300)),
    "integers": npy(np.ones((2, 3), int)),
    "no regions": npy(np.ones((0, 3))),
    "not an array": b"\x93NUMPY",
    "cut": npy(np.ones((2, 3)))[:-1],
    "an image": png(PIXELS[0]),
    "pickled objects, which could execute code": OBJECT_ARRAY.getvalue(),
    "a number": npy(np.float64(3)),
    "four axes": npy(np.ones((1, 1, 1, 3))),
    "a header of a larger array": npy(np.ones((2, 3))).replace(b"(2, 3)", b"(9, 3)"),
    "nothing": None,
}


@pytest.mark.parametrize("value", INVALID_FEATURES.values(), ids=INVALID_FEATURES)
def test_invalid_features_are_skipped(value: Any) -> None:
    assert features(value) is SkipReason.NO_FEATURES
    assert features("x.npy") is SkipReason.NO_FILE


def test_features_of_another_width_name_both() -> None:
    with pytest.raises(
        InputError, match=r"corpus\.features=3: .*\[2, 7\] has 7 features per region"
    ):
        features(npy(np.ones((2, 7))))


def test_error_for_another_feature_width_names_the_row(tmp_path: Path) -> None:
    write_images(tmp_path)
    settings = features_by_path(tmp_path)
    (tmp_path / "arrays" / f"{NAMES[3]}.npy").write_bytes(npy(np.ones((2, 7))))
    with pytest.raises(InputError, match=r"^a\.jsonl, line 4: corpus\.features=3: "):
        prepare_captions(tmp_path, features=3, image_size=[], channels=1, **settings)
