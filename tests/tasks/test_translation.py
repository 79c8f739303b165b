"""Translation: loss against torch, BLEU and chrF against sacrebleu, padding rows, config errors, a
run from files to translations."""

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
from pipeline.corpus.tokenization.special_tokens import BEGIN, END, PAD, UNK
from pipeline.errors import ConfigError
from pipeline.models.decoding.beam_search import length_penalty
from pipeline.stream.batch import Batch
from pipeline.tasks.base.abilities import GenerationOptions
from pipeline.tasks.base.seq2seq import NO_SCORE
from pipeline.tasks.translation import Translation
from tests.helpers.campaign import cases
from tests.helpers.corpora import small_run_overrides, write_pairs
from tests.helpers.processes import call
from tests.helpers.settings import model_settings, task_settings
from tests.helpers.task_data import Data

V = 23
TARGETS = [[7, 8, 9, END], [END], [4, 4, END], [11, 5, 6, 7, 8, END]]
"""The last row is padding (weight 0)."""


def make_task(shared_vocab: bool = True, **settings: Any) -> Translation:
    vocabularies = {"tokenizer": V} if shared_vocab else {"source": 31, "target": V}
    small = model_settings(embedding=8, hidden=8, layers=1)
    return Translation(task_settings(name="translation", **settings), small, Data(vocabularies))


def make_batch(rows: Sequence[int] = range(4)) -> Batch:
    draw = torch.Generator().manual_seed(0)
    source = torch.randint(4, V, (4, 5), generator=draw)
    target = torch.tensor([row + [0] * (6 - len(row)) for row in TARGETS])
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0])
    index = torch.tensor(rows)
    columns = {"source": source[index], "target": target[index]}
    lengths = torch.tensor([5, 1, 3, 2])
    return Batch(columns, lengths[index], weights[index], torch.arange(4)[index])


def make_model(task: Translation) -> nn.Module:
    torch.manual_seed(1)
    model = task.build()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def test_samples_are_the_evaluated_texts_with_the_decoders_attention() -> None:
    task, batch = make_task(beam_size=3), make_batch(range(3))
    model = make_model(task)
    samples = task.samples(model, batch)
    texts = task.texts_to_score(task.outputs(model, batch), batch)
    for row, (sample, (generated, reference)) in enumerate(zip(samples, texts, strict=True)):
        source = list(map(str, batch.columns["source"][row, : batch.lengths[row]].tolist()))
        assert sample.texts == {
            "source": " ".join(source), "translation": generated, "reference": reference
        }  # fmt: skip
        assert sample.attention is not None
        assert sample.attention.read == source
        assert sample.attention.written == generated.split()
        assert len(sample.attention.weights) == len(generated.split())
        assert all(sum(w) == pytest.approx(1, abs=5e-3) for w in sample.attention.weights)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shared_vocab", [True, False])
def test_the_loss_matches_torch_row_by_row(shared_vocab: bool, smoothing: float) -> None:
    """Each row alone, each token given those before it, without the padding row."""
    task, batch = make_task(shared_vocab, label_smoothing=smoothing), make_batch()
    model = make_model(task)
    loss, tokens, nll, correct, padded = task.loss(model, batch).tolist()
    expected_loss = expected_nll = expected_correct = 0.0
    for row, target in enumerate(TARGETS[:3]):
        source = batch.columns["source"][row : row + 1, : batch.lengths[row]]
        inputs, length = torch.tensor([[BEGIN, *target[:-1]]]), torch.tensor([len(target)])
        keys = batch.keys[row : row + 1]
        scores = model(source, batch.lengths[row : row + 1], inputs, length, keys)[:, 0]
        answers = torch.tensor(target)
        expected_loss += functional.cross_entropy(
            scores, answers, reduction="sum", label_smoothing=smoothing
        ).item()
        expected_nll += functional.cross_entropy(scores, answers, reduction="sum").item()
        expected_correct += (scores.argmax(1) == answers).sum().item()
    target_tokens = sum(len(target) for target in TARGETS[:3])
    longest = max(len(target) for target in TARGETS)
    assert (tokens, correct) == (target_tokens, expected_correct)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert nll == pytest.approx(expected_nll, rel=1e-5)
    metrics = task.metrics([loss, tokens, nll, correct, padded])
    assert metrics["perplexity"] == pytest.approx(math.exp(expected_nll / target_tokens), rel=1e-5)
    assert metrics["target_padding"] == pytest.approx(1 - target_tokens / (len(TARGETS) * longest))
    counts, _ = task.evaluate(task.outputs(model, batch), batch)
    evaluated = task.summarize(counts).metrics
    assert evaluated["examples"] == 3
    assert evaluated["loss"] == pytest.approx(expected_nll / target_tokens, rel=1e-5)
    assert evaluated["accuracy"] == pytest.approx(expected_correct / target_tokens)


