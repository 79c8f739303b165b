"""A document in segments is evaluated as one, wherever its segments fall."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score, log_loss
from torch import Tensor, nn

from pipeline.evaluation.segment_merging import OUTPUTS, document_outputs
from pipeline.runtime.precision import Precision
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch
from tests.helpers import segments
from tests.helpers.processes import REPOSITORY, finish, start, torchrun

ALONE = World(0, 1, torch.device("cpu"))
FP32 = Precision("fp32", ALONE.device)


@pytest.fixture(scope="module")
def judged() -> dict[str, Any]:
    return segments.judge(ALONE, seed=0)


def probabilities() -> np.ndarray:
    """[D, C] of the toy's documents, said again in the simplest way."""
    scores = segments.ByFirstToken().scores.detach().double().softmax(-1).numpy()
    return np.array(
        [
            np.average([scores[s[0]] for s in document], axis=0, weights=[len(s) for s in document])
            for document, _ in segments.corpus()
        ]
    )


def test_the_figures_are_of_documents(judged: dict[str, Any]) -> None:
    label = [label for _, label in segments.corpus()]
    expected = probabilities()
    guess = expected.argmax(-1)
    metrics = judged["metrics"]
    assert metrics["examples"] == segments.DOCUMENTS
    assert metrics["loss"] == pytest.approx(log_loss(label, expected), rel=1e-9)
    assert metrics["accuracy"] == pytest.approx((guess == label).mean())
    assert metrics["macro_f1"] == pytest.approx(f1_score(label, guess, average="macro"))
    assert judged["confusion"] == confusion_matrix(label, guess).tolist()


def test_a_wrong_average_would_show() -> None:
    """The toy tells the mean by tokens from the plain mean and from the first segment."""
    scores = segments.ByFirstToken().scores.detach().softmax(-1).numpy()
    plain = [np.mean([scores[s[0]] for s in d], axis=0).argmax() for d, _ in segments.corpus()]
    first = [scores[d[0][0]].argmax() for d, _ in segments.corpus()]
    guess = probabilities().argmax(-1)
    assert (guess != plain).sum() > 3
    assert (guess != first).sum() > 3


def test_mistakes_are_documents_with_all_their_tokens(judged: dict[str, Any]) -> None:
    wrong = [
        (-np.log(said[label]), [token for segment in document for token in segment])
        for (document, label), said in zip(segments.corpus(), probabilities(), strict=True)
        if said.argmax() != label
    ]
    worst = sorted(wrong, reverse=True)[:50]
    assert [m["tokens"] for m in judged["mistakes"]] == [tokens for _, tokens in worst]
    assert [m["loss"] for m in judged["mistakes"]] == pytest.approx([loss for loss, _ in worst])


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_rows_bears_on_nothing(judged: dict[str, Any], seed: int) -> None:
    check_equal(segments.judge(ALONE, seed), judged)


@pytest.mark.parametrize("world", [2, 3])
def test_the_world_size_bears_on_nothing(judged: dict[str, Any], world: int) -> None:
    script = str(REPOSITORY / "tests" / "train" / "segments.py")
    status, out, err = finish(start(torchrun(script, "3", nproc=world)))
    assert status == 0, err
    check_equal(json.loads(out), judged)


def check_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """All is equal but the loss, a sum whose order differs, and that to the last digits."""
    losses = [part["metrics"]["loss"] for part in (found, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-14)
    assert found["metrics"] | {"loss": 0} == expected["metrics"] | {"loss": 0}
    assert found["confusion"] == expected["confusion"]
    assert found["mistakes"] == expected["mistakes"]


class Tags:
    """A task that says something of each token."""

    per_row_fields = ()

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        return torch.stack([batch.columns["tokens"], batch.columns["tokens"] % 5], -1).double()


def test_what_is_said_of_tokens_is_put_end_to_end() -> None:
    whole = {
        7 * number: [token for segment in document for token in segment]
        for number, (document, _) in enumerate(segments.corpus())
    }
    found = {}
    rows = segments.batches(0, 1, seed=0)
    for outputs, batch in document_outputs(Tags(), nn.Identity(), rows, FP32, ALONE):
        assert OUTPUTS not in batch.columns
        for row in torch.nonzero(batch.weights).flatten().tolist():
            said = outputs[row, : batch.lengths[row]]
            assert said[:, 0].tolist() == batch.columns["tokens"][row, : len(said)].tolist()
            assert said[:, 1].tolist() == (said[:, 0] % 5).tolist()
            found[int(batch.columns["document"][row])] = said[:, 0].int().tolist()
    assert found == whole


def test_rows_of_a_corpus_that_was_not_split_pass_as_they_are() -> None:
    names = ("tokens", "label")

    def plain() -> Iterator[Batch]:
        for batch in segments.batches(0, 1, seed=0):
            yield replace(batch, columns={name: batch.columns[name] for name in names})

    passed = [batch for _, batch in document_outputs(Tags(), nn.Identity(), plain(), FP32, ALONE)]
    assert len(passed) == len(list(plain()))
    for found, given in zip(passed, plain(), strict=True):
        assert torch.equal(found.weights, given.weights)
        assert torch.equal(found.columns["tokens"], given.columns["tokens"])


def test_the_model_is_left_as_it_was() -> None:
    for training in (True, False):
        model = nn.Linear(1, 1).train(training)
        seen = [
            (model.training, outputs.requires_grad)
            for outputs, _ in document_outputs(
                Tags(), model, segments.batches(0, 1, 0), FP32, ALONE
            )
        ]
        assert set(seen) == {(False, False)}
        assert model.training == training
