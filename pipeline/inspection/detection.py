"""Detects the keys of the section `corpus` that set how a file is read, such as the delimiter."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import components
from pipeline.corpus.readers import content
from pipeline.corpus.readers.base import NoRowsError
from pipeline.corpus.readers.formats.conll import SCHEME_TAG
from pipeline.corpus.readers.formats.jsonl import parse_json_object
from pipeline.corpus.readers.idx import ZEROS
from pipeline.corpus.readers.opening import UnknownFormatError, find_reader
from pipeline.errors import InputError
from pipeline.inspection import encodings
from pipeline.inspection.delimited import Layout, find_layout, has_header, name_columns
from pipeline.inspection.keys import Key, Keys
from pipeline.inspection.sampling import reader_settings

SAMPLE_BYTES = 1 << 20
TABLES = {"csv": ",", "tsv": "\t"}
"""Formats with delimiters, and the default delimiter of each."""
CAPTION = re.compile(r"[^\t]+\.(?:png|jpe?g)(?:#\d+)?\t", re.IGNORECASE)
FASTTEXT_LABEL = re.compile(r"(?:^|\s)__label__\S")
MARKUP = ("%PDF", "<html", "<!doctype", "<?xml", "{\\rtf")
"""Beginnings of documents whose lines are not plain text."""
WORKBOOKS = (".xlsx", ".xls", ".ods")
MAX_WIDTH = 20
"""Maximum number of fields in a line of a CoNLL file."""
MAX_CONTROL = 0.01
"""Maximum share of control characters in a text."""


def detect(path: Path, name: str, given: Mapping[str, Any]) -> Keys:
    """Return the keys that are needed to read a file, in addition to the given ones.

    Raises InputError if the format is not recognized, or if the file is empty or damaged.
    """
    if path.is_dir():
        return {}
    if content.plain_name(name).lower().endswith(WORKBOOKS):
        raise InputError(f"{name}: is a spreadsheet; save it as CSV")
    settings = reader_settings(given)
    with _opened(path, name) as file:
        raw = content.read_head(file, name)
        keys: Keys = {}
        try:
            found = find_reader(file, name, settings)
        except UnknownFormatError:
            if raw.startswith(ZEROS):
                raise InputError(
                    f"{name}: is an idx file, which has only one column; name the files of both "
                    "columns, such as image=images.idx,label=labels.idx"
                ) from None
            found = None
        except InputError:
            if "encoding" in given or not encodings.guess(raw)[0].startswith("utf-16"):
                raise
            found = None
        format_name = found.name if found else ""
        is_text = found is None or found.reader.is_text
        if is_text and "encoding" not in given and not (found and found.encoding):
            keys |= _encoding(path, name, raw)
    if not is_text:
        return {}
    encoding = str(given.get("encoding") or (keys["encoding"].value if keys else "utf-8"))
    text = _decoded(raw, encoding)
    if not format_name and (start := next((s for s in MARKUP if _begins(text, s)), "")):
        raise InputError(
            f"{name}: begins with {start}, so its lines are not plain text; extract its text, or "
            "set corpus.format=text"
        )
    if not format_name and not _is_text(text):
        raise InputError(
            f"{name}: its format is not recognized, and it is not text; convert it to CSV, JSON "
            "lines or Parquet, or write a reader (docs/extending.md)"
        )
    whole = text if len(raw) < content.HEAD_BYTES else text[: text.rfind("\n") + 1]
    return keys | _format_keys(format_name, name, whole, given)


def _opened(path: Path, name: str) -> Any:
    try:
        if path.stat().st_size == 0:
            raise NoRowsError(f"{name}: is empty; remove it from the input, or download it again")
        return path.open("rb")
    except OSError as error:
        raise InputError(
            f"{name}: cannot be read: {error.strerror}; make it readable, or remove it"
        ) from None


def _encoding(path: Path, name: str, raw: bytes) -> Keys:
    """Return the key `encoding` for a file that is not in UTF-8; otherwise nothing."""
    sample = raw
    with path.open("rb") as file:
        if not content.is_compressed(raw[:8]):
            sample = content.decompressed(file, name).read(SAMPLE_BYTES)
    encoding, word = encodings.guess(sample)
    if not encoding:
        return {}
    shown = f"with it, the file has words such as {word!r}" if word else "the file is not UTF-8"
    return {"encoding": Key(encoding, f"a guess: {shown}")}


def _decoded(raw: bytes, encoding: str) -> str:
    for mark, marked in content.BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            encoding = marked
            break
    return raw.decode(encoding, "replace").removeprefix("\ufeff")


def _begins(text: str, start: str) -> bool:
    return text.lstrip()[: len(start)].lower() == start.lower()


def _is_text(text: str) -> bool:
    controls = sum(character < " " and character not in "\t\r\n\f\v" for character in text)
    bad = text.count("\ufffd")
    return bool(text) and controls + bad <= MAX_CONTROL * len(text) + 1 and "\0" not in text


def _format_keys(format_name: str, name: str, text: str, given: Mapping[str, Any]) -> Keys:
    """Return the keys for the format of a text; `format_name` is the format that its name shows."""
    if given.get("format") in TABLES or (format_name in TABLES and "format" not in given):
        if format_name == "tsv" and "format" not in given and _is_conll(text):
            return {
                "format": Key("conll", "a word in each line, and blank lines between sentences")
            }
        return _table_keys(TABLES[format_name], text, given)
    if format_name not in ("", "text") or given.get("format"):
        return {}
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        raise InputError(f"{name}: has no text; remove it from the input")
    if isinstance(parse_json_object(lines[0]), dict):
        return {"format": Key("jsonl", "each line is a JSON object")}
    if 2 * sum(bool(FASTTEXT_LABEL.search(line)) for line in lines) > len(lines):
        return {"format": Key("fasttext", "labels that begin with __label__")}
    if all(CAPTION.match(line) for line in lines[:20]):
        return {"format": Key("captions", "each line names an image and has a caption")}
    if _is_conll(text):
        return {"format": Key("conll", "each line has a word and its tags")}
    layout = find_layout(text, "\t")
    if _is_table(layout, format_name):
        chosen = "tsv" if layout.delimiter == "\t" else "csv"
        return {"format": Key(chosen, f"all lines have {layout.width} fields")} | _table_keys(
            TABLES[chosen], text, given
        )
    return {"format": Key("text", "each line is a text")} if not format_name else {}


def _is_table(layout: Layout, format_name: str) -> bool:
    """Return whether a text is a table, although its file name does not say so.

    Sentences also contain commas and semicolons, so with these a table must have a header.
    """
    if layout.width < 2 or layout.share < 0.98 or len(layout.records) < 2:
        return False
    if layout.delimiter in "\t|":
        return True
    return has_header(layout.records) and (format_name == "" or layout.width > 2)


def _table_keys(preferred: str, text: str, given: Mapping[str, Any]) -> Keys:
    """Return the keys of a table that differ from the defaults of its format."""
    keys: Keys = {}
    default = preferred != "\t"
    if given.get("delimiter"):
        preferred = str(given["delimiter"]).replace("\\t", "\t")
        layouts = find_layout(text, preferred, quoting=given.get("quoting"))
        layout = layouts if layouts.delimiter == preferred else Layout(preferred, default, [], 0)
    else:
        layout = find_layout(text, preferred, quoting=given.get("quoting"))
    if layout.delimiter != preferred:
        shown = "\\t" if layout.delimiter == "\t" else layout.delimiter
        why = f"with it, {layout.share:.0%} of the lines have {layout.width} fields"
        keys["delimiter"] = Key(shown, why)
    if layout.quoting != default and "quoting" not in given and layout.records:
        why = "fields are in quotes" if layout.quoting else "quotes are ordinary characters"
        keys["quoting"] = Key(layout.quoting, why)
    if layout.records and not has_header(layout.records) and "columns" not in given:
        names = name_columns(layout.records)
        keys["columns"] = Key(
            names, "the first line is not a header; rename these columns as you like"
        )
    return keys


def _is_conll(text: str) -> bool:
    """Return whether a text has a word and its tags per line, and blank lines between sentences."""
    blocks = [block.splitlines() for block in re.split(r"\n[ \t\r]*\n", text.strip("\n"))]
    lines = [line for block in blocks for line in block if line.strip()]
    tokens = [line.split() for line in lines if not line.startswith(("#", "-DOCSTART-"))]
    if not tokens:
        return False
    width = len(tokens[0])
    same = sum(len(fields) == width for fields in tokens)
    if not 2 <= width <= MAX_WIDTH or same < 0.97 * len(tokens):
        return False
    tags = [fields[-1] for fields in tokens]
    if any("-" in tag for tag in tags) and sum(bool(SCHEME_TAG.fullmatch(t)) for t in tags) >= (
        0.9 * len(tags)
    ):
        return True
    has_sentences = len(blocks) > 1 and len(tokens) > 2 * len(blocks)
    return has_sentences and len(set(tags)) <= 0.5 * len(tags)


def describe(format_name: str) -> str:
    """Return the name of a format to print."""
    if not format_name:
        return "parallel files"
    title = {
        "csv": "CSV", "tsv": "TSV", "jsonl": "JSON", "parquet": "Parquet", "arrow": "Arrow",
        "conll": "CoNLL", "conllu": "CoNLL-U", "fasttext": "fastText", "text": "text",
        "webdataset": "WebDataset", "documents": "folder of texts", "images": "folder of images",
        "captions": "captions",
    }.get(format_name)  # fmt: skip
    return title or components.load("reader", format_name).__name__