def test_padding_rows_do_not_change_the_gradient() -> None:
    task = make_task(label_smoothing=0.1)
    model = make_model(task)
    gradients = []
    for rows in (range(4), range(3)):
        model.zero_grad()
        task.loss(model, make_batch(rows))[0].backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_rank_with_only_padding_rows_takes_part() -> None:
    """All its sums and gradients are 0, even if the target has no column at all."""
    task = make_task(label_smoothing=0.1)
    model, padding = make_model(task), make_batch([3])
    empty = Batch({**padding.columns, "target": torch.zeros(1, 0, dtype=torch.int64)}, *(
        (padding.lengths, padding.weights, padding.keys)
    ))  # fmt: skip
    for batch in (padding, empty):
        sums = task.loss(model, batch)
        sums[0].backward()
        assert sums[:4].tolist() == [0, 0, 0, 0]
        assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
        outputs = task.outputs(model, batch)
        counts, mistakes = task.evaluate(outputs, batch)
        assert counts.tolist() == [0, 0, 0, 0]
        assert not mistakes
        assert not task.texts_to_score(outputs, batch)


def test_counts_and_texts_of_partial_batches_add_up() -> None:
    task, batch = make_task(beam_size=3), make_batch()
    model = make_model(task)
    outputs = task.outputs(model, batch)
    whole, _ = task.evaluate(outputs, batch)
    parts = [make_batch([0, 3]), make_batch([2]), make_batch([1])]
    part_outputs = [task.outputs(model, part) for part in parts]
    counts = [task.evaluate(o, part)[0] for o, part in zip(part_outputs, parts, strict=True)]
    assert torch.allclose(whole, sum(counts, torch.zeros(4)), rtol=1e-5)
    texts = [
        text
        for o, part in zip(part_outputs, parts, strict=True)
        for text in task.texts_to_score(o, part)
    ]
    assert sorted(texts) == sorted(task.texts_to_score(outputs, batch))
    references = [reference for _, reference in task.texts_to_score(outputs, batch)]
    assert references == ["7 8 9", "", "4 4"]


PAIRS = [
    ("Ein Mann fährt Rad.", "Ein Mann fährt Fahrrad."),
    ("zwei Hunde spielen im Schnee", "Zwei Hunde spielen im Schnee."),
    ("", "Eine Frau, die lacht"),
]


@pytest.mark.parametrize("tokenizer", ["13a", "char"])
def test_bleu_and_chrf_match_sacrebleu(tokenizer: str) -> None:
    counts = torch.tensor([4.0, 6.0, 8.0, 3.0], dtype=torch.float64)
    evaluation = make_task(bleu_tokenizer=tokenizer).summarize(counts, PAIRS)
    generated, references = ([pair[k] for pair in PAIRS] for k in (0, 1))
    bleu = sacrebleu.corpus_bleu(generated, [references], tokenize=tokenizer)
    assert evaluation.metrics["bleu"] == bleu.score > 0
    assert evaluation.metrics["chrf"] == sacrebleu.corpus_chrf(generated, [references]).score
    assert f"case:mixed|eff:no|tok:{tokenizer}" in evaluation.signatures["bleu"]
    assert evaluation.metrics["loss"] == 0.5


