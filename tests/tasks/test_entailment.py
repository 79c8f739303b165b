"""Entailment: pairs of texts in one split, their model, and a run from a file to predictions."""

import json
from pathlib import Path

import pytest
import torch

from pipeline import config
from pipeline.corpus.dataset.manifest import open_dataset
from pipeline.errors import ConfigError
from pipeline.inference.evaluator import evaluate_files
from pipeline.inference.model import load
from pipeline.models.pair_classifier import PairClassifier
from tests.helpers.corpora import CASES, SMALL, small_run_overrides
from tests.helpers.files import row_dicts
from tests.helpers.processes import call
from tests.helpers.settings import model_settings


def test_the_head_sees_both_vectors_their_difference_and_their_product() -> None:
    torch.manual_seed(0)
    model = PairClassifier(model_settings(hidden=4, embedding=4, layers=1), 20, 3).eval()
    first, second = torch.randint(1, 20, (2, 5)), torch.randint(1, 20, (2, 3))
    lengths, second_lengths = torch.tensor([5, 2]), torch.tensor([1, 3])
    keys = torch.arange(2)
    u, v = model.pool(first, lengths, keys), model.pool(second, second_lengths, keys)
    expected = model.scores(torch.cat([u, v, (u - v).abs(), u * v], 1))
    assert torch.equal(model(first, lengths, keys, second, second_lengths), expected)


def test_scores_do_not_depend_on_the_padding_of_either_text() -> None:
    torch.manual_seed(0)
    model = PairClassifier(model_settings(hidden=4, embedding=4), 20, 3).eval()
    texts, pairs = torch.randint(1, 20, (1, 6)), torch.randint(1, 20, (1, 4))
    lengths, pair_lengths, key = torch.tensor([4]), torch.tensor([3]), torch.tensor([0])
    short = model(texts[:, :4], lengths, key, pairs[:, :3], pair_lengths)
    assert torch.allclose(model(texts, lengths, key, pairs, pair_lengths), short, atol=1e-6)


def test_the_two_texts_of_a_row_have_different_dropout() -> None:
    torch.manual_seed(0)
    model = PairClassifier(model_settings(hidden=8, embedding=8, dropout=0.5), 20, 3)
    vectors: list[torch.Tensor] = []
    model.output_dropout.register_forward_hook(lambda module, inputs, out: vectors.append(out))
    tokens, lengths = torch.randint(1, 20, (1, 4)), torch.tensor([4])
    model(tokens, lengths, torch.tensor([3]), tokens, lengths)
    assert not torch.equal(vectors[0], vectors[1])


def test_pairs_are_duplicates_if_both_texts_are_equal(tmp_path: Path) -> None:
    """Pairs with the same first text are in the same split."""
    rows = [
        {"text": f"premise {n % 30}", "text_pair": f"claim {n // 30}", "label": "xy"[n % 2]}
        for n in range(120)
    ]
    lines = [json.dumps(row) for row in [*rows, *rows[:10]]]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    status, _, err = call(
        "prepare", *SMALL, "task.name=entailment", f"corpus.input={tmp_path}/rows.jsonl",
        f"corpus.shards={tmp_path}/shards",
    )  # fmt: skip
    assert status == 0, err
    manifest = open_dataset(tmp_path / "shards")
    assert manifest.report["duplicates"] == 10
    first_texts = [
        {tuple(row["tokens"]) for row in row_dicts(manifest, split)}
        for split in ("train", "validation")
    ]
    assert sum(map(len, first_texts)) == 30
    assert first_texts[1]


@pytest.mark.parametrize(
    "override, expected",
    [
        ("corpus.overflow=split", "corpus.overflow=split: would pair parts of the two texts"),
        ("corpus.text_pair=text", "corpus.text_pair=text: is the same column as corpus.text"),
        ("corpus.text_pair=label", "corpus.text_pair=label: is the same column as corpus.label"),
        ("stream.unprepared_rows=9", "the task is entailment; set stream.unprepared_rows=0"),
    ],
)
def test_conflicts_are_one_line(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, ["task.name=entailment", "corpus.truncation_side=start", override])
    assert any(expected in line for line in caught.value.lines)


@pytest.mark.slow
def test_a_run_learns_evaluates_and_predicts_pairs(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    CASES["entailment"].write(tmp_path / "claims.jsonl", 800)
    status, _, err = call(
        "train", *small_run_overrides(tmp_path, "entailment"), f"run.dir={folder}",
        "train.epochs=25", "train.lr=1e-2", "model.hidden=32", "model.embedding=32",
        "model.layers=1", "model.head=mlp", "model.dropout=0", "model.embedding_dropout=0",
        "train.ema_decay=0", "train.weight_decay=0", "train.embedding_decay=0",
        "task.metrics=[auroc]", "train.best_metric=auroc",
    )  # fmt: skip
    assert status == 0, err
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["metric"] == "auroc"
    assert summary["best"] > 0.98
    predictor = load(folder)
    lines = ["the red film\tred", "the red film\tblue", "no second text"]
    true, false, error = predictor.predict(lines)
    assert (true["label"], false["label"]) == ("true", "false")
    assert error == {"error": "the text is empty"}
    metrics, _ = evaluate_files(predictor.trained, f"{tmp_path}/claims.jsonl")
    assert metrics["accuracy"] > 0.95
