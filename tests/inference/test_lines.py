"""Lines of plain text as rows."""

from pathlib import Path

from pipeline.corpus.readers.opening import open_corpus_file
from pipeline.inference.lines import FORMAT, LINE
from tests.helpers.settings import corpus_settings


def test_each_line_is_a_row_even_if_it_is_blank(tmp_path: Path) -> None:
    path = tmp_path / "a.anything"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\n two \n\xff")
    settings = corpus_settings(input="a", shards="s", format=FORMAT)
    with open_corpus_file(settings, path, [LINE]) as reader:
        rows = [(row.number, (row.values or {})[LINE]) for row in reader]
    assert rows == [(1, "one"), (2, ""), (3, " two "), (4, "\udcff")]
