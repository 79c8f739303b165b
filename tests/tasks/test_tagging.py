"""The figures of tagging against a library's, on emissions that are given."""

from typing import Any

import numpy as np
import pytest
import torch
from seqeval.metrics import f1_score, precision_score, recall_score
from torch import Tensor

from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.segment_merging import document_outputs
from pipeline.models.layers.crf import CRF
from pipeline.models.settings import ModelSettings
from pipeline.models.tagger import Tagger
from pipeline.runtime.precision import Precision
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch, collate
from pipeline.stream.rows import Ragged, Rows
from pipeline.tasks.sample import TextSpan
from pipeline.tasks.settings import TaskSettings
from pipeline.tasks.tagging import Tagging
from tests.helpers.task_data import Data

ENTITIES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
PARTS = ["DET", "NOUN", "VERB"]
ROWS, FILLING, LONGEST, WIDTH = 40, 5, 9, 8
ALONE = World(0, 1, torch.device("cpu"))
FP32 = Precision("fp32", ALONE.device)

both_kinds = pytest.mark.parametrize("names", [ENTITIES, PARTS], ids=["entities", "parts"])


class Fixed(Tagger):
    """A tagger whose emissions are given: word w has the w-th of them."""

    def __init__(self, scores: Tensor, allowed: Tensor | None, *, crf: bool) -> None:
        settings = ModelSettings(embedding=1, hidden=1, characters=0, layers=1, crf=crf)
        super().__init__(settings, 1, scores.shape[1], allowed)
        self.given = torch.nn.Parameter(scores)

    def emissions(self, words: Tensor, characters: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        return self.given[words.t()]


def task(names: list[str]) -> Tagging:
    return Tagging(TaskSettings(), ModelSettings(), Data({"tokenizer": 1}, {"tags": names}))


def model(names: list[str], *, crf: bool = False) -> Fixed:
    """Emissions that say the right tag more often than not."""
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(ROWS * LONGEST, len(names), generator=draw)
    words = torch.arange(len(scores))
    scores[words, truth(names)] += 1.5
    fixed = Fixed(scores, None, crf=crf)
    if crf:
        for weight in fixed.scorer.parameters():
            torch.nn.init.normal_(weight, generator=draw)
    return fixed


def truth(names: list[str]) -> Tensor:
    """The tag of each word [ROWS * LONGEST]; the entities are well formed in every row."""
    draw = np.random.default_rng(2)
    if names is PARTS:
        return torch.from_numpy(draw.integers(0, len(PARTS), ROWS * LONGEST))
    tags: list[int] = []
    while len(tags) < ROWS * LONGEST:
        begin = len(tags) % LONGEST == 0
        label = int(draw.choice([0, 1, 3]))
        goes_on = not begin and tags[-1] and draw.random() < 0.5
        tags.append((tags[-1] + 1) // 2 * 2 if goes_on else label)
    return torch.tensor(tags)


def lengths() -> list[int]:
    return np.random.default_rng(1).integers(1, LONGEST + 1, ROWS).tolist()


def batch(names: list[str]) -> Batch:
    """Rows of words 0, 1, 2, ...; the last of them only fill up."""
    words = torch.arange(ROWS * LONGEST).view(ROWS, LONGEST)
    inside = torch.arange(LONGEST) < torch.tensor(lengths())[:, None]
    columns = {
        "tokens": words * inside,
        "characters": spelt(words) * inside[..., None],
        "tags": truth(names).view(ROWS, LONGEST) * inside,
    }
    weights = (torch.arange(ROWS) < ROWS - FILLING).float()
    return Batch(columns, torch.tensor(lengths()), weights, torch.zeros(ROWS, dtype=torch.int64))


def spelt(words: Tensor) -> Tensor:
    """[...] -> the bytes of w0, w1, w2, ... [..., WIDTH]."""
    data = b"".join(f"w{word}".encode().ljust(WIDTH, b"\0") for word in words.flatten().tolist())
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).long().view(*words.shape, WIDTH)


def named(names: list[str], tags: Tensor) -> list[list[str]]:
    """[ROWS, T] -> the tags of the rows that count."""
    rows = zip(tags.tolist(), lengths(), strict=True)
    return [[names[tag] for tag in row[:n]] for row, n in rows][: ROWS - FILLING]


def judge(names: list[str], rows: Batch, *, crf: bool = False) -> tuple[dict[str, float], Any]:
    own = task(names)
    tally, mistakes = own.evaluate(own.outputs(model(names, crf=crf), rows), rows)
    return own.evaluation(tally).metrics, mistakes


def guessed(names: list[str]) -> list[list[str]]:
    """The likeliest tags, each for itself."""
    return named(names, model(names).given.argmax(-1).view(ROWS, LONGEST))


@both_kinds
def test_the_figures_are_a_librarys(names: list[str]) -> None:
    rows = batch(names)
    found, _ = judge(names, rows)
    true, predicted = named(names, rows.columns["tags"]), guessed(names)
    pairs = [pair for row in zip(true, predicted, strict=True) for pair in zip(*row, strict=True)]
    right = sum(a == b for a, b in pairs) / len(pairs)
    with torch.no_grad():
        scores = model(names).given.double().log_softmax(-1)
    kept = torch.cat([torch.arange(n) + i * LONGEST for i, n in enumerate(lengths()[:-FILLING])])
    expected = {
        "examples": ROWS - FILLING,
        "loss": -scores[kept, truth(names)[kept]].mean().item(),
        "accuracy": right,
    }
    if names is ENTITIES:
        expected |= {
            "precision": precision_score(true, predicted),
            "recall": recall_score(true, predicted),
            "f1": f1_score(true, predicted),
        }
        assert 0.2 < expected["f1"] < 0.9
    assert found == pytest.approx(expected, rel=1e-5)
    assert task(names).best in found


@both_kinds
def test_with_a_crf_the_loss_and_the_tags_are_its_own(names: list[str]) -> None:
    rows, fixed = batch(names), model(names, crf=True)
    outputs = task(names).outputs(fixed, rows)
    assert isinstance(fixed.scorer, CRF)
    emissions = fixed.given[rows.columns["tokens"].t()]
    tags = fixed.scorer.decode(emissions, rows.lengths)
    losses = fixed.scorer.nll(emissions, rows.columns["tags"].t(), rows.lengths)
    found, _ = judge(names, rows, crf=True)
    count = rows.weights > 0
    words = (rows.lengths * count).sum().item()
    assert found["loss"] == pytest.approx((losses * count).sum().item() / words, rel=1e-6)
    for row, n, expected in zip(outputs, lengths(), tags, strict=True):
        assert row[:n, 0].tolist() == (expected[:n] + 1).tolist()
        assert not row[n:].any()


@both_kinds
def test_the_tally_is_of_words(names: list[str]) -> None:
    own, rows = task(names), batch(names)
    tally, _ = own.evaluate(own.outputs(model(names), rows), rows)
    table = np.zeros((len(names), len(names)), int)
    for row in zip(named(names, rows.columns["tags"]), guessed(names), strict=True):
        for true, predicted in zip(*row, strict=True):
            table[names.index(true), names.index(predicted)] += 1
    evaluation = own.evaluation(tally)
    assert evaluation.table == table.tolist()
    assert evaluation.labels == names


def part(rows: Batch, own: slice) -> Batch:
    columns = {name: column[own] for name, column in rows.columns.items()}
    return Batch(columns, rows.lengths[own], rows.weights[own], rows.keys[own])


@both_kinds
def test_tallies_of_parts_add_up(names: list[str]) -> None:
    own, rows = task(names), batch(names)
    outputs = own.outputs(model(names), rows)
    whole, mistakes = own.evaluate(outputs, rows)
    parts = [own.evaluate(outputs[s], part(rows, s)) for s in (slice(0, 7), slice(7, ROWS))]
    assert torch.allclose(sum(tally for tally, _ in parts), whole)
    assert [m for _, found in parts for m in found] == mistakes


@both_kinds
def test_training_sums_leave_filling_rows_out(names: list[str]) -> None:
    fixed, rows = model(names), batch(names)
    sums = task(names).loss(fixed, rows)
    sums[0].backward()
    assert fixed.given.grad is not None
    touched = fixed.given.grad.abs().sum(-1).view(ROWS, LONGEST) > 0
    inside = torch.arange(LONGEST) < rows.lengths[:, None]
    assert torch.equal(touched, inside & (rows.weights > 0)[:, None])
    assert sums[1] == sum(lengths()[:-FILLING])
    found, _ = judge(names, rows)
    metrics = task(names).metrics(sums.tolist())
    assert metrics == {"loss": pytest.approx(found["loss"], rel=1e-5)}


@both_kinds
def test_mistakes_are_sentences_with_a_wrong_tag(names: list[str]) -> None:
    rows = batch(names)
    _, mistakes = judge(names, rows)
    true, predicted = named(names, rows.columns["tags"]), guessed(names)
    wrong = [i for i, (a, b) in enumerate(zip(true, predicted, strict=True)) if a != b]
    assert len(mistakes) == len(wrong) > 5
    words = [f"w{i * LONGEST + t}" for i in wrong for t in range(lengths()[i])]
    for shown in ("true", "predicted"):
        text = " ".join(m.shown[shown] for m in mistakes)
        assert [w for w in text.replace("/", " ").replace("]", "").split() if w in words] == words
    losses = model(names)(*(rows.columns[c] for c in ("tokens", "characters")), rows.lengths,
                          rows.keys, rows.columns["tags"])  # fmt: skip
    assert [m.loss for m in mistakes] == pytest.approx(losses[wrong].tolist(), rel=1e-6)


@pytest.mark.parametrize(
    "names, tags, shown",
    [
        (ENTITIES, [1, 2, 0, 3, 3], "[PER w0 w1] w2 [LOC w3] [LOC w4]"),
        (ENTITIES, [0, 2, 4, 0, 0], "w0 [PER w1] [LOC w2] w3 w4"),
        (ENTITIES, [0, 0, 0, 0, 0], "w0 w1 w2 w3 w4"),
        (PARTS, [0, 1, 2, 2, 1], "w0/DET w1/NOUN w2/VERB w3/VERB w4/NOUN"),
        (["O", "B", "I"], [0, 1, 2, 0, 1], "w0 [_ w1 w2] w3 [_ w4]"),
    ],
)
def test_a_sentence_is_shown_as_a_person_reads_it(
    names: list[str], tags: list[int], shown: str
) -> None:
    wrong = [(tag + 1) % len(names) for tag in tags]
    words = torch.arange(5)[None]
    one = torch.ones(1, dtype=torch.int64)
    columns = {"tokens": words, "characters": spelt(words), "tags": torch.tensor([wrong])}
    said = torch.stack([torch.tensor([tags]) + 1.0, torch.ones(1, 5)], -1).double()
    _, (mistake,) = task(names).evaluate(said, Batch(columns, one * 5, one.float(), one))
    assert mistake.shown["predicted"] == shown
    assert mistake.loss == 5
    assert mistake.tokens == []


def test_samples_mark_what_is_true_and_what_is_predicted() -> None:
    rows = batch(ENTITIES)
    samples = task(ENTITIES).show(model(ENTITIES), rows)
    assert len(samples) == len(rows.lengths)
    wrong = 0
    for sample, length in zip(samples, lengths(), strict=False):
        versions = [sample.texts["true"], sample.texts["predicted"]]
        for pieces in versions:
            assert sum(len(piece.text.split()) for piece in pieces) == length
            assert all(piece.label in ("", "PER", "LOC") for piece in pieces)
        right = [[(p.text, p.label) for p in v if p.label and not p.wrong] for v in versions]
        assert right[0] == right[1]
        wrong += sum(piece.wrong for pieces in versions for piece in pieces)
    assert wrong


@pytest.mark.parametrize(
    ("names", "tags", "others", "shown"),
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
            PARTS, [0, 1, 2, 2], [0, 1, 1, 2],
            [TextSpan("a", "DET"), TextSpan("b", "NOUN"), TextSpan("c", "VERB", wrong=True),
             TextSpan("d", "VERB")],
        ),
    ],
)  # fmt: skip
def test_a_piece_is_wrong_where_the_other_tags_have_no_such_span(
    names: list[str], tags: list[int], others: list[int], shown: list[TextSpan]
) -> None:
    of = [[names[tag] for tag in some] for some in (tags, others)]
    assert task(names)._pieces(["a", "b", "c", "d"], *of) == shown


