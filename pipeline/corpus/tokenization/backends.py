"""The two libraries that encode texts: `tokenizers`, and `fastokens`, which is faster.

Both read the same tokenizer.json. `CheckedBackend` chooses one of them for the whole process.
"""

import hashlib
import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pipeline.corpus.tokenization.odd_texts import ODD_TEXTS

logger = logging.getLogger(__name__)

TokenIds = NDArray[np.uint32]
CHECKED_CHARACTERS = 100_000
"""Number of characters, from the first texts, that both libraries encode to compare their ids."""
UNOPENED_CHARACTERS = 20_000
"""Number of characters that `tokenizers` encodes first: loading fastokens would take longer."""
CHECKED_TOKENS = 100
"""Number of added tokens whose names are checked."""
EXCERPT_CHARACTERS = 40
"""Maximum characters of a text in the log."""
NOT_OF_THE_LIBRARY = (KeyboardInterrupt, SystemExit, MemoryError, UnicodeError)
"""Exceptions that are not failures of fastokens; no library can encode a lone surrogate. All others
are, including a panic in Rust, which is a BaseException but not an Exception."""
SHARED_TOKENIZERS = 8
"""Maximum number of tokenizers that a process keeps in memory."""


class Backend(ABC):
    """A library that encodes texts. Special tokens in a text are encoded as ordinary text."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the token ids of each text, without added special tokens."""


