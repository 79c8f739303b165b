"""CoNLL as different tools write it: comments, document starts, separators, columns by index."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError
from tests.helpers.files import open_reader, read, values_of

NAMES = ["words", "tags"]


def sentences(path: Path, text: str, names: list[str] | None = None) -> list[list[str]]:
    """Return the lines of each sentence, with `words/tags`; a skipped row is its reason."""
    path.write_text(text)
    return [
        ["/".join(pair) for pair in zip(row.values["words"], row.values["tags"], strict=True)]
        if row.values
        else [str(row.skip)]
        for row in read(path, NAMES, names or NAMES)
    ]


DOCUMENT = "EU B-ORG\nrejects O\n\nA O\n# O\n\n"


@pytest.mark.parametrize(
    "comment",
    [
        "# doc3\n", "# doc3\n\n", "\n# doc3\n", "# newdoc id = 3\n", "#\n", "## A heading\n",
        "#\tx\ty\n", "# text = EU rejects\n", "# one\n# two\n",
        "#doc3\n", "#doc3 a b c\n", "\n#id=7\n\n",
        "#begin document (nw/1); part 000\n", "#end document\n", "#END DOCUMENT\n\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_comments_are_skipped(comment: str, separator: str, tmp_path: Path) -> None:
    document = DOCUMENT.replace(" ", separator)
    text = comment + document + comment + document + comment
    expected = [["EU/B-ORG", "rejects/O"], ["A/O", "#/O"]]
    assert sentences(tmp_path / "a.conll", text) == expected * 2


@pytest.mark.parametrize(
    "line, names",
    [
        ("# O", NAMES),
        ("# B-ORG", NAMES),
        ("# I-NEW", NAMES),
        ("#\tO", NAMES),
        ("# NN O", ["words", "pos", "tags"]),
        ("# x O", ["words", "pos", "tags"]),
    ],
)
def test_token_that_is_a_number_sign_is_no_comment(
    line: str, names: list[str], tmp_path: Path
) -> None:
    filler = " x" * (len(names) - 2)
    text = f"{line}\nb{filler} O\n\nc{filler} B-ORG\n{line}\n"
    tag = line.split()[-1]
    expected = [[f"#/{tag}", "b/O"], ["c/B-ORG", f"#/{tag}"]]
    assert sentences(tmp_path / "a.conll", text, names) == expected


@pytest.mark.parametrize("tag", ["#", "SYM", "$", "noun"])
def test_number_sign_at_the_start_with_a_part_of_speech_is_a_token(
    tag: str, tmp_path: Path
) -> None:
    text = f"# {tag}\n10 CD\n\nthe noun\n\n# doc3\nan DT\n"
    expected = [[f"#/{tag}", "10/CD"], ["the/noun"], ["an/DT"]]
    assert sentences(tmp_path / "a.conll", text) == expected


def test_hashtag_without_a_tag_is_no_comment(tmp_path: Path) -> None:
    found = sentences(tmp_path / "a.conll", "a O\n#nlp\n\nb O\n")
    assert found == [[SkipReason.WRONG_FIELDS], ["b/O"]]


@pytest.mark.parametrize(
    "start",
    [
        "-DOCSTART-", "-DOCSTART- O", "-DOCSTART- -X- O O", "-DOCSTART-\t-X-\tO", "-DOCSTART-\tO",
        "-DOCSTART- (1 EU)", "-DOCSTART- -X- -X- O  ", " -DOCSTART- O", "-docstart- O",
        "-DOCSTART--X- O",
    ],
)  # fmt: skip
@pytest.mark.parametrize("after", ["\n", "\n\n", "\r\n\r\n"])
def test_document_starts_are_skipped(start: str, after: str, tmp_path: Path) -> None:
    text = f"{start}{after}{DOCUMENT}{start}{after}{DOCUMENT}"
    expected = [["EU/B-ORG", "rejects/O"], ["A/O", "#/O"]]
    assert sentences(tmp_path / "a.conll", text) == expected * 2


@pytest.mark.parametrize("name", ["eng.train", "train.txt"])
def test_document_start_shows_the_format(name: str, tmp_path: Path) -> None:
    """The files of CoNLL-2003 have such names."""
    text = f"-DOCSTART- -X- O\n\n{DOCUMENT}"
    assert sentences(tmp_path / name, text) == [["EU/B-ORG", "rejects/O"], ["A/O", "#/O"]]


def test_error_for_words_in_a_text_file_names_the_format(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(DOCUMENT)
    with pytest.raises(InputError, match=r"no column '0'; it has 'text' .* set corpus.format=con"):
        list(read(tmp_path / "train.txt", ["0", "-1"]))


@pytest.mark.parametrize(
    "line",
    [
        "New\tNNP B-LOC", "New NNP\tB-LOC", "New\tNNP\tB-LOC", "New\t\tNNP\t\tB-LOC",
        "New NNP B-LOC  ", "New\tNNP\tB-LOC\t", "New \t NNP \t B-LOC \t", "  New NNP B-LOC",
        "\tNew\tNNP\tB-LOC",
    ],
)  # fmt: skip
def test_tabs_and_spaces_may_be_mixed(line: str, tmp_path: Path) -> None:
    text = f"a DT O\n{line}\n\nYork\tNNP\tI-LOC\n"
    expected = [["a/O", "New/B-LOC"], ["York/I-LOC"]]
    assert sentences(tmp_path / "a.conll", text, ["words", "pos", "tags"]) == expected


def test_words_may_contain_blanks_between_tabs_and_other_white_space(tmp_path: Path) -> None:
    text = "New York\tB-LOC\n10\u00a0000\tO\na\u2003b\tO\n. . .\tO\n"
    expected = [["New York/B-LOC", "10\u00a0000/O", "a\u2003b/O", ". . ./O"]]
    assert sentences(tmp_path / "a.conll", text) == expected
    assert sentences(tmp_path / "b.conll", "10\u00a0000 O\n") == [["10\u00a0000/O"]]


def columns(path: Path, text: str, *wanted: str, **keys: Any) -> list[Any]:
    path.write_text(text)
    with open_reader(path, wanted, **keys) as reader:
        return [[values_of(row)[column] for column in wanted] for row in reader]


FOUR = "EU NNP I-NP B-ORG\nrejects VBZ I-VP O\n\nA DT I-NP O\n"


@pytest.mark.parametrize(
    "word, tag, expected",
    [("0", "3", "B-ORG"), ("0", "-1", "B-ORG"), ("-4", "-2", "I-NP"), ("0", "1", "NNP")],
)
@pytest.mark.parametrize("separator", [" ", "\t", "\t ", " \t"])
@pytest.mark.parametrize("start", ["", "-DOCSTART- -X- O\n\n", "# doc 1\n", "\n"])
def test_columns_may_be_named_by_index(
    word: str, tag: str, expected: str, separator: str, start: str, tmp_path: Path
) -> None:
    text = start + FOUR.replace(" ", separator)
    rows = columns(tmp_path / "a.conll", text, word, tag, label=tag)
    assert rows[0][0] == ["EU", "rejects"]
    assert rows[0][1][0] == expected
    assert len(rows) == 2


def test_index_and_name_may_be_used_together(tmp_path: Path) -> None:
    names = ["word", "pos", "chunk", "ner"]
    rows = columns(tmp_path / "a.conll", FOUR, "word", "-1", column_names=names)
    assert rows[1] == [["A"], ["O"]]
    rows = columns(tmp_path / "a.conll", FOUR, "1", "0", column_names=["1", "a", "b", "0"])
    assert rows[1] == [["A"], ["O"]]  # a name comes first


def test_tokens_with_blanks_do_not_change_the_indices(tmp_path: Path) -> None:
    text = "New York\tNNP\tB-LOC\n" + "is\tVBZ\tO\n" * 5 + "\n"
    assert columns(tmp_path / "a.conll", text, "0", "-1")[0][0][:2] == ["New York", "is"]
    text = "New\tNNP B-LOC\n" * 5 + "\n"  # a tab after each word, and a blank before each tag
    assert columns(tmp_path / "a.conll", text, "0", "2")[0][1] == ["B-LOC"] * 5


def test_wrong_number_of_fields_is_found_without_names(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(FOUR * 3 + "\nEU NNP\nb DT X O\n")
    rows = list(read(path, ["0", "-1"]))
    assert [row.skip for row in rows[-2:]] == [None, SkipReason.WRONG_FIELDS]
    assert (rows[-1].line, rows[-1].detail) == (14, "2 instead of 4")


@pytest.mark.parametrize(
    "wanted, names, message",
    [
        (
            ["words"],
            [],
            r"no column 'words'; .*corpus\.columns=\[.* corpus\.text=0 corpus\.label=-1",
        ),
        (["0", "4"], [], r"no column '4'.*it has '0', '1', '2', '3' \(columns are numbered from 0"),
        (["0", "-5"], [], "no column '-5'"),
        (["3", "-1"], [], r"columns '3' and '-1' are the same, index 3 of 4"),
        (["w", "0"], ["w", "a", "b", "c"], r"columns 'w' and '0' are the same"),
        (
            ["w"],
            ["w", "t"],
            r"lines have 2 fields.*line 1 has 4; list every column.* corpus\.text=0",
        ),
    ],
)
def test_errors_name_the_way_out(
    wanted: list[str], names: list[str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.conll"
    path.write_text(FOUR)
    with pytest.raises(InputError, match=message):
        list(read(path, wanted, names))


def conllu(*tokens: str) -> str:
    lines = (f"{n}\t{token}" for n, token in enumerate(tokens, 1))
    return "\n".join(lines) + "\n\n"


def test_conllu_columns_without_annotation_have_no_value(tmp_path: Path) -> None:
    rest = "_\t_\t0\troot\t_\t_"
    text = (
        conllu(f"_\t_\tSYM\t{rest}", f"a\ta\tX\t{rest}")  # the word is an underscore
        + conllu(f"_\t_\tDET\t{rest}", f"_\t_\tX\t{rest}")  # a treebank without its text
        + conllu(f"a\ta\tX\t{rest}", f"b\tb\t_\t{rest}")
        + conllu(f"_\t_\tSYM\t{rest}")
    )
    rows = columns(tmp_path / "a.conllu", text, "form", "upos", "xpos", "lemma", "feats")
    assert [row[0] for row in rows] == [["_", "a"], None, ["a", "b"], ["_"]]
    assert [row[1] for row in rows] == [["SYM", "X"], ["DET", "X"], None, ["SYM"]]
    assert [row[2] for row in rows] == [None, None, None, ["_"]]
    assert [row[4] for row in rows] == [["_"] * 2] * 3 + [["_"]]


def test_conllu_columns_may_be_named_by_index_and_words_have_their_lines(tmp_path: Path) -> None:
    rest = "X\t_\t_\t0\troot\t_\t_"
    tokens = ("1-2\tab", "1\ta", "1.1\tb", "2\t2 0")
    text = "# text = a\n" + "".join(f"{token}\t_\t{rest}\n" for token in tokens)
    (row,) = columns(tmp_path / "a.conllu", text, "1", "-7")
    assert row == [["a", "2 0"], ["X", "X"]]
    assert row[0].lines == [3, 5]
    (found,) = read(tmp_path / "a.conllu", ["form"])
    assert found.line == 3


def test_conllu_in_a_conll_file_has_no_ranges_and_empty_nodes(tmp_path: Path) -> None:
    rest = "\t_" * 6
    lines = [f"1-2\tdont\t_\t_{rest}", f"1\tdo\tdo\tAUX{rest}", f"2\tnt\tnot\tPART{rest}"]
    lines += [f"2.1\tx\t_\t_{rest}", f"3\t3-4\t_\tNUM{rest}", ""]
    path = tmp_path / "a.conll"
    path.write_text("\n".join(lines))
    (row,) = read(path, ["1", "3"])
    assert row.values == {"1": ["do", "nt", "3-4"], "3": ["AUX", "PART", "NUM"]}
