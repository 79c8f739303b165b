"""Tests of WebDataset shards: every tar format is read; truncated, damaged and malicious archives
are rejected."""

import gzip
import io
import pickle
import random
import subprocess
import tarfile
from pathlib import Path

import pytest
import webdataset

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.prepare.prepare import prepare
from pipeline.corpus.readers import archive
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError
from tests.helpers.files import content, pack, read, reviews, settings_in, values_of, write

ROWS = reviews(300)
TXT, CLS = FieldSpec("tokens", "txt", "text"), FieldSpec("label", "cls", "label")
LONG = "of-a-long-name/" * 12  # longer than a USTAR header allows


def members(rows=ROWS, folder=""):
    """Yield the members .cls, .npy and .txt of each row."""
    for number, row in enumerate(rows):
        key = f"{folder}{number:06d}"
        yield f"{key}.cls", row["label"].encode()
        yield f"{key}.npy", bytes(700)
        yield f"{key}.txt", row["text"].encode()


def prepare_tar(folder: Path, name: str, fields=(TXT, CLS), **changes) -> Manifest:
    return prepare(settings_in(folder, input=name, **changes), fields)


def texts(path: Path, column: str = "txt") -> list[str]:
    return [values_of(row)[column] for row in read(path, [column])]


@pytest.mark.parametrize("folder", ["", "./", "é/", LONG])
@pytest.mark.parametrize("writer", ["webdataset", "gnu", "ustar", "posix"])
def test_archives_of_other_programs_are_read(tmp_path: Path, writer: str, folder: str):
    path = tmp_path / "a.tar"
    if writer == "webdataset":
        with webdataset.TarWriter(str(path)) as shard:
            for number, row in enumerate(ROWS[:20]):
                shard.write({"__key__": f"{folder}{number}", "txt": row["text"], "cls": number})
    else:
        for number, row in enumerate(ROWS[:20]):
            file = tmp_path / "in" / folder / f"{number:02d}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.with_suffix(".txt").write_text(row["text"])
            file.with_suffix(".cls").write_text(f"{number}\n")
        command = [
            "tar",
            f"--format={writer}",
            "--sort=name",
            "-cf",
            str(path),
            "-C",
            str(tmp_path / "in"),
        ]
        subprocess.run([*command, folder or "."], check=True)
    rows = [values_of(row) for row in read(path, ["cls", "txt"])]
    assert [row["txt"] for row in rows] == [row["text"] for row in ROWS[:20]]
    assert [int(row["cls"]) for row in rows] == list(range(20))


@pytest.fixture(scope="module")
def from_csv(tmp_path_factory) -> dict[str, bytes]:
    """Return the files, except the manifest, of a dataset prepared from ROWS as CSV."""
    folder = tmp_path_factory.mktemp("csv")
    write(folder / "a.csv", ROWS)
    fields = (FieldSpec("tokens", "text", "text"), FieldSpec("label", "label", "label"))
    return shards_of(prepare_tar(folder, "a.csv", fields))


def shards_of(manifest: Manifest) -> dict[str, bytes]:
    """Return all files of a dataset except its manifest."""
    files = content(manifest.path)
    del files["dataset.json"]
    return files


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["tar", "tgz"])
@pytest.mark.parametrize(("workers", "chunk_mb"), [(1, 8.0), (1, 0.013), (2, 0.05)])
def test_shards_do_not_depend_on_format_or_chunks(
    from_csv, tmp_path: Path, suffix: str, workers: int, chunk_mb: float
):
    path = pack(tmp_path / "a.tar", members(), tarfile.PAX_FORMAT)
    if suffix == "tgz":
        (tmp_path / "a.tgz").write_bytes(gzip.compress(path.read_bytes()))
    manifest = prepare_tar(tmp_path, f"a.{suffix}", workers=workers, chunk_mb=chunk_mb)
    assert manifest.report["rows"] == 300
    assert shards_of(manifest) == from_csv


def test_label_is_optional(tmp_path: Path):
    pack(tmp_path / "a.tar", ((f"{n}.txt", row["text"].encode()) for n, row in enumerate(ROWS)))
    manifest = prepare_tar(tmp_path, "a.tar", (TXT,))
    assert sum(split.rows for split in manifest.splits.values()) == 300