def test_predictions_are_spans_with_their_text_and_places() -> None:
    own = task(ENTITIES)
    given = [own.parse("Ada Lovelace saw  Paris"), own.parse("nothing\n")]
    said = torch.tensor([[2, 3, 1, 4], [1, 0, 0, 0]]) + 0.0  # 0 past the end
    found = own.predict(torch.stack([said, said], -1).double(), given)
    assert found == [
        {
            "spans": [
                {"label": "PER", "text": "Ada Lovelace", "start": 0, "stop": 2},
                {"label": "LOC", "text": "Paris", "start": 3, "stop": 4},
            ]
        },
        {"spans": []},
    ]


def test_predictions_of_tags_of_single_words_are_pairs() -> None:
    own = task(PARTS)
    said = torch.tensor([[1, 2], [3, 0]]) + 0.0
    found = own.predict(
        torch.stack([said, said], -1).double(), [own.parse("the film"), own.parse("go")]
    )
    assert found == [{"tags": [["the", "DET"], ["film", "NOUN"]]}, {"tags": [["go", "VERB"]]}]


def parts(names: list[str], *, seed: int) -> list[Batch]:
    """The rows that count, cut into segments of at most 3 words that fall into any batches."""
    words, tags = torch.arange(ROWS * LONGEST).view(ROWS, LONGEST), truth(names).view(ROWS, LONGEST)
    cut = [
        (row, place, -(-n // 3), list(range(n))[3 * place : 3 * place + 3])
        for row, n in enumerate(lengths()[: ROWS - FILLING])
        for place in range(-(-n // 3))
    ]
    sizes = np.array([len(own) for *_, own in cut])

    def ragged(values: Tensor) -> Ragged:
        return Ragged.of(torch.cat([values[row, own] for row, *_, own in cut]).numpy(), sizes)

    columns = {
        "tokens": ragged(words), "characters": ragged(spelt(words)), "tags": ragged(tags),
        "document": np.array([row for row, *_ in cut]),
        "segment": np.array([place for _, place, *_ in cut]),
        "segments": np.array([count for *_, count, _ in cut]),
    }  # fmt: skip
    order = np.random.default_rng(seed).permutation(len(cut))
    rows = Rows.of(columns, len(cut)).take(order, np.zeros_like(order))
    starts = range(0, len(cut), 7)
    return [collate(rows, slice(a, min(a + 7, len(cut))), size=8, length=4) for a in starts]


@both_kinds
@pytest.mark.parametrize("seed", [0, 1])
def test_a_sentence_in_several_rows_counts_as_one(names: list[str], seed: int) -> None:
    """Without a CRF its tags do not hang on where it was cut."""
    own = task(names)
    found, mistakes = evaluate(
        own, document_outputs(own, model(names), parts(names, seed=seed), FP32, ALONE), ALONE
    )
    expected, of_whole = judge(names, batch(names))
    assert found.metrics == pytest.approx(expected, rel=1e-7)
    shown = sorted(m.shown["true"] + m.shown["predicted"] for m in mistakes)
    assert shown == sorted(m.shown["true"] + m.shown["predicted"] for m in of_whole)


@both_kinds
def test_a_sentence_in_several_rows_has_one_prediction(names: list[str]) -> None:
    own, found = task(names), {}
    for outputs, rows in document_outputs(own, model(names), parts(names, seed=0), FP32, ALONE):
        whole = rows.weights > 0
        places = rows.columns["document"][whole].tolist()
        given = [own.parse(" ".join(f"w{t}" for t in range(lengths()[row]))) for row in places]
        found |= dict(zip(places, own.predict(outputs[whole], given), strict=True))
    rows = batch(names)
    given = [own.parse(" ".join(f"w{t}" for t in range(n))) for n in lengths()]
    expected = own.predict(own.outputs(model(names), rows), given)
    assert found == dict(enumerate(expected[: ROWS - FILLING]))
