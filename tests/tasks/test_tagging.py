"""Tagging: metrics against seqeval, mistakes, samples and predictions, from given emissions."""

from typing import Any

import numpy as np
import pytest
import torch
from seqeval.metrics import f1_score, precision_score, recall_score
from torch import Tensor

from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.segment_merging import document_outputs
from pipeline.models.layers.crf import CRF
from pipeline.models.tagger import Tagger
from pipeline.runtime.precision import Precision
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch, collate
from pipeline.stream.rows import Columns, Ragged, Rows
from pipeline.tasks.base.sample import Sample, TextSpan
from pipeline.tasks.tagging import Tagging
from tests.helpers.settings import model_settings, task_settings
from tests.helpers.task_data import Data

ENTITIES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
PARTS_OF_SPEECH = ["DET", "NOUN", "VERB"]
ROWS, PADDING, LONGEST, WIDTH = 40, 5, 9, 8
WORLD = World(0, 1, torch.device("cpu"))
FP32 = Precision("fp32", WORLD.device)

both_tag_sets = pytest.mark.parametrize(
    "names", [ENTITIES, PARTS_OF_SPEECH], ids=["entities", "parts_of_speech"]
)


class FixedTagger(Tagger):
    """A tagger with given emissions: the w-th row is the emission of word w."""

    def __init__(self, word_emissions: Tensor, allowed: Tensor | None, *, crf: bool) -> None:
        settings = model_settings(embedding=1, hidden=1, characters=0, layers=1, crf=crf)
        super().__init__(settings, 1, word_emissions.shape[1], allowed)
        self.word_emissions = torch.nn.Parameter(word_emissions)

    def emissions(self, words: Tensor, characters: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        return self.word_emissions[words.t()]


def make_task(names: list[str]) -> Tagging:
    return Tagging(task_settings(), model_settings(), Data({"tokenizer": 1}, {"tags": names}))


def make_model(names: list[str], *, crf: bool = False) -> FixedTagger:
    """Return a tagger whose best tags are mostly correct."""
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(ROWS * LONGEST, len(names), generator=draw)
    words = torch.arange(len(scores))
    scores[words, true_tags(names)] += 1.5
    model = FixedTagger(scores, None, crf=crf)
    if crf:
        for weight in model.scorer.parameters():
            torch.nn.init.normal_(weight, generator=draw)
    return model


def true_tags(names: list[str]) -> Tensor:
    """Return the tag of each word [ROWS * LONGEST]; the entities of each row are valid BIO."""
    draw = np.random.default_rng(2)
    if names is PARTS_OF_SPEECH:
        return torch.from_numpy(draw.integers(0, len(PARTS_OF_SPEECH), ROWS * LONGEST))
    tags: list[int] = []
    while len(tags) < ROWS * LONGEST:
        is_row_start = len(tags) % LONGEST == 0
        label = int(draw.choice([0, 1, 3]))
        continues = not is_row_start and tags[-1] and draw.random() < 0.5
        tags.append((tags[-1] + 1) // 2 * 2 if continues else label)
    return torch.tensor(tags)


def row_lengths() -> list[int]:
    return np.random.default_rng(1).integers(1, LONGEST + 1, ROWS).tolist()


def make_batch(names: list[str]) -> Batch:
    """Return rows of words 0, 1, 2, ...; the last PADDING rows have weight 0."""
    words = torch.arange(ROWS * LONGEST).view(ROWS, LONGEST)
    valid = torch.arange(LONGEST) < torch.tensor(row_lengths())[:, None]
    columns = {
        "tokens": words * valid,
        "characters": word_bytes(words) * valid[..., None],
        "tags": true_tags(names).view(ROWS, LONGEST) * valid,
    }
    weights = (torch.arange(ROWS) < ROWS - PADDING).float()
    return Batch(
        columns, torch.tensor(row_lengths()), weights, torch.zeros(ROWS, dtype=torch.int64)
    )


def word_bytes(words: Tensor) -> Tensor:
    """Return the bytes [..., WIDTH] of the words [...], spelled w0, w1, w2, ..."""
    data = b"".join(f"w{word}".encode().ljust(WIDTH, b"\0") for word in words.flatten().tolist())
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).long().view(*words.shape, WIDTH)


def tag_names(names: list[str], tags: Tensor) -> list[list[str]]:
    """Return the names of tags [ROWS, T] without padding."""
    rows = zip(tags.tolist(), row_lengths(), strict=True)
    return [[names[tag] for tag in row[:n]] for row, n in rows][: ROWS - PADDING]


def evaluate_batch(
    names: list[str], batch: Batch, *, crf: bool = False
) -> tuple[dict[str, float], Any]:
    """Return the metrics and mistakes of `make_model`."""
    task = make_task(names)
    counts, mistakes = task.evaluate(task.outputs(make_model(names, crf=crf), batch), batch)
    return task.summarize(counts).metrics, mistakes


def best_tags(names: list[str]) -> list[list[str]]:
    """Return the tag with the highest emission of each word."""
    return tag_names(names, make_model(names).word_emissions.argmax(-1).view(ROWS, LONGEST))


@both_tag_sets
def test_metrics_match_seqeval(names: list[str]) -> None:
    batch = make_batch(names)
    metrics, _ = evaluate_batch(names, batch)
    true, predicted = tag_names(names, batch.columns["tags"]), best_tags(names)
    pairs = [pair for row in zip(true, predicted, strict=True) for pair in zip(*row, strict=True)]
    accuracy = sum(a == b for a, b in pairs) / len(pairs)
    with torch.no_grad():
        scores = make_model(names).word_emissions.double().log_softmax(-1)
    words = torch.cat(
        [torch.arange(n) + i * LONGEST for i, n in enumerate(row_lengths()[:-PADDING])]
    )
    expected = {
        "examples": ROWS - PADDING,
        "loss": -scores[words, true_tags(names)[words]].mean().item(),
        "accuracy": accuracy,
    }
    if names is ENTITIES:
        expected |= {
            "precision": precision_score(true, predicted),
            "recall": recall_score(true, predicted),
            "f1": f1_score(true, predicted),
        }
        assert 0.2 < expected["f1"] < 0.9
    assert metrics == pytest.approx(expected, rel=1e-5)
    assert make_task(names).best_metric in metrics


@both_tag_sets
def test_with_a_crf_its_loss_and_best_path_are_used(names: list[str]) -> None:
    batch, model = make_batch(names), make_model(names, crf=True)
    outputs = make_task(names).outputs(model, batch)
    assert isinstance(model.scorer, CRF)
    emissions = model.word_emissions[batch.columns["tokens"].t()]
    tags = model.scorer.decode(emissions, batch.lengths)
    losses = model.scorer.nll(emissions, batch.columns["tags"].t(), batch.lengths)
    metrics, _ = evaluate_batch(names, batch, crf=True)
    is_real = batch.weights > 0
    words = (batch.lengths * is_real).sum().item()
    assert metrics["loss"] == pytest.approx((losses * is_real).sum().item() / words, rel=1e-6)
    for row, n, expected in zip(outputs, row_lengths(), tags, strict=True):
        assert row[:n, 0].tolist() == (expected[:n] + 1).tolist()
        assert not row[n:].any()


@both_tag_sets
def test_the_confusion_matrix_counts_words(names: list[str]) -> None:
    task, batch = make_task(names), make_batch(names)
    counts, _ = task.evaluate(task.outputs(make_model(names), batch), batch)
    confusion = np.zeros((len(names), len(names)), int)
    for row in zip(tag_names(names, batch.columns["tags"]), best_tags(names), strict=True):
        for true, predicted in zip(*row, strict=True):
            confusion[names.index(true), names.index(predicted)] += 1
    evaluation = task.summarize(counts)
    assert evaluation.confusion == confusion.tolist()
    assert evaluation.labels == names
    counts_by_tag = confusion.sum(1)
    assert evaluation.baseline is not None
    assert evaluation.baseline.guess == repr(names[counts_by_tag.argmax()])
    assert evaluation.baseline.metric == "accuracy"
    assert evaluation.baseline.value == pytest.approx(counts_by_tag.max() / confusion.sum())


def take_rows(batch: Batch, part: slice) -> Batch:
    columns = {name: column[part] for name, column in batch.columns.items()}
    return Batch(columns, batch.lengths[part], batch.weights[part], batch.keys[part])


@both_tag_sets
def test_counts_of_partial_batches_add_up(names: list[str]) -> None:
    task, batch = make_task(names), make_batch(names)
    outputs = task.outputs(make_model(names), batch)
    whole, mistakes = task.evaluate(outputs, batch)
    parts = [task.evaluate(outputs[s], take_rows(batch, s)) for s in (slice(0, 7), slice(7, ROWS))]
    assert torch.allclose(torch.stack([counts for counts, _ in parts]).sum(0), whole)
    assert [m for _, part_mistakes in parts for m in part_mistakes] == mistakes


@both_tag_sets
def test_training_sums_exclude_padding_rows(names: list[str]) -> None:
    model, batch = make_model(names), make_batch(names)
    sums = make_task(names).loss(model, batch)
    sums[0].backward()
    assert model.word_emissions.grad is not None
    has_gradient = model.word_emissions.grad.abs().sum(-1).view(ROWS, LONGEST) > 0
    valid = torch.arange(LONGEST) < batch.lengths[:, None]
    assert torch.equal(has_gradient, valid & (batch.weights > 0)[:, None])
    assert sums[1] == sum(row_lengths()[:-PADDING])
    metrics, _ = evaluate_batch(names, batch)
    expected = pytest.approx(metrics["loss"], rel=1e-5)
    assert make_task(names).metrics(sums.tolist()) == {"loss": expected}


@both_tag_sets
def test_mistakes_are_the_sentences_with_a_wrong_tag(names: list[str]) -> None:
    batch = make_batch(names)
    _, mistakes = evaluate_batch(names, batch)
    true, predicted = tag_names(names, batch.columns["tags"]), best_tags(names)
    wrong = [i for i, (a, b) in enumerate(zip(true, predicted, strict=True)) if a != b]
    assert len(mistakes) == len(wrong) > 5
    words = [f"w{i * LONGEST + t}" for i in wrong for t in range(row_lengths()[i])]
    for version in ("true", "predicted"):
        text = " ".join(m.details[version] for m in mistakes)
        assert [w for w in text.replace("/", " ").replace("]", "").split() if w in words] == words
    losses = make_model(names)(*(batch.columns[c] for c in ("tokens", "characters")), batch.lengths,
                          batch.keys, batch.columns["tags"])  # fmt: skip
    assert [m.loss for m in mistakes] == pytest.approx(losses[wrong].tolist(), rel=1e-6)


@pytest.mark.parametrize(
    "names, tags, expected",
    [
        (ENTITIES, [1, 2, 0, 3, 3], "[PER w0 w1] w2 [LOC w3] [LOC w4]"),
        (ENTITIES, [0, 2, 4, 0, 0], "w0 [PER w1] [LOC w2] w3 w4"),
        (ENTITIES, [0, 0, 0, 0, 0], "w0 w1 w2 w3 w4"),
        (PARTS_OF_SPEECH, [0, 1, 2, 2, 1], "w0/DET w1/NOUN w2/VERB w3/VERB w4/NOUN"),
        (["O", "B", "I"], [0, 1, 2, 0, 1], "w0 [_ w1 w2] w3 [_ w4]"),
    ],
)
def test_mistakes_format_a_tagged_sentence(
    names: list[str], tags: list[int], expected: str
) -> None:
    wrong = [(tag + 1) % len(names) for tag in tags]
    words = torch.arange(5)[None]
    one = torch.ones(1, dtype=torch.int64)
    columns = {"tokens": words, "characters": word_bytes(words), "tags": torch.tensor([wrong])}
    outputs = torch.stack([torch.tensor([tags]) + 1.0, torch.ones(1, 5)], -1).double()
    _, (mistake,) = make_task(names).evaluate(outputs, Batch(columns, one * 5, one.float(), one))
    assert mistake.details["predicted"] == expected
    assert mistake.loss == 5
    assert mistake.tokens == []


def spans_of(sample: Sample, version: str) -> list[TextSpan]:
    spans = sample.texts[version]
    assert isinstance(spans, list)
    return spans


def test_samples_mark_true_and_predicted_spans() -> None:
    batch = make_batch(ENTITIES)
    samples = make_task(ENTITIES).samples(make_model(ENTITIES), batch)
    assert len(samples) == len(batch.lengths)
    wrong = 0
    for sample, length in zip(samples, row_lengths(), strict=False):
        versions = [spans_of(sample, "true"), spans_of(sample, "predicted")]
        for spans in versions:
            assert sum(len(span.text.split()) for span in spans) == length
            assert all(span.label in ("", "PER", "LOC") for span in spans)
        correct = [[(s.text, s.label) for s in v if s.label and not s.wrong] for v in versions]
        assert correct[0] == correct[1]
        wrong += sum(span.wrong for spans in versions for span in spans)
    assert wrong


@pytest.mark.parametrize(
    ("names", "tags", "other_tags", "expected"),
    [
        (
            ENTITIES, [1, 2, 0, 3], [1, 2, 0, 1],
            [TextSpan("a b", "PER"), TextSpan("c"), TextSpan("d", "LOC", wrong=True)],
        ),
        (
            ENTITIES, [1, 2, 3, 0], [1, 1, 3, 0],
            [TextSpan("a b", "PER", wrong=True), TextSpan("c", "LOC"), TextSpan("d")],
        ),
        (
            PARTS_OF_SPEECH, [0, 1, 2, 2], [0, 1, 1, 2],
            [TextSpan("a", "DET"), TextSpan("b", "NOUN"), TextSpan("c", "VERB", wrong=True),
             TextSpan("d", "VERB")],
        ),
    ],
)  # fmt: skip
def test_a_span_that_the_other_tags_lack_is_wrong(
    names: list[str], tags: list[int], other_tags: list[int], expected: list[TextSpan]
) -> None:
    pair = [[names[tag] for tag in version] for version in (tags, other_tags)]
    assert make_task(names)._text_spans(["a", "b", "c", "d"], *pair) == expected


def test_predictions_of_entities_have_label_text_and_position() -> None:
    task = make_task(ENTITIES)
    given = [task.parse("Ada Lovelace saw  Paris"), task.parse("nothing\n")]
    tags = torch.tensor([[2, 3, 1, 4], [1, 0, 0, 0]]) + 0.0  # 0 is padding
    predictions = task.predict(torch.stack([tags, tags], -1).double(), given)
    assert predictions == [
        {
            "spans": [
                {"label": "PER", "text": "Ada Lovelace", "start": 0, "stop": 2},
                {"label": "LOC", "text": "Paris", "start": 3, "stop": 4},
            ]
        },
        {"spans": []},
    ]


def test_predictions_without_entities_are_pairs_of_word_and_tag() -> None:
    task = make_task(PARTS_OF_SPEECH)
    tags = torch.tensor([[1, 2], [3, 0]]) + 0.0
    predictions = task.predict(
        torch.stack([tags, tags], -1).double(), [task.parse("the film"), task.parse("go")]
    )
    assert predictions == [
        {"tags": [["the", "DET"], ["film", "NOUN"]]},
        {"tags": [["go", "VERB"]]},
    ]


def split_rows(names: list[str], *, seed: int) -> list[Batch]:
    """Split the rows into segments of at most 3 words, shuffled into batches of 7."""
    words = torch.arange(ROWS * LONGEST).view(ROWS, LONGEST)
    tags = true_tags(names).view(ROWS, LONGEST)
    segments = [  # row, index in the row, segments of the row, positions of its words
        (row, index, -(-n // 3), list(range(n))[3 * index : 3 * index + 3])
        for row, n in enumerate(row_lengths()[: ROWS - PADDING])
        for index in range(-(-n // 3))
    ]
    sizes = np.array([len(positions) for *_, positions in segments])

    def ragged(values: Tensor) -> Ragged:
        parts = [values[row, positions] for row, *_, positions in segments]
        return Ragged.of(torch.cat(parts).numpy(), sizes)

    columns: Columns = {
        "tokens": ragged(words), "characters": ragged(word_bytes(words)), "tags": ragged(tags),
        "document": np.array([row for row, *_ in segments]),
        "segment": np.array([index for _, index, *_ in segments]),
        "segments": np.array([count for *_, count, _ in segments]),
    }  # fmt: skip
    order = np.random.default_rng(seed).permutation(len(segments))
    rows = Rows.of(columns, len(segments)).take(order, np.zeros_like(order))
    slices = [slice(a, min(a + 7, len(segments))) for a in range(0, len(segments), 7)]
    return [collate(rows, part, size=8, length=4) for part in slices]


@both_tag_sets
@pytest.mark.parametrize("seed", [0, 1])
def test_a_sentence_split_into_rows_is_evaluated_once(names: list[str], seed: int) -> None:
    """Without a CRF its tags do not depend on where it was split."""
    task = make_task(names)
    batches = split_rows(names, seed=seed)
    documents = document_outputs(task, make_model(names), batches, FP32, WORLD)
    evaluation, mistakes = evaluate(task, documents, WORLD)
    expected, expected_mistakes = evaluate_batch(names, make_batch(names))
    assert evaluation.metrics == pytest.approx(expected, rel=1e-7)
    formatted = sorted(m.details["true"] + m.details["predicted"] for m in mistakes)
    assert formatted == sorted(
        m.details["true"] + m.details["predicted"] for m in expected_mistakes
    )


@both_tag_sets
def test_a_sentence_split_into_rows_has_one_prediction(names: list[str]) -> None:
    task, batches = make_task(names), split_rows(names, seed=0)
    predictions: dict[int, dict[str, Any]] = {}
    for outputs, batch in document_outputs(task, make_model(names), batches, FP32, WORLD):
        is_document = batch.weights > 0
        rows = batch.columns["document"][is_document].tolist()
        given = [task.parse(" ".join(f"w{t}" for t in range(row_lengths()[row]))) for row in rows]
        predictions |= dict(zip(rows, task.predict(outputs[is_document], given), strict=True))
    batch = make_batch(names)
    given = [task.parse(" ".join(f"w{t}" for t in range(n))) for n in row_lengths()]
    expected = task.predict(task.outputs(make_model(names), batch), given)
    assert predictions == dict(enumerate(expected[: ROWS - PADDING]))


@pytest.mark.parametrize("crf", [False, True])
def test_unknown_tags_are_wrong_and_their_entities_missed(crf: bool) -> None:
    """An unknown label, an unknown tag of a known label, and a tag that marks no entity."""
    batch, task = make_batch(ENTITIES), make_task(ENTITIES)
    unknown = ["B-MISC", "I-MISC", "S-PER", "0"]
    task.unknown_names = {"tags": unknown}
    tags = batch.columns["tags"]
    for row, length in enumerate(row_lengths()):
        if row % 4 == 0 and length > 3:
            tags[row, :2] = torch.tensor([5, 6])
            tags[row, 2] = 7 if row % 8 else 0
            tags[row, 3] = 8
    outputs = task.outputs(make_model(ENTITIES, crf=crf), batch)
    counts, mistakes = task.evaluate(outputs, batch)
    metrics = task.summarize(counts).metrics
    names = [*ENTITIES, *unknown]
    true = tag_names(names, tags)
    predicted = tag_names(ENTITIES, (outputs[..., 0].long() - 1).clamp(min=0))
    pairs = [pair for rows in zip(true, predicted, strict=True) for pair in zip(*rows, strict=True)]
    assert metrics["examples"] == ROWS - PADDING
    assert metrics["accuracy"] == pytest.approx(np.mean([a == b for a, b in pairs]))
    entities = [["O" if tag == "0" else tag for tag in row] for row in true]
    assert metrics["f1"] == pytest.approx(f1_score(entities, predicted))
    assert metrics["recall"] == pytest.approx(recall_score(entities, predicted))
    assert metrics["precision"] == pytest.approx(precision_score(entities, predicted))
    assert any("[MISC w0 w1]" in mistake.details["true"] for mistake in mistakes)

    known = (tags < len(ENTITIES)).all(1) & (batch.weights > 0)
    rest = Batch(
        {name: column[known] for name, column in batch.columns.items()},
        batch.lengths[known], batch.weights[known], batch.keys[known],
    )  # fmt: skip
    assert int(known.sum()) < ROWS - PADDING
    expected, _ = evaluate_batch(ENTITIES, rest, crf=crf)
    assert metrics["loss"] == pytest.approx(expected["loss"], rel=1e-6)


def test_without_entities_unknown_tags_are_wrong_words() -> None:
    batch, task = make_batch(PARTS_OF_SPEECH), make_task(PARTS_OF_SPEECH)
    task.unknown_names = {"tags": ["PART"]}
    outputs = task.outputs(make_model(PARTS_OF_SPEECH), batch)
    before = task.summarize(task.evaluate(outputs, batch)[0]).metrics
    predicted = outputs[0, :, 0].long() - 1
    assert predicted[0] == batch.columns["tags"][0, 0]  # so that a correct word gets wrong
    batch.columns["tags"][0, 0] = 3
    outputs = task.outputs(make_model(PARTS_OF_SPEECH), batch)
    counts, mistakes = task.evaluate(outputs, batch)
    after = task.summarize(counts).metrics
    words = sum(row_lengths()[:-PADDING])
    assert after["accuracy"] == pytest.approx(before["accuracy"] - 1 / words)
    assert mistakes[0].details["true"].startswith("w0/PART")
