"""The benchmark of the tasks: made corpora are what they say, operations those of the model."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import made, tasks
from benchmarks.made import Shape, Words
from pipeline import config
from pipeline.corpus.dataset.manifest import open_dataset
from pipeline.corpus.prepare.prepare import prepare
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


@pytest.mark.parametrize("name", tasks.PLANS)
def test_a_made_corpus_is_prepared_like_the_real_one_and_counted(name, tmp_path):
    path, overrides = CONFIGS / f"{name}.yaml", [*SMALL[name], "corpus.workers=1"]
    before = config.load(path, overrides)
    filled = "corpus.vocab_size=900" in SMALL[name]
    shape = Shape(12, 0.4, words=900 if filled else 500)
    own = made.write(before, shape, tmp_path / "made", rows=300)
    settings = config.load(path, [*overrides, *own, "model.native=false"])
    prepare(settings.corpus, get(settings.task.name).fields(settings.corpus))
    manifest = open_dataset(settings.corpus.shards)
    rows = tasks.sample(manifest)
    pictured = name in ("mnist_rows", "digit_strips")
    mean = 28 if pictured else 13  # of texts, a little more for what is no whole word, or an end
    assert abs(rows.lengths.mean() - mean) < 2
    for size in manifest.vocabularies.values():  # of words a few are held out, or stand there once
        assert size == 900 if filled else 375 < size <= 504
    counted = tasks.operations(settings, manifest, rows)
    assert counted > 0
    if name == "imdb":
        # 2 layers in 2 directions of 4 gates; no gradient goes back to what is before a first token
        products = 8 * 128 * (128 + 128) + 8 * 128 * (256 + 128)
        assert 0.97 < counted / (6 * products) < 1
    read = int(rows.lengths.sum())
    assert tasks.tokens(manifest, rows) == (
        read + int(rows.columns["target"].lengths.sum()) if "target" in rows.columns else read
    )


def test_made_words_come_as_often_as_they_should():
    settings = config.load(None, ["corpus.vocab_size=1000", "corpus.max_tokens=50"])
    words = Words(settings, Shape(20, 0.5))
    lengths = words.lengths(4000)
    rows = list(words.rows(lengths))
    assert [len(row) for row in rows] == lengths.tolist()
    assert 1 <= lengths.min() <= lengths.max() <= 50
    found, counts = np.unique([word for row in rows for word in row], return_counts=True)
    assert len(found) == 1000
    often = dict(zip(found.tolist(), counts.tolist(), strict=True))
    assert 1.5 < often["a"] / often["c"] < 3  # log2(2) to log2(4/3)
