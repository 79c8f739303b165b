"""Tag schemes: which one a corpus has, conversion to BIO and BIOES, and rows that do not fit."""

import random

import pytest

from pipeline.corpus.fields.bio_spans import spans, to_tags
from pipeline.corpus.fields.tag_schemes import (
    BITS,
    Flaw,
    TagCounts,
    TagReading,
    canonical_names,
    decide,
    scheme_of_names,
)
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.token_column import TokenColumn

RENAMED = {
    "bilou": {"E": "L", "S": "U"},
    "bmes": {"I": "M"},
    "bmewo": {"I": "M", "S": "W"},
}


def random_bio(rows: int, seed: int = 0) -> list[list[str]]:
    """Valid BIO rows of up to 10 tokens, some without entities."""
    rng, sequences = random.Random(seed), []
    for _ in range(rows):
        tags: list[str] = []
        for _ in range(rng.randint(1, 4)):
            label = rng.choice(["PER", "LOC", "A-B"])
            tags += ["O"] * rng.randint(0, 2)
            tags += rng.choice([[], [f"B-{label}"], [f"B-{label}", f"I-{label}", f"I-{label}"]])
        sequences.append(tags or ["O"])
    return sequences


def in_scheme(tags: list[str], scheme: str) -> list[str]:
    """Write valid BIO tags in another scheme."""
    if scheme == "bio":
        return tags
    if scheme == "iob1":
        pairs = zip(["O", *tags], tags, strict=False)
        return [
            f"I{tag[1:]}" if tag[0] == "B" and before[1:] != tag[1:] else tag
            for before, tag in pairs
        ]
    names = RENAMED.get(scheme, {})
    bioes = to_tags(spans(tags), len(tags), "bioes")
    return [names.get(tag[0], tag[0]) + tag[1:] for tag in bioes]


def counts_of(*rows: list[str]) -> TagCounts:
    counts = TagCounts()
    for number, tags in enumerate(rows, 1):
        counts.add(tags, f"a, row {number}")
    return counts


def scheme_of(*rows: str) -> str:
    (reading,) = decide([counts_of(*(row.split() for row in rows))])
    return reading.scheme


@pytest.mark.parametrize("scheme", BITS)
def test_every_scheme_is_found_and_converted(scheme: str) -> None:
    bio = random_bio(300)
    rows = [in_scheme(tags, scheme) for tags in bio]
    counts = counts_of(*rows)
    (reading,) = decide([counts])
    target = "bio" if scheme in ("bio", "iob1") else "bioes"
    assert reading == TagReading(scheme, target)
    expected = [tags if target == "bio" else in_scheme(tags, "bioes") for tags in bio]
    assert [reading.read(tags) for tags in rows] == expected
    found = {name: tally.count for name, tally in counts.names_as(reading).items()}
    tags = [tag for row in expected for tag in row]
    assert found == {tag: tags.count(tag) for tag in tags}
    assert counts.skips[scheme] == {}


@pytest.mark.parametrize("scheme", BITS)
@pytest.mark.parametrize(
    "names", [["O", "B-PER", "I-PER"], ["O", "B-PER", "I-PER", "L-PER", "U-PER"]]
)
def test_label_names_choose_the_target(scheme: str, names: list[str]) -> None:
    bio = random_bio(300)
    rows = [in_scheme(tags, scheme) for tags in bio]
    counts = counts_of(*rows)
    (reading,) = decide([counts], names)
    target = "bio" if len(names) == 3 else "bioes"
    assert reading == TagReading(scheme, target)
    for tags, row in zip(bio, rows, strict=True):
        assert reading.read(row) == in_scheme(tags, target)
    assert {name[0] for name in counts.names_as(reading)} == set(
        "OBI" if target == "bio" else "OBIES"
    )


@pytest.mark.parametrize(
    "scheme, rows",
    [
        ("iob1", ["I-X O", "O I-Y I-Y", "I-X B-X", "O"]),
        ("iob1", ["I-X I-Y", "O"]),
        ("bio", ["B-X O", "O B-Y I-Y", "O"]),
        ("bio", ["B-X I-Y"]),  # in both, one row that is not valid: BIO
        ("bioes", ["S-X O", "B-X E-X"]),
        ("bilou", ["U-X O", "O"]),
        ("bilou", ["B L", "U O", "B I L"]),
        ("bmes", ["B M E", "S S", "B E"]),
        ("", ["DET NOUN", "VERB"]),
        ("", ["O O", "O"]),
        ("", ["S V E N", "B N V", "I S V"]),  # parts of speech that look like bare prefixes
        ("", ["O PER PER", "LOC O", "O PER"]),
        ("", ["B-ADJ N V", "B-ADV N N", "N V V"]),  # no label with two prefixes
    ],
)
def test_the_scheme_is_that_of_most_rows(scheme: str, rows: list[str]) -> None:
    assert scheme_of(*rows) == scheme


