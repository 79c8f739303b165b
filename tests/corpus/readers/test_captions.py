"""Images with their captions: each layout gives the same rows; what is of no use is counted."""

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
from pipeline.corpus.fields.kinds import field_kind
from pipeline.corpus.prepare.prepare import prepare
from pipeline.corpus.readers.opening import open_reader
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.tokenization.special_tokens import END
from pipeline.errors import InputError
from pipeline.tasks.captioning import Captioning
from tests.helpers.files import columns_of, content, pack, settings_in, write

HEIGHT, WIDTH = SIZE = [5, 8]
COUNT = 50
DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), np.uint8)
FEATURES = DRAW.normal(size=(COUNT, 4, 3)).astype(np.float32)
CAPTIONS = [
    [f"picture {n} of a dog", f'a "dog", number {n}', f"naïve été {n}"][: 1 + n % 3]
    for n in range(COUNT)
]
NAMES = [f"{n:03d}.{('jpg', 'png')[n % 2]}" for n in range(COUNT)]

Rows = set[tuple[bytes, tuple[str, ...]]]


def picture(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def array(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def files(folder: Path) -> None:
    """The images, or features of them, that captions name."""
    for sub, suffix, values in (("images", None, PIXELS), ("arrays", "npy", FEATURES)):
        (folder / sub).mkdir()
        for name, value in zip(NAMES, values, strict=True):
            path = folder / sub / (f"{name}.{suffix}" if suffix else name)
            path.write_bytes(array(value) if suffix else picture(value))


def token_lines() -> list[str]:
    named = zip(NAMES, CAPTIONS, strict=True)
    return [f"{name}#{n}\t{c}\n" for name, some in named for n, c in enumerate(some)]


def tokens(folder: Path) -> dict[str, Any]:
    (folder / "a.token.txt").write_text("".join(token_lines()))
    return {"input": "a.token.txt", "format": "captions", "image_root": "images"}


def zipped(folder: Path) -> dict[str, Any]:
    (folder / "a.gz").write_bytes(gzip.compress("".join(token_lines()).encode()))
    return {"input": "a.gz", "format": "captions", "image_root": "images"}


def kaggles(folder: Path) -> dict[str, Any]:
    rows = [{"image": n, "caption": c} for n, s in zip(NAMES, CAPTIONS, strict=True) for c in s]
    write(folder / "captions.csv", rows)
    (folder / "captions.csv").rename(folder / "captions.txt")
    return {"input": "captions.txt", "format": "captions", "image_root": "images"}


def json_lines(folder: Path) -> dict[str, Any]:
    rows = [
        {"path": f"images/{name}", "caption": some if len(some) > 1 else some[0]}
        for name, some in zip(NAMES, CAPTIONS, strict=True)
    ]
    write(folder / "a.jsonl", rows)
    return {"input": "a.jsonl", "image": "path"}


def parquet(folder: Path) -> dict[str, Any]:
    pairs = zip(PIXELS, CAPTIONS, strict=True)
    write(folder / "a.parquet", [{"image": picture(p), "caption": some} for p, some in pairs])
    return {"input": "a.parquet"}


def tar(folder: Path) -> dict[str, Any]:
    members = []
    for n, (pixels, some) in enumerate(zip(PIXELS, CAPTIONS, strict=True)):
        members += [(f"{n:03d}.png", picture(pixels))]
        members += [(f"{n:03d}.json", json.dumps({"caption": some}).encode())]
    pack(folder / "a.tar", members)
    return {"input": "a.tar", "image": "png"}


LAYOUTS = [tokens, zipped, kaggles, json_lines, parquet, tar]


def made(folder: Path, **changes: Any) -> Manifest:
    values = {"target": "caption", "image_size": SIZE, "channels": 3, "max_skipped_ratio": 0.5}
    settings = settings_in(folder, **{**values, **changes})
    return prepare(settings, Captioning.fields(settings), lambda line: None)


def pictures_of(manifest: Manifest, splits: Sequence[str] = ("train", "validation")) -> Rows:
    """The pixels or features of each row, and its captions."""
    found = set()
    field = manifest.fields[0]
    kind = np.float32 if field.kind == "features" else np.uint8
    for split in splits:
        for row in columns_of(manifest, split):
            ends = [n for n, token in enumerate(row["target"]) if token == END]
            starts = [0, *(end + 1 for end in ends)]
            assert ends[-1] == len(row["target"]) - 1
            texts = [row["target"][a:b] for a, b in zip(starts, ends, strict=False)]
            captions = tuple(manifest.decode("tokenizer", ids) for ids in texts)
            found.add((np.array(row["image"], kind).tobytes(), captions))
    return found


EXPECTED = {(p.tobytes(), tuple(c)) for p, c in zip(PIXELS, CAPTIONS, strict=True)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chunk_mb", [8.0, 0.0002])
def test_every_layout_gives_the_images_and_all_their_captions(
    layout: Callable[[Path], dict[str, Any]], chunk_mb: float, tmp_path: Path
) -> None:
    files(tmp_path)
    manifest = made(tmp_path, chunk_mb=chunk_mb, **layout(tmp_path))
    assert pictures_of(manifest) == EXPECTED
    assert manifest.report["rows"] == COUNT
    assert manifest.splits["train"].max_length == HEIGHT


def test_pieces_bear_on_nothing(tmp_path: Path) -> None:
    files(tmp_path)
    given = tokens(tmp_path)
    for name, chunk_mb in (("one", 8.0), ("many", 0.0001)):
        made(tmp_path, shards=str(tmp_path / name), chunk_mb=chunk_mb, **given)
    assert content(tmp_path / "one" / "train") == content(tmp_path / "many" / "train")


@pytest.mark.parametrize("layout", [tokens, kaggles])
def test_a_reader_goes_on_from_any_of_its_marks(
    layout: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / layout(tmp_path)["input"]
    with open_reader(path, ["image", "caption"], given="captions") as reader:
        first = reader.mark
        rows = [(row, reader.mark) for row in reader]
    assert [row.values for row, _ in rows] == [
        {"image": name, "caption": some} for name, some in zip(NAMES, CAPTIONS, strict=True)
    ]
    marks = [first, *(mark for _, mark in rows)]
    for a, b in ((0, 1), (3, 8), (COUNT - 2, COUNT)):
        with open_reader(path, ["image", "caption"], given="captions") as reader:
            reader.seek(marks[a], marks[b], a + 1)
            assert list(reader) == [row for row, _ in rows[a:b]]


def test_lines_of_one_image_that_lie_apart_are_rows_of_one_split(tmp_path: Path) -> None:
    files(tmp_path)
    given = tokens(tmp_path)
    with (tmp_path / "a.token.txt").open("a") as file:
        for name in NAMES:
            file.write(f"{name}#7\tsaid again\n")
        file.write(f"{NAMES[0]}#7\tsaid again\n")  # a duplicate
    manifest = made(tmp_path, **given)
    assert (manifest.report["rows"], manifest.report["duplicates"]) == (2 * COUNT + 1, 1)
    train, validation = (
        {pixels for pixels, _ in pictures_of(manifest, [split])}
        for split in ("train", "validation")
    )
    assert train.isdisjoint(validation)
    again = {(pixels, ("said again",)) for pixels, _ in EXPECTED}
    assert pictures_of(manifest) == EXPECTED | again


def test_the_first_captions_count(tmp_path: Path) -> None:
    files(tmp_path)
    manifest = made(tmp_path, captions=2, **tokens(tmp_path))
    assert pictures_of(manifest) == {(pixels, some[:2]) for pixels, some in EXPECTED}


# name: lines behind those of the token file -> what is counted beside them
BAD_LINES = {
    "no such image": ("gone.jpg#0\ta dog\ngone.jpg#1\ta cat\n", {"no_file": 1}),
    "out of the root": ("../../x.jpg#0\ta dog\n", {"no_file": 1}),
    "broken image": ("broken.jpg#0\ta dog\n", {"no_image": 1}),
    "truncated image": ("cut.jpg#0\ta dog\n", {"no_image": 1}),
    "no tab": ("000.jpg a dog\n\n \n", {"wrong_fields": 1}),
    "no tab between": ("x.jpg#0\ta\nx.jpg\nx.jpg#1\tb\n", {"wrong_fields": 1, "no_file": 2}),
    "no caption": ("spare.jpg#0\t \n", {"no_target": 1}),
    "a NUL": ("spare.jpg#0\ta\0b\n", {"nul": 1}),
    "one of them blank": ("spare.jpg#0\tdog\nspare.jpg#1\t\n", {"no_target": 1}),
    "a long one": ("spare.jpg#0\tdog\nspare.jpg#1\t" + "dog " * 99, {"target_too_long": 1}),
    "not utf-8": ("spare.jpg#0\tcaf\udce9\n", {"not_utf8": 1}),
}


@pytest.mark.parametrize("lines, counted", BAD_LINES.values(), ids=BAD_LINES)
def test_what_is_of_no_use_is_counted(lines: str, counted: dict[str, int], tmp_path: Path) -> None:
    files(tmp_path)
    given = tokens(tmp_path)
    whole = picture(DRAW.integers(0, 256, (40, 40, 3), np.uint8))
    for name, data in {"broken": b"\xff\xd8\xff" * 9, "cut": whole[:-99], "spare": whole}.items():
        (tmp_path / "images" / f"{name}.jpg").write_bytes(data)
    with (tmp_path / "a.token.txt").open("ab") as file:
        file.write(lines.encode("utf-8", "surrogateescape"))
    manifest = made(tmp_path, max_target_tokens=30, **given)
    report = {k: v for k, v in manifest.report.items() if v and k != "rows"}
    assert report == counted
    assert pictures_of(manifest) == EXPECTED


def test_if_no_image_is_there_the_first_is_named(tmp_path: Path) -> None:
    given = tokens(tmp_path)
    with pytest.raises(InputError) as error:
        made(tmp_path, max_skipped_ratio=1.0, **given)
    told = str(error.value)
    assert (
        "50 of 50 rows (100.0%) cannot be used: 50 with the path of a missing file (paths start from"
        in told
    )
    assert "first a.token.txt:1 ('000.jpg'); mend them" in told
    assert "\n" not in told


CAPTION_FILES = {
    "another column": (
        "file,caption\na.jpg,b\n", {}, "has no column 'image'; it has 'file', 'caption' (no tab",
    ),
    "a name for a token file's": (
        "a.jpg#0\tb\n", {"image": "path"}, "has no column 'path'; it has 'image', 'caption': a tok",
    ),
    "one image for ever": (
        "a.jpg\tb\n" * 10_001, {}, "line 10001: more than 10,000 lines running name the image 'a.j",
    ),
    "nothing but a header": ("image,caption\n", {}, "holds no row"),
    "blank": ("\n \n", {}, "has no column 'image'"),
}  # fmt: skip


@pytest.mark.parametrize("text, changes, says", CAPTION_FILES.values(), ids=CAPTION_FILES)
def test_a_caption_file_that_is_none_is_named(
    text: str, changes: dict[str, str], says: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InputError) as error:
        made(tmp_path, input="a.txt", format="captions", **changes)
    assert "a.txt" in str(error.value)
    assert says in str(error.value)


@pytest.mark.parametrize("value", [None, [], [""], ["a", None], 7, {"a": "b"}, [["a"]]])
def test_what_holds_no_caption_is_a_skip(value: Any) -> None:
    field = FieldSpec("target", "caption", "targets")
    assert field_kind(field, settings_in(Path())).check(value) is SkipReason.NO_TARGET


def in_tar(folder: Path) -> dict[str, Any]:
    members = []
    for n, (values, some) in enumerate(zip(FEATURES, CAPTIONS, strict=True)):
        members += [(f"{n}.json", json.dumps({"caption": some}).encode())]
        members += [(f"{n}.npy", array(values.reshape(2, 2, 3) if n % 2 else values))]
    pack(folder / "a.tar", members)
    return {"input": "a.tar", "image": "npy"}


def by_path(folder: Path) -> dict[str, Any]:
    pairs = zip(NAMES, CAPTIONS, strict=True)
    write(folder / "a.jsonl", [{"image": f"{name}.npy", "caption": c} for name, c in pairs])
    return {"input": "a.jsonl", "image_root": "arrays"}


@pytest.mark.parametrize("layout", [in_tar, by_path])
def test_features_are_taken_as_they_are(
    layout: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    files(tmp_path)
    manifest = made(tmp_path, features=3, image_size=[], channels=1, **layout(tmp_path))
    assert pictures_of(manifest) == {
        (f.tobytes(), tuple(c)) for f, c in zip(FEATURES, CAPTIONS, strict=True)
    }
    assert manifest.splits["train"].max_length == 4


def features(value: Any, **changes: Any) -> Any:
    given = settings_in(Path(), features=3, **changes)
    made = field_kind(Captioning.fields(given)[0], given)
    found = made.check(value)
    return found if isinstance(found, SkipReason) else made.encode([found], EncodingContext({}))[0]


def test_features_of_any_precision_become_regions() -> None:
    values = DRAW.normal(size=(2, 2, 3))
    for given, regions in ((values, 4), (values[0].astype(np.float16), 2), (values[0, 0], 1)):
        (cell,) = features(array(given)).rows
        assert cell.dtype == np.float32
        assert np.array_equal(cell, given.reshape(regions, 3).astype(np.float32))
    assert features(array(np.ones((9, 3))), max_tokens=8).skip is SkipReason.TOO_LONG


OBJECTS = io.BytesIO()
np.save(OBJECTS, np.array([[None]]), allow_pickle=True)
NO_FEATURES = {
    "nan": array(np.full((2, 3), np.nan)),
    "beyond float32": array(np.full((2, 3), 1e300)),
    "whole numbers": array(np.ones((2, 3), int)),
    "no region": array(np.ones((0, 3))),
    "no array": b"\x93NUMPY",
    "cut": array(np.ones((2, 3)))[:-1],
    "a picture": picture(PIXELS[0]),
    "objects, which may be programs": OBJECTS.getvalue(),
    "a number": array(np.float64(3)),
    "four axes": array(np.ones((1, 1, 1, 3))),
    "a header of too much": array(np.ones((2, 3))).replace(b"(2, 3)", b"(9, 3)"),
    "nothing": None,
}


@pytest.mark.parametrize("value", NO_FEATURES.values(), ids=NO_FEATURES)
def test_what_holds_no_features_is_a_skip(value: Any) -> None:
    assert features(value) is SkipReason.NO_FEATURES
    assert features("x.npy") is SkipReason.NO_FILE


def test_features_of_another_width_name_both() -> None:
    with pytest.raises(
        InputError, match=r"corpus\.features=3: .*\[2, 7\] has 7 features per region"
    ):
        features(array(np.ones((2, 7))))


def test_the_file_that_names_features_of_another_width_is_named(tmp_path: Path) -> None:
    files(tmp_path)
    given = by_path(tmp_path)
    (tmp_path / "arrays" / f"{NAMES[3]}.npy").write_bytes(array(np.ones((2, 7))))
    with pytest.raises(InputError, match=r"^a\.jsonl:4: corpus\.features=3: "):
        made(tmp_path, features=3, image_size=[], channels=1, **given)