def test_column_is_an_extension_or_else_a_json_key(tmp_path: Path):
    pack(
        tmp_path / "a.tar",
        [
            ("README", b"not a sample"),
            ("__meta__/a.txt", b"not a sample"),
            (".hidden.txt", b"not a sample"),
            ("sub.d/a.json", b'\xef\xbb\xbf{"txt": "from the key", "label": 1}'),
            ("sub.d/a.TXT", b"\xef\xbb\xbffrom the member"),
            ("b.txt", b"caf\xe9"),
            ("c.seg.txt", b"another extension"),
            ("c.json", b'{"txt": null}'),
        ],
    )
    rows = [row.values for row in read(tmp_path / "a.tar", ["txt", "label"])]
    assert rows == [
        {"txt": "from the member", "label": 1},
        {"txt": "caf\udce9", "label": None},
        {"txt": None, "label": None},
    ]
    assert texts(tmp_path / "a.tar", "seg.txt") == [None, None, "another extension"]


def test_samples_with_a_missing_member_are_counted(tmp_path: Path):
    incomplete = [
        ("x.txt", b"no label"),
        ("y.cls", b"positive"),
        ("z.npy", b""),
        ("w.txt", b"\xff\xfd"),
    ]
    pack(tmp_path / "a.tar", [*members(), *incomplete])
    report = prepare_tar(tmp_path, "a.tar").report
    assert {name: report[name] for name in ("rows", "no_text", "no_label", "not_utf8")} == {
        "rows": 304, "no_text": 2, "no_label": 1, "not_utf8": 1
    }  # fmt: skip


@pytest.mark.parametrize("size", range(256, 10240, 256))
def test_truncated_archive_is_always_detected(tmp_path: Path, size: int):
    path = pack(tmp_path / "a.tar", members(ROWS[:2]), tarfile.GNU_FORMAT)
    data = path.read_bytes()
    end_blocks = 2 * 512
    complete = len(data.rstrip(b"\0")) // 512 * 512 + 512 + end_blocks
    path.write_bytes(data[:size])
    if size >= complete:
        assert len(texts(path)) == 2
    else:
        with pytest.raises(InputError, match=rf"a\.tar: ends at byte {size} .* so it is cut short"):
            texts(path)


def test_flipped_bit_never_loses_a_sample(tmp_path: Path):
    rng = random.Random(1)
    path = pack(tmp_path / "a.tar", members(ROWS[:9]))
    data = path.read_bytes()
    errors = []
    for _ in range(400):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            assert len(texts(path)) == 9
        except InputError as error:
            errors.append(str(error))
    assert 100 < len(errors) < 400
    assert all(error.startswith(str(path)) for error in errors)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self):
        return Path.touch, (self._path,)


def link(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_malicious_archive_executes_nothing_and_creates_no_file(tmp_path: Path):
    ran, folder = tmp_path / "ran", tmp_path / "sub"
    folder.mkdir()
    secret = folder / "secret.txt"
    secret.write_text("the secret text")
    path = pack(folder / "a.tar", members())
    payload = pickle.dumps(Payload(ran))
    with tarfile.open(path, "a") as tar:
        for name in ("p.pyd", "p.pkl", "p.pth", "p.pickle", "p.npy", "p.txt", "p.cls"):
            member = tarfile.TarInfo(name)
            member.size = len(payload)
            tar.addfile(member, io.BytesIO(payload))
        for name in (f"{folder}/abs.txt", "../up.txt", "a/../../up2.txt", f"pipe:touch {ran}"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"text"))
        tar.addfile(link("symbolic.txt", tarfile.SYMTYPE, str(secret)))
        tar.addfile(link("hard.txt", tarfile.LNKTYPE, "000000.txt"))
        tar.addfile(link("pipe.txt", tarfile.FIFOTYPE))
        tar.addfile(link("zero.txt", tarfile.CHRTYPE))
    before = {file for file in tmp_path.rglob("*") if "shards" not in file.name}
    manifest = prepare_tar(tmp_path, "sub/a.tar")
    assert {f for f in tmp_path.rglob("*") if manifest.path not in (f, *f.parents)} - before == {
        tmp_path / "shards.lock",
        tmp_path / "shards.inputs.json",
    }
    report = manifest.report
    assert (report["rows"], report["no_text"]) == (300 + 1 + 3 + 4, 3 + 4)
    assert report["nul"] + report["not_utf8"] == 1, "the pickle is read as text, which is invalid"
    assert texts(path)[301:] == [None] * 7
    with pytest.raises(InputError, match=r"pipe:a\.tar: no such file"):
        prepare_tar(tmp_path, "pipe:a.tar", shards=str(tmp_path / "other"))


