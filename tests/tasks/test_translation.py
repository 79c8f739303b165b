"""Translation: the loss against torch's, BLEU and chrF against sacrebleu's, rows that only fill up,
texts that come back as they were, and the way from files to translations."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import torch
from torch import nn
from torch.nn import functional

from pipeline import config
from pipeline.corpus.tokenization.special_tokens import BEGIN, END
from pipeline.errors import ConfigError
from pipeline.models.settings import ModelSettings
from pipeline.stream.batch import Batch
from pipeline.tasks.seq2seq import NO_SCORE
from pipeline.tasks.settings import TaskSettings
from pipeline.tasks.translation import Translation
from tests.helpers.corpora import small, write_pairs
from tests.helpers.processes import run
from tests.helpers.task_data import Data
from tests.launch.test_entry_points import launch

V = 23
TARGETS = [[7, 8, 9, END], [END], [4, 4, END], [11, 5, 6, 7, 8, END]]
"""The last row has no weight."""


def task(joint: bool = True, **settings: Any) -> Translation:
    vocabularies = {"tokenizer": V} if joint else {"source": 31, "target": V}
    small = ModelSettings(embedding=8, hidden=8, layers=1)
    return Translation(TaskSettings(name="translation", **settings), small, Data(vocabularies))


def batch(rows: Sequence[int] = range(4)) -> Batch:
    draw = torch.Generator().manual_seed(0)
    source = torch.randint(4, V, (4, 5), generator=draw)
    target = torch.tensor([row + [0] * (6 - len(row)) for row in TARGETS])
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0])
    own = torch.tensor(rows)
    columns = {"source": source[own], "target": target[own]}
    return Batch(columns, torch.tensor([5, 1, 3, 2])[own], weights[own], torch.arange(4)[own])


def model(of: Translation) -> nn.Module:
    torch.manual_seed(1)
    made = of.build()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made.eval()


def test_samples_are_what_evaluation_judges_and_where_the_decoder_looked() -> None:
    of, rows = task(beam_size=3), batch(range(3))
    net = model(of)
    samples, texts = of.show(net, rows), of.texts(of.outputs(net, rows), rows)
    for row, (sample, (written, reference)) in enumerate(zip(samples, texts, strict=True)):
        source = list(map(str, rows.columns["source"][row, : rows.lengths[row]].tolist()))
        assert sample.texts == {
            "source": " ".join(source), "translation": written, "reference": reference
        }  # fmt: skip
        assert sample.attention.read == source
        assert sample.attention.written == written.split()
        assert len(sample.attention.weights) == len(written.split())
        assert all(sum(w) == pytest.approx(1, abs=5e-3) for w in sample.attention.weights)


@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize("joint", [True, False])
def test_the_loss_is_torchs_token_by_token(joint: bool, share: float) -> None:
    """A row at a time, each token given those before it, without the row that has no weight."""
    of, rows = task(joint, label_smoothing=share), batch()
    net = model(of)
    loss, tokens, nll, correct, padded = of.loss(net, rows).tolist()
    expected = plain = right = 0.0
    for row, target in enumerate(TARGETS[:3]):
        source = rows.columns["source"][row : row + 1, : rows.lengths[row]]
        fed, length = torch.tensor([[BEGIN, *target[:-1]]]), torch.tensor([len(target)])
        keys = rows.keys[row : row + 1]
        scores = net(source, rows.lengths[row : row + 1], fed, length, keys)[:, 0]
        answers = torch.tensor(target)
        expected += functional.cross_entropy(
            scores, answers, reduction="sum", label_smoothing=share
        ).item()
        plain += functional.cross_entropy(scores, answers, reduction="sum").item()
        right += (scores.argmax(1) == answers).sum().item()
    assert (tokens, correct) == (8, right)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert nll == pytest.approx(plain, rel=1e-5)
    figures = of.metrics([loss, tokens, nll, correct, padded])
    assert figures["perplexity"] == pytest.approx(math.exp(plain / 8), rel=1e-5)
    assert figures["target_padding"] == pytest.approx(1 - 8 / (4 * 6))
    tally, _ = of.evaluate(of.outputs(net, rows), rows)
    found = of.evaluation(tally).metrics
    assert found["examples"] == 3
    assert found["loss"] == pytest.approx(plain / 8, rel=1e-5)
    assert found["accuracy"] == pytest.approx(right / 8)


def test_rows_without_weight_have_no_part_in_the_gradient() -> None:
    of = task(label_smoothing=0.1)
    net = model(of)
    gradients = []
    for rows in (range(4), range(3)):
        net.zero_grad()
        of.loss(net, batch(rows))[0].backward()
        gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_rank_whose_rows_only_fill_up_takes_part() -> None:
    """Of such rows not even a column of targets may be left."""
    of = task(label_smoothing=0.1)
    net, rows = model(of), batch([3])
    empty = Batch({**rows.columns, "target": torch.zeros(1, 0, dtype=torch.int64)}, *(
        (rows.lengths, rows.weights, rows.keys)
    ))  # fmt: skip
    for each in (rows, empty):
        sums = of.loss(net, each)
        sums[0].backward()
        assert sums[:4].tolist() == [0, 0, 0, 0]
        assert all(p.grad is not None and not p.grad.any() for p in net.parameters())
        outputs = of.outputs(net, each)
        tally, mistakes = of.evaluate(outputs, each)
        assert tally.tolist() == [0, 0, 0, 0]
        assert not mistakes
        assert not of.texts(outputs, each)


def test_tallies_and_texts_of_parts_add_up() -> None:
    of, rows = task(beam_size=3), batch()
    net = model(of)
    outputs = of.outputs(net, rows)
    whole, _ = of.evaluate(outputs, rows)
    parts = [batch([0, 3]), batch([2]), batch([1])]
    found = [of.outputs(net, part) for part in parts]
    tallies = [of.evaluate(o, part)[0] for o, part in zip(found, parts, strict=True)]
    assert torch.allclose(whole, sum(tallies, torch.zeros(4)), rtol=1e-5)
    texts = [t for o, part in zip(found, parts, strict=True) for t in of.texts(o, part)]
    assert sorted(texts) == sorted(of.texts(outputs, rows))
    assert [reference for _, reference in of.texts(outputs, rows)] == ["7 8 9", "", "4 4"]


PAIRS = [
    ("Ein Mann fährt Rad.", "Ein Mann fährt Fahrrad."),
    ("zwei Hunde spielen im Schnee", "Zwei Hunde spielen im Schnee."),
    ("", "Eine Frau, die lacht"),
]


@pytest.mark.parametrize("tokenizer", ["13a", "char"])
def test_bleu_and_chrf_are_sacrebleus(tokenizer: str) -> None:
    tally = torch.tensor([4.0, 6.0, 8.0, 3.0], dtype=torch.float64)
    found = task(bleu_tokenizer=tokenizer).evaluation(tally, PAIRS)
    written, references = ([pair[k] for pair in PAIRS] for k in (0, 1))
    bleu = sacrebleu.corpus_bleu(written, [references], tokenize=tokenizer)
    assert found.metrics["bleu"] == bleu.score > 0
    assert found.metrics["chrf"] == sacrebleu.corpus_chrf(written, [references]).score
    assert f"case:mixed|eff:no|tok:{tokenizer}" in found.signatures["bleu"]
    assert found.metrics["loss"] == 0.5


def test_as_many_translations_as_asked_for_the_best_first() -> None:
    of, rows = task(beam_size=4, n_best=3), batch()
    told = of.predict(of.outputs(model(of), rows)[:3], [{}] * 3)
    for each in told:
        scores = [other["score"] for other in each["best"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        assert each["best"][0] == {k: each[k] for k in ("translation", "score")}


def test_where_no_score_is_finite_that_row_alone_says_so() -> None:
    of, rows = task(), batch()
    outputs = of.outputs(model(of), rows)[:3]
    outputs[1, 2:] = NO_SCORE
    first, none, last = of.predict(outputs, [{}] * 3)
    assert none == {"error": "the model makes no number of it"}
    assert first.keys() == last.keys() == {"translation", "score"}


CONFLICTS = {
    "corpus.overflow=split": "corpus.overflow=split: a part of a text is not what",
    "corpus.overflow=truncate": "corpus.overflow=truncate: a part of a text is not what",
    "corpus.lowercase=true": "corpus.lowercase=true: translations would be written in small",
    "corpus.level=word": "corpus.level=word: a reference would lose the words that are not known",
    "corpus.max_target_tokens=769": "corpus.max_target_tokens=769: a target may have more tokens",
    "corpus.target=text": "corpus.target='text': the same column as corpus.text",
    "model.cell=grid_lstm": "model.cell=grid_lstm: has no decoder",
    "task.n_best=5": "task.n_best=5: no more are found than are followed, task.beam_size=4",
    "task.class_weights=balanced": "is of task.name=classification or images, but",
    "model.pooling=last": "is of task.name=classification or multilabel or images",
    "stream.unprepared_rows=9": "the task is translation; set stream.unprepared_rows=0",
}


@pytest.mark.parametrize("override, expected", CONFLICTS.items(), ids=CONFLICTS)
def test_what_cannot_be_is_one_line(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, [*small(Path(), "translation"), override])
    assert any(expected in line for line in caught.value.lines)


@pytest.mark.parametrize(
    "override", ["model.bridge=false", "corpus.shared_vocab=false", "task.beam_size=2"]
)
def test_what_is_of_translation_alone_is_passed_over_by_no_other(override: str) -> None:
    line = r"is of task\.name=translation( or captioning)?, but the task is classification"
    with pytest.raises(ConfigError, match=line):
        config.load(None, [override])


def test_two_vocabularies_are_not_one_tokenizer() -> None:
    overrides = [
        *small(Path(), "translation"),
        "corpus.shared_vocab=false",
        "corpus.tokenizer=t.json",
    ]
    with pytest.raises(ConfigError, match=r"corpus.shared_vocab=false: means a vocabulary of each"):
        config.load(None, overrides)


def test_what_evaluation_needs_is_asked_for_before_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Translation, "libraries", ("tokenizers", "nobleu"))
    with pytest.raises(ConfigError, match="needs nobleu, not installed here; pip install nobleu"):
        task().check_libraries()


LEARNING = [
    "model.cell=gru", "model.embedding=64", "model.hidden=64", "model.layers=1", "model.dropout=0",
    "model.embedding_dropout=0", "model.attention=dot", "model.tie_embeddings=false",
    "train.weight_decay=0", "train.embedding_decay=0", "train.ema_decay=0", "train.lr=7e-3",
    "train.warmup=0.02", "train.min_lr_ratio=0.1", "train.epochs=16", "stream.token_budget=128",
]  # fmt: skip


@pytest.mark.parametrize("joint", [True, False])
def test_a_language_is_learnt_evaluated_and_written(joint: bool, tmp_path: Path) -> None:
    where = f"{tmp_path}/run"
    write_pairs(tmp_path / "pairs.jsonl", 3000)
    status, _, err = run(
        *small(tmp_path, "translation"), *LEARNING, f"corpus.shared_vocab={joint}", f"run.dir={where}"
    )  # fmt: skip
    assert status == 0, err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["metric"] == "bleu"
    assert summary["best"] > 90
    assert summary["signatures"]["bleu"].startswith("nrefs:1|case:mixed")
    write_pairs(tmp_path / "new.jsonl", 40, seed=7)
    status, out, err = launch("evaluate.py", "--run", where, "--input", f"{tmp_path}/new.jsonl")
    assert status == 0, err
    found = json.loads(out)
    assert found["examples"] == 40
    assert found["bleu"] > 90
    assert "version:" in found["chrf_signature"]
    texts = "the plot of it\n\n" + "film " * 60 + "\nmusic\n"
    status, out, err = launch("predict.py", "--run", where, text=texts)
    assert status == 0, err
    told = [json.loads(line) for line in out.splitlines()]
    assert told[0]["translation"] == "„je auf Mühe ein.“"
    assert told[1] == {"error": "the text is empty"}
    assert "more than corpus.max_tokens tokens" in told[2]["error"]
    assert told[3]["translation"] == "„wie.“"
    status, out, _ = launch("predict.py", "--run", where, "task.n_best=2", text=texts)
    assert len(json.loads(out.splitlines()[0])["best"]) == 2
