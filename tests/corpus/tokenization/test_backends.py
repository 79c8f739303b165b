"""Texts have the same ids by fastokens and by tokenizers, and the fallback works."""

import builtins
import json
import logging
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from pipeline.corpus.tokenization import backends
from pipeline.corpus.tokenization.backends import (
    CHECKED_CHARACTERS,
    CheckedBackend,
    FastokensBackend,
    TokenizersBackend,
)
from pipeline.corpus.tokenization.odd_texts import ODD_TEXTS
from pipeline.corpus.tokenization.text_encoder import TextEncoder
from pipeline.corpus.tokenization.tokenizer import train
from tests.helpers.files import as_lists, reviews, settings_in

ROOT = Path(__file__).parents[3]
TEXTS = [row["text"] for row in reviews(300)]
QWEN_SPLIT = (  # a pattern whose matches depend on the character after them
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ADDED = [
    AddedToken("<mask>", lstrip=True, rstrip=True),
    AddedToken("film", single_word=True),
    AddedToken("été", normalized=True),
    AddedToken("<tool>", special=True),
]
SUPPORTED = ("bpe", "lowercase", "byte", "added tokens", "split")
UNSUPPORTED = ("word",)


@pytest.fixture(autouse=True)
def _open_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load fastokens at the first text."""
    monkeypatch.setattr(backends, "UNOPENED_CHARACTERS", 0)


def tokenizer_json(kind: str) -> str:
    """Return the content of a tokenizer.json of this kind."""
    by_kind: dict[str, dict[str, Any]] = {
        "lowercase": {"lowercase": True, "replace": {"<br />": " ", "&amp;": "&"}},
        "byte": {"level": "byte"},
        "word": {"level": "word"},
    }
    changes = by_kind.get(kind, {"replace": {"<br />": " "}})
    content = train(TEXTS, settings_in(Path(), **changes))
    if kind == "added tokens":
        tokenizer = Tokenizer.from_str(content)
        tokenizer.add_tokens([token for token in ADDED if not token.special])
        tokenizer.add_special_tokens([token for token in ADDED if token.special])
        return tokenizer.to_str()
    if kind == "split":
        tree = json.loads(content)
        split = {"type": "Split", "pattern": {"Regex": QWEN_SPLIT}, "behavior": "Isolated"}
        by_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
        steps = [split | {"invert": False}, by_bytes | {"use_regex": False}]
        tree["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
        return json.dumps(tree)
    return content


JSON = {kind: tokenizer_json(kind) for kind in (*SUPPORTED, *UNSUPPORTED)}


@pytest.fixture(autouse=True)
def no_shared_tokenizers(monkeypatch):
    """Each test chooses the library again."""
    monkeypatch.setattr(backends, "_shared", {})


@pytest.fixture
def log(caplog):
    caplog.set_level("INFO", logger="pipeline")
    return caplog


def both(kind: str) -> tuple[FastokensBackend, TokenizersBackend]:
    pytest.importorskip("fastokens")
    return FastokensBackend(JSON[kind]), TokenizersBackend(Tokenizer.from_str(JSON[kind]))


def ids(backend: Any, texts: list[str]) -> list[list[int]]:
    return [row.tolist() for row in backend.encode(texts)]


@pytest.mark.parametrize("kind", SUPPORTED)
def test_fastokens_gives_the_ids_of_tokenizers(kind: str):
    fast, reference = both(kind)
    names = [f"{token.content}a {token.content}b{token.content}" for token in ADDED]
    texts = [*ODD_TEXTS, *TEXTS, *names]
    assert ids(fast, texts) == ids(reference, texts)


CHARACTERS = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from([" ", "\n", "'s", "<br />", "</s>", "<pad>", "<mask>", "film", "\u0301", "é"]),
)


@pytest.mark.parametrize("kind", SUPPORTED)
def test_random_texts_have_the_same_ids(kind: str):
    fast, reference = both(kind)
    runs = st.tuples(CHARACTERS, st.sampled_from([1, 1, 1, 2, 40, 1100])).map(lambda p: p[0] * p[1])

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.lists(runs, max_size=12).map("".join), min_size=1, max_size=3))
    def check(texts: list[str]) -> None:
        assert ids(fast, texts) == ids(reference, texts)

    check()


@pytest.mark.parametrize("kind", ["bpe", "split"])
def test_ids_do_not_depend_on_an_earlier_text_with_the_same_beginning(kind: str):
    fast, reference = both(kind)
    document = "".join(f"{text}{' ' * (i % 40)}\n" for i, text in enumerate(TEXTS[:200]))
    for cut in range(4000, len(document), 997):
        texts = [document[:cut] + end for end in ("x", "  ", "\n", "\u0301")]
        assert ids(fast, texts) == ids(reference, texts)


@pytest.mark.parametrize(
    "overflow, side", [*product(["truncate"], ["start", "end", "both"]), ("split", "start")]
)
@pytest.mark.parametrize("kind", ["bpe", "added tokens"])
def test_long_texts_have_the_same_rows(tmp_path, monkeypatch, kind: str, overflow: str, side: str):
    pytest.importorskip("fastokens")
    path = tmp_path / "tokenizer.json"
    path.write_text(JSON[kind])
    texts = [
        "",
        *TEXTS[:20],
        " ".join(TEXTS),
        "ab" * 20_000,
        " " * 30_000 + "<mask> film </s>" * 999,
    ]
    for max_tokens in (3, 100, 5000):
        encoder = TextEncoder(path, max_tokens, side, overflow)
        fast = as_lists(encoder.encode(texts))
        assert not encoder.backend.fell_back
        dropping = as_lists(encoder.dropping(max_tokens).encode(texts))
        encoder.backend.use_tokenizers()
        assert as_lists(encoder.encode(texts)) == fast
        assert as_lists(encoder.dropping(max_tokens).encode(texts)) == dropping
        monkeypatch.setattr(backends, "_shared", {})


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_an_unsupported_tokenizer_is_encoded_by_tokenizers(tmp_path, log, kind: str):
    pytest.importorskip("fastokens")
    path = tmp_path / "tokenizer.json"
    path.write_text(JSON[kind])
    encoders = [TextEncoder(path, 400) for _ in range(3)]
    for encoder in encoders:
        encoder.encode(TEXTS)
    (line,) = log.messages
    assert line.startswith(
        f"{path}: encoded by tokenizers, because fastokens does not support it: "
    )
    assert log.records[0].levelno == logging.INFO


def test_without_fastokens_tokenizers_encodes(tmp_path, log, monkeypatch):
    real_import = builtins.__import__

    def no_fastokens(name, *args, **kwargs):
        if name == "fastokens":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_fastokens)
    path = tmp_path / "tokenizer.json"
    path.write_text(JSON["bpe"])
    encoded = as_lists(TextEncoder(path, 10_000).encode(TEXTS))
    reference = TokenizersBackend(Tokenizer.from_str(JSON["bpe"]))
    assert [rows[0] for rows, _ in encoded] == ids(reference, TEXTS)
    reason = "fastokens cannot be imported: No module named 'fastokens'"
    assert log.messages == [f"{path}: encoded by tokenizers, because {reason}"]


class Panic(BaseException):
    """A panic in Rust is not an Exception."""


class Wrong(FastokensBackend):
    """Gives another id for one text, or fails."""

    def __init__(self, content: str, text: str = "", error: BaseException | None = None) -> None:
        self._reference = TokenizersBackend(Tokenizer.from_str(content))
        self._text, self._error = text, error

    def encode(self, texts):
        if self._error and self._text in texts:
            raise self._error
        encoded = self._reference.encode(texts)
        return [
            row + np.uint32(1) if text == self._text else row
            for text, row in zip(texts, encoded, strict=True)
        ]


@pytest.mark.parametrize("text", [ODD_TEXTS[2], "a film bfilmc", TEXTS[3]])
@pytest.mark.parametrize("error", [None, ValueError("limit"), Panic("index out of bounds")])
def test_other_ids_or_an_error_are_noticed(log, monkeypatch, text: str, error: Any):
    monkeypatch.setattr(backends, "FastokensBackend", lambda content: Wrong(content, text, error))
    tokenizer = Tokenizer.from_str(JSON["added tokens"])
    backend = CheckedBackend(tokenizer, JSON["added tokens"].encode(), "t.json")
    batches = [TEXTS[:2], TEXTS[2:5], TEXTS[5:9]]
    reference = TokenizersBackend(Tokenizer.from_str(JSON["added tokens"]))
    for batch in batches:
        assert ids(backend, batch) == ids(reference, batch)
    is_found_early = text in ODD_TEXTS or text == "a film bfilmc"
    (line,) = log.messages
    reason = "fastokens fails: " if error else "fastokens gives other ids for the text "
    assert line.startswith(f"t.json: encoded by tokenizers, because {reason}")
    assert log.records[0].levelno == (logging.INFO if is_found_early else logging.WARNING)


def test_an_error_after_the_check_is_noticed(log, monkeypatch):
    last = "the last text"
    error = Panic("index out of bounds")
    monkeypatch.setattr(backends, "FastokensBackend", lambda content: Wrong(content, last, error))
    backend = CheckedBackend(Tokenizer.from_str(JSON["bpe"]), JSON["bpe"].encode(), "t.json")
    backend.encode(["x" * (CHECKED_CHARACTERS - 1), "yy"])
    reference = TokenizersBackend(Tokenizer.from_str(JSON["bpe"]))
    assert ids(backend, [last]) == ids(reference, [last])
    assert [record.levelno for record in log.records] == [logging.WARNING]


def test_the_check_ends_after_some_texts(monkeypatch):
    pytest.importorskip("fastokens")
    backend = CheckedBackend(Tokenizer.from_str(JSON["bpe"]), JSON["bpe"].encode(), "t.json")
    backend.encode(["x" * CHECKED_CHARACTERS])
    monkeypatch.setattr(TokenizersBackend, "encode", None)
    assert len(backend.encode(TEXTS)) == len(TEXTS)


def test_fastokens_is_loaded_for_many_characters_only(monkeypatch):
    monkeypatch.setattr(backends, "UNOPENED_CHARACTERS", 10)
    backend = CheckedBackend(Tokenizer.from_str(JSON["bpe"]), JSON["bpe"].encode(), "t.json")
    fast, _ = both("bpe")
    for texts, is_loaded in ((["film"], False), (["fine"], False), (["dull"], True)):
        assert ids(backend, texts) == ids(fast, texts)
        assert (backend._fast is not None) == is_loaded


def test_a_process_encodes_in_one_thread_and_can_be_forked(tmp_path):
    pytest.importorskip("fastokens")
    (tmp_path / "tokenizer.json").write_text(JSON["bpe"])
    script = f"""
import os
from pathlib import Path
from pipeline.corpus.tokenization.text_encoder import TextEncoder
encoder = TextEncoder(Path({str(tmp_path / "tokenizer.json")!r}), 400)
before = len(os.listdir("/proc/self/task"))
encoder.backend.check(())
encoder.backend._reference = None  # fastokens encodes
encoder.backend._unchecked = 0
encoder.encode(["the film was naive " * 500] * 100)
threads = [Path(f"/proc/self/task/{{t}}/comm").read_text() for t in os.listdir("/proc/self/task")]
assert not [name for name in threads if name.startswith("fastokens")], threads
if os.fork() == 0:
    encoder.encode(["the film was naive " * 500] * 100)
    os._exit(0)
assert os.wait()[1] == 0
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("FASTOKENS_BPE_THREADS", None)
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)