def block(name: str, kind: bytes = tarfile.REGTYPE, size: bytes = b"00000000000\0") -> bytes:
    """Return a header with any bytes as its size."""
    raw = bytearray(link(name, kind).tobuf(tarfile.USTAR_FORMAT))
    raw[124:136], raw[148:156] = size, b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def pax(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return block("pax", kind, b"%011o\0" % len(records)) + records.ljust(512, b"\0")


END = bytes(1024)
GOOD = block("a.txt", size=b"00000000004\0") + b"text".ljust(512, b"\0")
HOSTILE = {
    "negative size": (block("b.txt", size=b"\xff" * 11 + b"\x00"), "byte 1024: .* is negative"),
    "size that loops back": (
        block("b.txt", size=(-512 & (1 << 96) - 1).to_bytes(12)),
        "is negative",
    ),
    "link name that loops back": (
        block("b", tarfile.GNUTYPE_LONGLINK, (-512 & (1 << 96) - 1).to_bytes(12)),
        "byte 1024: .* an extended header has -512 bytes",
    ),
    "huge size": (
        block("b.txt", size=b"\x80" + b"\xff" * 11),
        "ends at byte 2560 inside the member 'b.txt', which begins at byte 1024",
    ),
    "PAX record with a wrong length": (
        pax(b"30 size=99999999999999999999\n") + GOOD,
        "an invalid length",
    ),
    "huge PAX size": (pax(b"29 size=99999999999999999999\n") + GOOD, "inside the member 'a.txt'"),
    "negative PAX size": (pax(b"13 size=-512\n") + GOOD, "is negative"),
    "PAX size of letters": (pax(b"11 size=ab\n") + GOOD, "byte 2048: .* a size is not a number"),
    "huge long name": (
        block("b", tarfile.GNUTYPE_LONGNAME, b"77777777777\0"),
        "an extended header has 8589934591 bytes",
    ),
    "PAX record of length 0": (pax(b"0 path=b\n") + GOOD, "a PAX record has an invalid length"),
    "global path": (pax(b"10 path=b\n", tarfile.XGLTYPE) + GOOD, "global header sets 'path'"),
    "sparse": (block("b.txt", tarfile.GNUTYPE_SPARSE), "the member 'b.txt' is sparse"),
    "sparse by PAX": (pax(b"22 GNU.sparse.major=1\n") + GOOD, "the member 'a.txt' is sparse"),
    "invalid header": (
        block("b.txt").replace(b"b.txt", b"c.txt"),
        "byte 1024: is not a valid tar archive: bad checksum",
    ),
    "concatenated": (END + GOOD, "byte 1024: more data follows the archive's end"),
    "a member twice": (GOOD, "byte 1024: 'a.txt' is the sample's second .txt member"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_error_names_a_damaged_or_malicious_archive(tmp_path: Path, case: str):
    data, message = HOSTILE[case]
    (tmp_path / "a.tar").write_bytes(GOOD + data + END)
    with pytest.raises(InputError, match=rf"a\.tar, [^\n]*{message}|a\.tar: [^\n]*{message}"):
        list(read(tmp_path / "a.tar", ["txt", "key"]))


@pytest.mark.parametrize(
    "data",
    [
        pax(b"14 comment=of\n", tarfile.XGLTYPE),
        pax(b"14 comment=of\n", tarfile.SOLARIS_XHDTYPE),
        pax(b"a long link", tarfile.GNUTYPE_LONGLINK),
        block("volume", b"V"),
        block("folder.txt", tarfile.DIRTYPE, b"00000001000\0"),
    ],
)
def test_irrelevant_headers_are_ignored(tmp_path: Path, data: bytes):
    (tmp_path / "a.tar").write_bytes(data + GOOD + END)
    assert texts(tmp_path / "a.tar") == ["text"]


def test_error_for_a_member_that_is_too_large(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 600)
    pack(tmp_path / "a.tar", [*members(ROWS[:1]), ("b.txt", b"x" * 601)])
    with pytest.raises(InputError, match=r"byte 3584: the member 'b\.txt' has 601 bytes, more"):
        texts(tmp_path / "a.tar")
    assert texts(tmp_path / "a.tar", "cls") == [ROWS[0]["label"], None], (
        "a large member in another column is not an error"
    )


def test_error_for_a_missing_column_lists_the_available_ones(tmp_path: Path):
    json_member = [("000001.json", b'{"title": 1}')]
    pack(tmp_path / "a.tar", [*members(ROWS[:1]), *json_member])
    with pytest.raises(InputError, match=r"no column 'text' \(did you mean 'txt'\?\); it has"):
        texts(tmp_path / "a.tar", "text")
    with pytest.raises(InputError, match="it has 'cls', 'npy', 'txt', 'json', 'title'"):
        texts(tmp_path / "a.tar", "body")


@pytest.mark.parametrize("names", [[], ["README", "sub/"]])
def test_error_names_an_archive_without_samples(tmp_path: Path, names: list[str]):
    pack(tmp_path / "a.tar", ((name, b"") for name in names))
    with pytest.raises(InputError, match=r"a\.tar: has no samples, as no member is named KEY\."):
        texts(tmp_path / "a.tar")


def test_sample_with_damaged_json_is_a_bad_row(tmp_path: Path):
    members = [("a.json", b'{"text": "x"}'), ("b.json", b"{"), ("c.json", b"[]")]
    rows = list(read(pack(tmp_path / "a.tar", members), ["text"]))
    assert [(row.values, row.skip) for row in rows] == [
        ({"text": "x"}, None),
        (None, SkipReason.NOT_JSON),
        (None, SkipReason.NOT_JSON),
    ]
    assert rows[2].detail == "the member 'c.json': a list"


def test_keys_of_a_json_member_may_be_nested(tmp_path: Path):
    path = pack(tmp_path / "a.tar", [("a.json", b'{"body": {"text": "x", "tags": ["p", "q"]}}')])
    (row,) = read(path, ["body.text", "body.tags.1"])
    assert row.values == {"body.text": "x", "body.tags.1": "q"}


def test_texts_are_decoded_from_the_encoding(tmp_path: Path):
    data = [
        "caf\u00e9".encode("cp1252"),
        "caf\u00e9".encode("utf-8-sig"),
        "caf\u00e9".encode("utf-16"),
    ]
    path = pack(tmp_path / "a.tar", [(f"{n}.txt", text) for n, text in enumerate(data)])
    found = [values_of(row)["txt"] for row in read(path, ["txt"], encoding="cp1252")]
    assert found == ["caf\u00e9"] * 3
    found = [values_of(row)["txt"] for row in read(path, ["txt"])]
    assert found == ["caf\udce9", "caf\u00e9", "caf\u00e9"]
    path = pack(tmp_path / "b.tar", [("0.txt", "a text".encode("utf-16-le")), ("1.txt", b"x")])
    found = [values_of(row)["txt"] for row in read(path, ["txt"])]
    assert found == ["\udcff", "x"]  # the first is counted as bytes that are not text


def test_keys_with_dots(tmp_path: Path):
    names = ["doc.1.txt", "doc.1.cls", "doc.2.txt", "doc.2.cls"]
    path = pack(tmp_path / "a.tar", [(name, name.encode()) for name in names])
    assert [row.values for row in read(path, ["txt", "cls"])] == [
        {"txt": "doc.1.txt", "cls": "doc.1.cls"},
        {"txt": "doc.2.txt", "cls": "doc.2.cls"},
    ]


def test_error_names_members_that_are_not_adjacent(tmp_path: Path):
    names = ["a.txt", "b.txt", "a.cls", "b.cls"]
    path = pack(tmp_path / "a.tar", [(name, b"x") for name in names])
    message = r"a\.tar, byte 2048: 'a\.cls' is not next to the other members .*; sort the archive's"
    with pytest.raises(InputError, match=message):
        list(read(path, ["txt", "cls"]))