def test_prediction_returns_n_best_translations_best_first() -> None:
    task, batch = make_task(beam_size=4, n_best=3), make_batch()
    predictions = task.predict(task.outputs(make_model(task), batch)[:3], [{}] * 3)
    for prediction in predictions:
        scores = [hypothesis["score"] for hypothesis in prediction["best"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        assert prediction["best"][0] == {k: prediction[k] for k in ("translation", "score")}


@pytest.mark.parametrize("temperature", [None, 1.0, 0.5])
def test_the_score_of_a_generated_text_is_its_log_probability(temperature: float | None) -> None:
    task, batch = make_task(), make_batch(range(3))
    model = make_model(task)
    options = GenerationOptions(n=4, temperature=temperature)
    for row, generations in enumerate(task.generate(model, batch, options)):
        for generation in generations:
            target = torch.tensor([[*map(int, generation.text.split()), END]])
            one = batch.select(torch.tensor([row]))
            one.columns["target"] = target
            ((log_probability, tokens),) = task.log_probabilities(model, one).tolist()
            assert tokens == target.shape[1] <= task.max_lengths(one.lengths)[0]
            penalty = length_penalty(int(tokens), task.settings.length_penalty)
            assert generation.score == pytest.approx(log_probability / penalty, rel=1e-4)


def test_samples_follow_the_probabilities_of_the_model() -> None:
    """The first tokens of many samples of one source have the frequencies of the softmax."""
    task = make_task()
    model = make_model(task)
    batch = make_batch([2])
    generations = task.generate(model, batch, GenerationOptions(n=2000, temperature=1.0))[0]
    first = [int(g.text.split()[0]) if g.text else END for g in generations]
    counts = torch.bincount(torch.tensor(first), minlength=V) / len(first)
    memory = model.encode(batch.columns["source"], batch.lengths, batch.keys)  # type: ignore[operator]
    with torch.no_grad():
        log_probs, _, _ = model.step(torch.tensor([BEGIN]), memory.initial_state, memory)  # type: ignore[operator]
    log_probs[0, [PAD, UNK, BEGIN]] = float("-inf")
    assert (counts - log_probs[0].softmax(-1)).abs().max() < 0.04


def test_a_row_without_a_finite_score_is_an_error_of_that_row_only() -> None:
    task, batch = make_task(), make_batch()
    outputs = task.outputs(make_model(task), batch)[:3]
    outputs[1, 2:] = NO_SCORE
    first, missing, last = task.predict(outputs, [{}] * 3)
    assert missing == {"error": "no text has a finite score"}
    assert first.keys() == last.keys() == {"translation", "score"}


CONFLICTS = {
    "corpus.overflow=split": "corpus.overflow=split: would pair a part of the source text",
    "corpus.overflow=truncate": "corpus.overflow=truncate: would pair a part of the source",
    "corpus.lowercase=true": "corpus.lowercase=true: translations would be lowercase",
    "corpus.level=word": "corpus.level=word: references would lose their unknown words",
    "corpus.max_target_tokens=769": "corpus.max_target_tokens=769: is more than the 768 tokens",
    "corpus.target=text": "corpus.target=text: is the same column as corpus.text",
    "model.cell=grid_lstm": "model.cell=grid_lstm: has no decoder",
    "task.n_best=5": "task.n_best=5: is more than the number of hypotheses in beam search",
    "task.class_weights=balanced": "applies only to task.name=classification, entailment or",
    "model.pooling=last": "applies only to task.name=classification, entailment, images",
    "stream.unprepared_rows=9": "the task is translation; set stream.unprepared_rows=0",
}


@pytest.mark.parametrize("override, expected", CONFLICTS.items(), ids=CONFLICTS)
def test_conflicting_settings_are_reported_in_one_line(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, [*small_run_overrides(Path(), "translation"), override])
    assert any(expected in line for line in caught.value.lines)


@pytest.mark.parametrize(
    "override", ["model.bridge=false", "corpus.shared_vocab=false", "task.beam_size=2"]
)
def test_keys_of_translation_are_errors_in_other_tasks(override: str) -> None:
    line = (
        r"applies only to task\.name=(captioning or )?translation and would be ignored with "
        r"task\.name=classification"
    )
    with pytest.raises(ConfigError, match=line):
        config.load(None, [override])


def test_separate_vocabularies_exclude_a_given_tokenizer() -> None:
    overrides = [
        *small_run_overrides(Path(), "translation"),
        "corpus.shared_vocab=false",
        "corpus.tokenizer=t.json",
    ]
    with pytest.raises(ConfigError, match=r"corpus.shared_vocab=false: means one vocabulary per"):
        config.load(None, overrides)


def test_libraries_missing_for_evaluation_are_reported_before_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Translation, "libraries", ("tokenizers", "nobleu"))
    with pytest.raises(ConfigError, match=r"needs nobleu \(not installed\); pip install nobleu"):
        make_task().make_metrics(task_settings(name="translation"))


LEARNING = [
    "model.cell=gru", "model.embedding=64", "model.hidden=64", "model.layers=1", "model.dropout=0",
    "model.embedding_dropout=0", "model.attention=dot", "model.tie_embeddings=false",
    "train.weight_decay=0", "train.embedding_decay=0", "train.ema_decay=0", "train.lr=7e-3",
    "train.warmup=0.02", "train.min_lr_ratio=0.1", "train.epochs=16", "stream.token_budget=128",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("shared_vocab", cases([True, False], [False]))
def test_a_run_learns_evaluates_and_translates(shared_vocab: bool, tmp_path: Path) -> None:
    folder = f"{tmp_path}/run"
    write_pairs(tmp_path / "pairs.jsonl", 3000)
    status, _, err = call(
        "train",
        *small_run_overrides(tmp_path, "translation"),
        *LEARNING, f"corpus.shared_vocab={shared_vocab}",
        f"run.dir={folder}",
    )  # fmt: skip
    assert status == 0, err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["metric"] == "bleu"
    assert summary["best"] > 90
    assert summary["signatures"]["bleu"].startswith("nrefs:1|case:mixed")
    write_pairs(tmp_path / "new.jsonl", 40, seed=7)
    status, out, err = call("evaluate", "--run", folder, "--input", f"{tmp_path}/new.jsonl")
    assert status == 0, err
    metrics = json.loads(out)
    assert metrics["examples"] == 40
    assert metrics["bleu"] > 90
    assert "version:" in metrics["chrf_signature"]
    texts = "the plot of it\n\n" + "film " * 60 + "\nmusic\n"
    status, out, err = call("predict", "--run", folder, text=texts)
    assert status == 0, err
    predictions = [json.loads(line) for line in out.splitlines()]
    assert predictions[0]["translation"] == "„je auf Mühe ein.“"
    assert predictions[1] == {"error": "the text is empty"}
    assert "more than corpus.max_tokens tokens" in predictions[2]["error"]
    assert predictions[3]["translation"] == "„wie.“"
    status, out, _ = call("predict", "--run", folder, "task.n_best=2", text=texts)
    assert len(json.loads(out.splitlines()[0])["best"]) == 2