@pytest.mark.parametrize("stray", ["0", "o", "B_PER", "doc3", "L-PER", "B-", "IN"])
@pytest.mark.parametrize("share", [1, 100])
def test_stray_tags_do_not_change_the_scheme(stray: str, share: int) -> None:
    rows = random_bio(200)
    for row in rows[:share]:
        row[0] = stray
    counts = counts_of(*rows)
    (reading,) = decide([counts])
    assert reading == TagReading("bio", "bio")
    tally = counts.skips["bio"][SkipReason.STRAY_TAG]
    assert (tally.count, tally.place) == (share, "a, row 1")
    assert tally.value == f"{stray!r}, token 1"
    assert stray not in counts.names_as(reading)


def test_a_corpus_with_a_few_entity_tags_is_plain() -> None:
    rows = [["DET", "NOUN"]] * 200 + [["B-PER", "I-PER"]] * 3
    assert decide([counts_of(*rows)]) == [TagReading()]
    assert TagReading().read(["DET", "I-X"]) == ["DET", "I-X"]


def test_label_names_without_a_scheme_make_tags_plain() -> None:
    counts = counts_of(["O", "B-X", "I-X"], ["0", "O"])
    assert decide([counts], ["O", "B-X", "I-X", "0"]) == [TagReading()]
    assert decide([counts], ["O", "B-X", "I-X"]) == [TagReading("bio", "bio")]


@pytest.mark.parametrize(
    "tags, scheme, flaw",
    [
        ("O I-X", "bio", Flaw(SkipReason.NOT_BIO, 1, "I-X after O")),
        ("I-X", "bio", Flaw(SkipReason.NOT_BIO, 0, "I-X at the start")),
        ("B-X I-Y", "bio", Flaw(SkipReason.NOT_BIO, 1, "I-Y after B-X")),
        ("B-X U-X", "bilou", Flaw(SkipReason.NOT_BIO, 1, "U-X after B-X")),
        ("O B-X", "bilou", Flaw(SkipReason.NOT_BIO, 1, "B-X at the end")),
        ("S-X E-X", "bioes", Flaw(SkipReason.NOT_BIO, 1, "E-X after S-X")),
        ("O O 0", "iob1", Flaw(SkipReason.STRAY_TAG, 2, "'0'")),
        ("E-X", "bio", Flaw(SkipReason.STRAY_TAG, 0, "'E-X'")),
    ],
)
def test_flaws_name_the_first_tag_that_is_not_valid(tags: str, scheme: str, flaw: Flaw) -> None:
    assert TagReading(scheme, "bio").read(tags.split()) == flaw
    assert not counts_of().add(tags.split(), "a, row 1") & BITS[scheme]


def test_flaws_have_the_line_of_the_tag() -> None:
    counts = counts_of(["B-X"])
    counts.add(TokenColumn(["O", "B-X", "I-Y"], [7, 9, 10]), "a, row 2")
    tally = counts.skips["bio"][SkipReason.NOT_BIO]
    assert (tally.place, tally.value) == ("a, row 2", "I-Y after B-X, line 10")


def test_iob1_reads_any_entity_that_begins_with_b() -> None:
    reading = TagReading("iob1", "bio")
    assert reading.read(["O", "B-X", "I-X", "I-Y", "B-Y"]) == ["O", "B-X", "I-X", "B-Y", "B-Y"]
    counts = counts_of(["O", "B-X"], ["I-X"])
    assert (counts.valid["iob1"], counts.skips["iob1"]) == (1, {})


def test_a_file_with_many_rows_of_another_scheme_has_its_own() -> None:
    bio = random_bio(400)
    files = [counts_of(*bio), counts_of(*(in_scheme(tags, "iob1") for tags in bio[:50]))]
    assert [reading.scheme for reading in decide(files)] == ["bio", "iob1"]
    files[1] = counts_of(*bio[:40], *([["O", "I-X"]] * 9))
    assert [reading.scheme for reading in decide(files)] == ["bio", "bio"]
    files[1] = counts_of(*([["O", "I-X"]] * 9))  # too few rows
    assert [reading.scheme for reading in decide(files)] == ["bio", "bio"]
    files[1] = counts_of(*(in_scheme(tags, "bilou") for tags in bio[:50]))
    assert decide(files)[1] == TagReading("bilou", "bio")


@pytest.mark.parametrize(
    "names, scheme, canonical",
    [
        ("O B-X I-X", "bio", "O B-X I-X"),
        ("B-X I-X L-X U-X O", "bilou", "B-X I-X E-X S-X O"),
        ("O B M E S", "bmes", "O B I E S"),
        ("O B-X DET", "", "O B-X DET"),
        ("O", "", "O"),
        ("O L-X W-X", "", "O L-X W-X"),
    ],
)
def test_names_have_a_scheme_if_it_explains_all_prefixes(
    names: str, scheme: str, canonical: str
) -> None:
    assert scheme_of_names(names.split()) == scheme
    assert canonical_names(names.split()) == canonical.split()