class TokenizersBackend(Backend):
    """Encodes with `tokenizers`, which supports every tokenizer.json."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, np.uint32) for encoding in encodings]


class FastokensBackend(Backend):
    """Encodes with `fastokens`, which supports byte-level BPE."""

    def __init__(self, content: str) -> None:
        """`content` is the content of a tokenizer.json. Raises ImportError if fastokens is not
        installed, and ValueError if it does not support the tokenizer."""
        # The library reads this variable when it first encodes. One thread, because training runs
        # several processes per machine and a process with threads must not be forked.
        os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")
        import fastokens

        # from_file would also read a tokenizer_config.json beside the file.
        self._tokenizer: Any = fastokens.Tokenizer.from_json_str(content)

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        ids, offsets = self._tokenizer.encode_batch_flat(
            list(texts), add_special_tokens=False, split_special_tokens=True
        )
        flat = np.frombuffer(ids, np.dtype("<u4"))
        bounds = np.frombuffer(offsets, np.dtype("<u8")).tolist()
        return [flat[start:stop] for start, stop in pairwise(bounds)]


class CheckedBackend(Backend):
    """Encodes with `fastokens` if its ids equal those of `tokenizers`, otherwise with `tokenizers`.

    The ids are compared for ODD_TEXTS, the added tokens, and the first CHECKED_CHARACTERS
    characters of the texts to encode. If they differ, or if fastokens cannot be used, one log line
    gives the reason, and the process uses `tokenizers` from then on. All ids that were returned
    before are correct. The first UNOPENED_CHARACTERS characters are encoded by `tokenizers` alone.
    """

    def __init__(self, tokenizer: Tokenizer, content: bytes, path: object) -> None:
        """`content` is the content of the tokenizer.json, and `path` its name in the log."""
        self._tokenizer, self._content, self._path = tokenizer, content, path
        self._reference = TokenizersBackend(tokenizer)
        self._fast: Backend | None = None
        self._is_open = False
        self._unchecked = CHECKED_CHARACTERS
        self._unopened = UNOPENED_CHARACTERS

    @property
    def fell_back(self) -> bool:
        """Whether `tokenizers` has been chosen; False before the first use."""
        return self._is_open and self._fast is None

    def use_tokenizers(self) -> None:
        """Use `tokenizers` in this process, without a log line."""
        self._fast, self._is_open = None, True

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        if not self._is_open:
            self._unopened -= sum(map(len, texts))
            if self._unopened >= 0:
                return self._reference.encode(texts)
        self.check(texts)
        encoded = self._encode_fast(texts, logging.WARNING)
        return self._reference.encode(texts) if encoded is None else encoded

    def check(self, texts: Iterable[str]) -> None:
        """Choose the library, comparing the ids of these texts if more have to be checked."""
        self._open()
        if self._fast is not None and self._unchecked > 0:
            self._compare(self._next_sample(texts), logging.WARNING)

    def _open(self) -> None:
        if self._is_open:
            return
        self._is_open = True
        try:
            self._fast = FastokensBackend(without_batch_settings(self._content).decode())
        except ImportError as error:
            self._fall_back(f"fastokens cannot be imported: {error}", logging.INFO)
        except NOT_OF_THE_LIBRARY:
            raise
        except BaseException as error:
            self._fall_back(f"fastokens does not support it: {error}", logging.INFO)
        else:
            added = [token.content for token in self._tokenizer.get_added_tokens_decoder().values()]
            texts = [f"a {token} b{token}c" for token in added[:CHECKED_TOKENS]]
            self._compare([*ODD_TEXTS, *texts], logging.INFO)

    def _next_sample(self, texts: Iterable[str]) -> list[str]:
        """Return the next texts to check, without very long ones."""
        sample = []
        for text in texts:
            if self._unchecked <= 0:
                break
            if len(text) <= CHECKED_CHARACTERS:
                self._unchecked -= len(text)
                sample.append(text)
        return sample

    def _compare(self, texts: Sequence[str], level: int) -> None:
        expected = self._reference.encode(texts)
        for text, ids, encoded in zip(
            texts, expected, self._encode_fast(texts, level) or [], strict=False
        ):
            if not np.array_equal(ids, encoded):
                excerpt = text[:EXCERPT_CHARACTERS]
                self._fall_back(f"fastokens gives other ids for the text {excerpt!r}", level)
                return

    def _encode_fast(self, texts: Sequence[str], level: int) -> list[TokenIds] | None:
        """Return the ids from fastokens; None if it is not used or fails. A failure is logged."""
        if self._fast is None:
            return None
        try:
            return self._fast.encode(texts)
        except NOT_OF_THE_LIBRARY:
            raise
        except BaseException as error:
            self._fall_back(f"fastokens fails: {error}", level)
            return None

    def _fall_back(self, reason: str, level: int) -> None:
        self._fast = None
        logger.log(level, "%s: encoded by tokenizers, because %s", self._path, reason)


@dataclass(frozen=True)
class SharedTokenizer:
    """A tokenizer of this process, shared by all encoders of the same file content."""

    tokenizer: Tokenizer
    backend: CheckedBackend

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest token id; ids may have gaps."""
        return max(self.tokenizer.get_vocab().values()) + 1


_shared: dict[bytes, SharedTokenizer] = {}


def shared_tokenizer(path: Path) -> SharedTokenizer:
    """Return the tokenizer of a tokenizer.json, which is parsed once per process.

    Truncation, padding and dropout in the file are ignored. Raises OSError if the file cannot be
    read, and another Exception if it is not a tokenizer.
    """
    data = path.read_bytes()
    digest = hashlib.sha256(data).digest()
    shared = _shared.pop(digest, None)
    if shared is None:
        tokenizer = Tokenizer.from_buffer(data)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if getattr(tokenizer.model, "dropout", None):
            tokenizer.model.dropout = None
        shared = SharedTokenizer(tokenizer, CheckedBackend(tokenizer, data, path))
    _shared[digest] = shared  # at the end: the most recently used
    while len(_shared) > SHARED_TOKENIZERS:
        del _shared[next(iter(_shared))]
    return shared


def without_batch_settings(data: bytes) -> bytes:
    """Return a tokenizer.json without truncation, padding and dropout; unchanged if it has none."""
    content = json.loads(data)
    model = content["model"]
    if not (content.get("truncation") or content.get("padding") or model.get("dropout")):
        return data
    content |= {"truncation": None, "padding": None}
    if "dropout" in model:
        model["dropout"] = None
    return json.dumps(content, ensure_ascii=False, indent=2).encode()
