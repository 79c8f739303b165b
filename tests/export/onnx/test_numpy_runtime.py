"""The parts of predict_onnx.py against those of this package, which it must not import."""

import ast
import io
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.corpus.fields import bio_spans, images
from pipeline.corpus.fields.text_lists import split_words
from pipeline.corpus.tokenization.text_encoder import TextEncoder
from pipeline.corpus.tokenization.tokenizer import train
from pipeline.export.onnx import numpy_runtime as runtime
from pipeline.models.decoding.beam_search import beam_search
from pipeline.models.dropout import hash_texts, keyed_uniform
from pipeline.models.layers.crf import CRF
from tests.helpers.settings import corpus_settings
from tests.models.decoding.test_beam_search import BEGIN, END, ToyScorer, extend_history

TAGS = ["O", "B-X", "I-X", "B-Y", "I-Y"]
ERRORS = {"too_long": "too many", "nul": "a NUL", "not_utf8": "other bytes"}


def test_it_imports_only_what_requirements_name() -> None:
    tree = ast.parse(Path(runtime.__file__).read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else names_of(node))
    }
    others = {"numpy", "onnxruntime", "tokenizers", "PIL"}
    assert imported - sys.stdlib_module_names == others


def names_of(node: ast.Import) -> list[str]:
    return [alias.name for alias in node.names]


class ToyDecoder:
    """The methods of the runtime's `Decoder`, with the tables of a `ToyScorer`."""

    def __init__(self, scorer: ToyScorer, rows: int) -> None:
        self.tables = scorer.tables.numpy()
        self.rows, self.history = np.arange(rows), np.zeros(rows, np.int64)

    def step(self, tokens: Any) -> Any:
        self.history = extend_history(self.history, tokens)
        rows = np.tile(self.rows, len(tokens) // len(self.rows))
        return self.tables[rows, self.history, tokens]

    def select(self, hypotheses: Any, rows: Any) -> None:
        self.history, self.rows = self.history[hypotheses], self.rows[rows]


@settings(deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.integers(1, 7), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.6, 2.5]),
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([(), (0,), (0, 1)]),
)
def test_beam_search(
    seed: int, limits: list[int], alpha: float, beam: int, n_best: int, suppress: Sequence[int]
) -> None:
    options: dict[str, Any] = {
        "begin": BEGIN, "end": END, "suppress_tokens": suppress, "beam_size": beam,
        "n_best": min(n_best, beam), "alpha": alpha,
    }  # fmt: skip
    scorer = ToyScorer(seed, len(limits))
    memory = scorer.memory(range(len(limits)))
    expected = beam_search(scorer, memory, torch.tensor(limits), **options)
    decoder = ToyDecoder(scorer, len(limits))
    found = runtime.beam_search(decoder, np.array(limits), **options)
    for row, expected_row in zip(found, expected, strict=True):
        assert [tokens for _, tokens in row] == [h.tokens for h in expected_row]
        assert [s for s, _ in row] == pytest.approx([h.score for h in expected_row], abs=1e-12)


@pytest.mark.parametrize("constrained", [True, False])
def test_viterbi(constrained: bool) -> None:
    torch.manual_seed(0)
    allowed = torch.from_numpy(bio_spans.allowed(TAGS)) if constrained else None
    layer = CRF(len(TAGS), allowed)
    for weight in layer.parameters():
        torch.nn.init.normal_(weight)
    lengths = torch.randint(1, 9, (50,))
    emissions = torch.randn(8, 50, len(TAGS))
    expected = layer.decode(emissions, lengths)
    weights = [w.detach().numpy() for w in (layer.transitions, layer.start, layer.end)]
    rules = None if allowed is None else allowed.numpy()
    for row, length in enumerate(lengths.tolist()):
        found = runtime.viterbi(emissions[:length, row].numpy(), weights, rules)
        assert found.tolist() == expected[row, :length].tolist()


def test_spans_and_words() -> None:
    for tags in product(["O", "B-X", "I-X", "E-X", "S-Y", "I"], repeat=4):
        assert runtime.spans(tags) == [tuple(span) for span in bio_spans.spans(tags)]
    text = " a\tb\N{NO-BREAK SPACE}c \N{NO-BREAK SPACE} d\n"
    assert runtime.split_words(text) == split_words(text)


def test_sampling_draws_the_same_noise() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([5, 1, 3])
    tokens = torch.randint(0, 1 << 20, (3, 5))
    keys = hash_texts(tokens, lengths)
    rows = [row[:n].numpy() for row, n in zip(tokens, lengths, strict=True)]
    own_keys = runtime.hash_texts(rows)
    assert own_keys.astype(np.int64).tolist() == keys.tolist()
    for step in (0, 7):
        uniform = keyed_uniform(keys, step, 100)
        expected = -(-uniform.clamp(1e-9, 1 - 1e-7).log()).log()
        np.testing.assert_allclose(runtime.gumbel(own_keys, step, 100), expected, rtol=1e-5)


@pytest.mark.parametrize("level", ["subword", "word"])
@pytest.mark.parametrize("overflow", ["truncate", "split", "drop"])
@pytest.mark.parametrize("side", ["start", "end", "both"])
def test_texts_have_the_same_tokens(level: str, overflow: str, side: str, tmp_path: Path) -> None:
    texts = ["A fine film.", "<pad> </s> naïve", "long words " * 900, "x" * 9000, "a b c d e f g h"]
    path = tmp_path / "tokenizer.json"
    path.write_text(train(texts, corpus_settings(input="a", level=level, vocab_size=300)))
    ours = TextEncoder(path, 7, side, overflow)
    limits = {"max_tokens": 7, "overflow": overflow, "truncation_side": side, "errors": ERRORS}
    theirs = runtime.TextEncoder(path, limits)
    for text, expected in zip(texts, ours.encode(texts), strict=True):
        if expected.rows:
            found = [row.tolist() for row in theirs.encode(text)]
            assert found == [row.tolist() for row in expected.rows]
        else:
            with pytest.raises(runtime.UnusableError, match="too many"):
                theirs.encode(text)
    words = ["A", "fine", "<pad>", "unseen"]
    if level == "word":
        assert theirs.encode_words(words).tolist() == ours.encode_words([words])[0].tolist()
    assert theirs.decode([5, 6, 7]) == ours.decode([5, 6, 7])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16"])
@pytest.mark.parametrize("step, channels", [("row", 3), ("pixel", 1), ("patch", 3)])
def test_images_have_the_same_steps(mode: str, step: str, channels: int) -> None:
    rng = np.random.default_rng(0)
    shape = (9, 7, len(mode)) if mode.startswith("RGB") else (9, 7)
    dtype = np.uint16 if mode == "I;16" else np.uint8
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, shape).astype(dtype)).save(file, "PNG")
    settings = corpus_settings(input="a", image_size=[8, 6], step=step, patch=2, channels=channels)
    expected = images.decode(file.getvalue(), settings)
    assert expected is not None
    found = runtime.read_image(file.getvalue(), settings.image_size, channels)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        runtime.image_steps(expected, step, 2), images.steps(expected, settings)
    )
    assert runtime.read_image(b"GIF", [8, 6], 1) is None
    assert runtime.read_image(file.getvalue()[:40], [8, 6], 1) is None
