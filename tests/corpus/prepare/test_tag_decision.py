"""Preparing tagged words: one dataset whatever the tag scheme, stray tags, long sentences."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.prepare import build, scan
from pipeline.corpus.prepare.encode import encode
from pipeline.corpus.prepare.prepare import prepare_with_summary
from pipeline.errors import InputError
from tests.corpus.fields.test_tag_schemes import in_scheme, random_bio
from tests.helpers.files import content, row_dicts, settings_in

FIELDS = (
    FieldSpec("tokens", "words", "words"),
    FieldSpec("characters", "words", "characters", width=6),
    FieldSpec("tags", "tags", "tags"),
)
ROWS = random_bio(200)


def conll(rows: list[list[str]], name: str = "n") -> str:
    """Return sentences whose first words are unique."""
    rng = random.Random(1)
    sentences = []
    for number, tags in enumerate(rows):
        words = [f"{name}{number}", *(f"w{rng.randint(1, 9)}" for _ in tags[1:])]
        sentences.append("".join(f"{w} {t}\n" for w, t in zip(words, tags, strict=True)))
    return "\n".join(sentences)


def prepared(folder: Path, text: str, **changes: Any) -> tuple[Manifest, list[str]]:
    folder.mkdir(exist_ok=True)
    if not (folder / "a.conll").exists():
        (folder / "a.conll").write_text(text)
    values = {"input": "a.conll", "columns": ["words", "tags"], "label": "tags", **changes}
    return prepare_with_summary(settings_in(folder, **values), FIELDS)


def scheme_lines(summary: list[str]) -> list[str]:
    return [line.strip() for line in summary if "tag scheme" in line]


@pytest.mark.parametrize(
    "scheme, other, line",
    [
        ("iob1", "bio", "tag scheme: IOB1, converted to BIO"),
        ("bilou", "bioes", "tag scheme: BILOU, converted to BIOES"),
        ("bmewo", "bioes", "tag scheme: BMEWO, converted to BIOES"),
    ],
)
def test_dataset_does_not_depend_on_the_scheme(
    scheme: str, other: str, line: str, tmp_path: Path
) -> None:
    datasets, shards = {}, {}
    for name in (scheme, other):
        text = conll([in_scheme(tags, name) for tags in ROWS])
        datasets[name], summary = prepared(tmp_path / name, text, chunk_mb=0.001)
        shards[name] = content(tmp_path / name / "shards")
        shards[name].pop("dataset.json")  # has the size of the input
        if name == scheme:
            assert scheme_lines(summary) == [line]
    assert datasets[scheme].fingerprint == datasets[other].fingerprint
    assert datasets[scheme].counts == datasets[other].counts
    assert shards[scheme] == shards[other]
    assert datasets[scheme].report["not_bio"] == 0


def test_training_and_validation_files_are_decided_together(tmp_path: Path) -> None:
    (tmp_path / "v.conll").write_text("only I-PER\n\nb O\n")  # alone, it would be IOB1
    text = conll(ROWS)
    manifest, summary = prepared(tmp_path, text, validation="v.conll")
    assert manifest.report["not_bio"] == 1
    assert scheme_lines(summary) == ["tag scheme: BIO"]


def test_validation_file_of_another_scheme_is_converted(tmp_path: Path) -> None:
    rows = [in_scheme(tags, "iob1") for tags in ROWS[:40]]
    (tmp_path / "v.conll").write_text(conll(rows, "v"))
    manifest, summary = prepared(tmp_path, conll(ROWS), validation="v.conll")
    tags = [
        [manifest.names["tags"][t] for t in row["tags"]]
        for row in row_dicts(manifest, "validation")
    ]
    assert sorted(tags) == sorted(ROWS[:40])
    assert manifest.report["not_bio"] == 0
    assert scheme_lines(summary) == [
        "tag scheme: BIO", "tag scheme of v.conll: IOB1, converted to BIO",
    ]  # fmt: skip


def test_stray_tag_skips_only_its_row(tmp_path: Path) -> None:
    rows = [list(tags) for tags in ROWS]
    rows[7] = ["O", "O", "0"]
    line = sum(len(tags) + 1 for tags in rows[:7]) + 3
    text = "# a comment\n" + conll(rows)
    manifest, _ = prepared(tmp_path / "a", text)
    assert manifest.report["stray_tag"] == 1
    assert "0" not in manifest.names["tags"]
    assert sum(split.rows for split in manifest.splits.values()) == len(rows) - 1
    without, _ = prepared(tmp_path / "b", conll(rows[:7] + rows[8:]))
    assert manifest.counts == without.counts
    message = rf"1 with a tag outside the scheme .*, first a\.conll.* \('0', line {line + 1}\)"
    with pytest.raises(InputError, match=message):
        prepared(tmp_path / "c", text, max_skipped_ratio=0)


def test_resumed_preparation_gives_the_same_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bits of the schemes and the counts come from the files that an earlier run left."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    rows = [in_scheme(tags, "iob1") for tags in ROWS]
    rows[3] = ["I-PER", "0"]
    expected, _ = prepared(tmp_path / "a", conll(rows))
    monkeypatch.setattr(build, "encode", stop)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path / "b", conll(rows))
    monkeypatch.setattr(build, "encode", encode)
    monkeypatch.setattr(scan, "_Scan", stop)  # no file is scanned again
    found, _ = prepared(tmp_path / "b", conll(rows))
    assert found.fingerprint == expected.fingerprint
    assert found.report == expected.report
    assert found.report["stray_tag"] == 1


def test_small_files_have_schemes_of_their_own(tmp_path: Path) -> None:
    """Small files are read in groups, but a scheme is that of a file."""
    for number, scheme in enumerate(["bio", "iob1", "bilou"]):
        rows = [in_scheme(tags, scheme) for tags in ROWS]
        (tmp_path / f"{number}.conll").write_text(conll(rows, f"f{number}n"))
    manifest, summary = prepared(tmp_path, "", input="[0-9].conll", chunk_mb=8.0)
    assert manifest.report["not_bio"] == manifest.report["stray_tag"] == 0
    assert sum(split.rows for split in manifest.splits.values()) == 3 * len(ROWS)
    assert len(scheme_lines(summary)) == 3


@pytest.mark.parametrize("first", ["b-x", "B_X", "X-B", "x:b"])
def test_tags_that_look_like_a_scheme_are_reported(tmp_path: Path, first: str) -> None:
    _, summary = prepared(tmp_path, conll([["o" if first.islower() else "O", first]] * 20))
    assert scheme_lines(summary) == [
        f"tag scheme: none; tags are plain names, although some have a prefix, such as {first}"
    ]


def test_plain_tags_stay_untouched(tmp_path: Path) -> None:
    rows = [["DET", "I-N", "NOUN"], ["U-X", "VERB"]] * 20
    manifest, summary = prepared(tmp_path, conll(rows))
    assert manifest.names["tags"] == ("DET", "I-N", "NOUN", "U-X", "VERB")
    assert scheme_lines(summary) == [
        "tag scheme: none; tags are plain names, although some have a prefix, such as I-N"
    ]
    _, summary = prepared(tmp_path / "b", conll([["DET", "NOUN"], ["VERB"]] * 20))
    assert scheme_lines(summary) == []


@pytest.mark.parametrize("as_lists", [True, False])
def test_indices_of_label_names_are_tags_of_their_scheme(as_lists: bool, tmp_path: Path) -> None:
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-A-B", "I-A-B"]
    rows = [[names.index(tag) for tag in tags] for tags in ROWS]
    rows[5] = [2, 0]  # I-PER at the start
    tmp_path.joinpath("b").mkdir()
    if as_lists:
        lines = (
            json.dumps({"words": [f"n{n}"] * len(tags), "tags": tags})
            for n, tags in enumerate(rows)
        )
        tmp_path.joinpath("b", "b.jsonl").write_text("\n".join(lines))
    text = conll([list(map(str, tags)) for tags in rows])
    manifest, summary = prepared(
        tmp_path / "b", text, label_names=names, **({"input": "b.jsonl"} if as_lists else {})
    )
    assert manifest.names["tags"] == tuple(names)
    assert manifest.report["not_bio"] == 1
    assert scheme_lines(summary) == ["tag scheme: BIO"]
    found = sum(manifest.counts["tags"])
    assert found == sum(len(tags) for n, tags in enumerate(ROWS) if n != 5)


def test_label_names_in_bilou_name_the_converted_tags(tmp_path: Path) -> None:
    labels = ("PER", "LOC", "A-B")
    names = ["O", *(f"{prefix}-{label}" for label in labels for prefix in "BILU")]
    rows = [in_scheme(tags, "bilou") for tags in ROWS]
    manifest, _ = prepared(tmp_path / "a", conll(rows), label_names=names)
    assert manifest.names["tags"][:5] == ("O", "B-PER", "I-PER", "E-PER", "S-PER")
    indices = [[str(names.index(tag)) for tag in tags] for tags in rows]
    found, _ = prepared(tmp_path / "b", conll(indices), label_names=names)
    assert found.fingerprint == manifest.fingerprint


def test_file_without_blank_lines_is_an_error_with_its_lines(tmp_path: Path) -> None:
    text = "".join(f"w{n} O\n" for n in range(20_000))
    message = (
        r"none of 1 rows .* 1 with a sentence of more than 5,000 words .*blank line.*a\.conll.*"
        r"20,000 words without a blank line up to line 20000"
    )
    with pytest.raises(InputError, match=message):
        prepared(tmp_path / "a", text)
    manifest, _ = prepared(tmp_path / "b", conll(ROWS) + "\n" + text)
    assert manifest.report["long_sentence"] == 1
