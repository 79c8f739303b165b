"""The task benchmark: shape of the synthetic corpora, token counts and operation counts."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import made, tasks
from benchmarks.made import Shape, Words
from pipeline import config
from pipeline.corpus.dataset.manifest import open_dataset
from pipeline.corpus.prepare.prepare import prepare
from pipeline.stream.rows import Ragged
from pipeline.tasks import get

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = {
    "imdb": ["corpus.vocab_size=900", "corpus.max_tokens=64", "stream.token_budget=512"],
    "reuters": ["corpus.vocab_size=900", "corpus.max_tokens=64", "stream.token_budget=512"],
    "chunking": ["corpus.max_tokens=64"],
    "multi30k_en_de": ["corpus.vocab_size=900"],
    "gnmt": [
        "corpus.vocab_size=900", "model.hidden=32", "model.embedding=32", "stream.token_budget=512"
    ],
    "mnist_rows": [],
    "digit_strips": [],
    "wikitext2": ["corpus.vocab_size=500", "model.hidden=64", "model.embedding=64"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", tasks.PLANS)
def test_synthetic_corpus_has_the_requested_lengths_and_vocabulary(name, tmp_path):
    path, overrides = CONFIGS / f"{name}.yaml", [*SMALL[name], "corpus.workers=1"]
    original = config.load(path, overrides)
    fills_vocabulary = "corpus.vocab_size=900" in SMALL[name]
    shape = Shape(12, 0.4, words=900 if fills_vocabulary else 500)
    corpus_overrides = made.write(original, shape, tmp_path / "made", rows=300)
    settings = config.load(path, [*overrides, *corpus_overrides, "model.native=false"])
    prepare(settings.corpus, get(settings.task.name).fields(settings.corpus))
    manifest = open_dataset(settings.corpus.shards)
    rows = tasks.sample_rows(manifest)
    # texts have slightly more than 12 tokens: words that are split into subwords, end tokens
    mean = 28 if name in ("mnist_rows", "digit_strips") else 13
    assert abs(rows.lengths.mean() - mean) < 2
    # word vocabularies lack the words that are only in validation rows or occur only once
    for size in manifest.vocabularies.values():
        assert size == 900 if fills_vocabulary else 375 < size <= 504
    operations = tasks.operations_per_token(settings, manifest, rows)
    assert operations > 0
    if name == "imdb":
        # 2 layers, 2 directions, 4 gates; below 1 because the first token of a row has no gradient
        # to an earlier state
        products = 8 * 128 * (128 + 128) + 8 * 128 * (256 + 128)
        assert 0.97 < operations / (6 * products) < 1
    input_tokens = int(rows.lengths.sum())
    target_tokens = 0
    if "target" in rows.columns:
        target = rows.columns["target"]
        assert isinstance(target, Ragged)
        target_tokens = int(target.lengths.sum())
    assert tasks.count_tokens(manifest, rows) == input_tokens + target_tokens


def test_synthetic_words_follow_zipfs_law():
    settings = config.load(None, ["corpus.vocab_size=1000", "corpus.max_tokens=50"])
    words = Words(settings, Shape(20, 0.5))
    lengths = words.lengths(4000)
    rows = list(words.rows(lengths))
    assert [len(row) for row in rows] == lengths.tolist()
    assert 1 <= lengths.min() <= lengths.max() <= 50
    vocabulary, counts = np.unique([word for row in rows for word in row], return_counts=True)
    assert len(vocabulary) == 1000
    count = dict(zip(vocabulary.tolist(), counts.tolist(), strict=True))
    assert 1.5 < count["a"] / count["c"] < 3  # expected: log(2) / log(4 / 3) = 2.4
