"""Segments of a document are evaluated as one document, in whatever batches and ranks they are."""

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
from tests.helpers.campaign import cases
from tests.helpers.processes import REPOSITORY, finish, start, torchrun

SINGLE = World(0, 1, torch.device("cpu"))
FP32 = Precision("fp32", SINGLE.device)


@pytest.fixture(scope="module")
def evaluated() -> dict[str, Any]:
    return segments.evaluate_corpus(SINGLE, seed=0)


def probabilities() -> np.ndarray:
    """[documents, classes] expected for the toy corpus, computed in the simplest way."""
    scores = segments.ByFirstToken().scores.detach().double().softmax(-1).numpy()
    return np.array(
        [
            np.average([scores[s[0]] for s in document], axis=0, weights=[len(s) for s in document])
            for document, _ in segments.corpus()
        ]
    )


def test_metrics_count_documents_not_segments(evaluated: dict[str, Any]) -> None:
    label = [label for _, label in segments.corpus()]
    expected = probabilities()
    guess = expected.argmax(-1)
    metrics = evaluated["metrics"]
    assert metrics["examples"] == segments.DOCUMENTS
    assert metrics["loss"] == pytest.approx(log_loss(label, expected), rel=1e-9)
    assert metrics["accuracy"] == pytest.approx((guess == label).mean())
    assert metrics["macro_f1"] == pytest.approx(f1_score(label, guess, average="macro"))
    assert evaluated["confusion"] == confusion_matrix(label, guess).tolist()


def test_the_toy_corpus_reveals_a_wrong_average() -> None:
    """Averaging by tokens differs from the unweighted mean and from the first segment."""
    scores = segments.ByFirstToken().scores.detach().softmax(-1).numpy()
    unweighted = [np.mean([scores[s[0]] for s in d], axis=0).argmax() for d, _ in segments.corpus()]
    first = [scores[d[0][0]].argmax() for d, _ in segments.corpus()]
    guess = probabilities().argmax(-1)
    assert (guess != unweighted).sum() > 3
    assert (guess != first).sum() > 3


def test_mistakes_hold_all_tokens_of_the_document(evaluated: dict[str, Any]) -> None:
    wrong = [
        (-np.log(prediction[label]), [token for segment in document for token in segment])
        for (document, label), prediction in zip(segments.corpus(), probabilities(), strict=True)
        if prediction.argmax() != label
    ]
    worst = sorted(wrong, reverse=True)[:50]
    assert [m["tokens"] for m in evaluated["mistakes"]] == [tokens for _, tokens in worst]
    assert [m["loss"] for m in evaluated["mistakes"]] == pytest.approx([loss for loss, _ in worst])


@pytest.mark.parametrize("seed", [1, 2])
def test_results_do_not_depend_on_the_order_of_rows(evaluated: dict[str, Any], seed: int) -> None:
    check_equal(segments.evaluate_corpus(SINGLE, seed), evaluated)


@pytest.mark.distributed
@pytest.mark.parametrize("world", cases([2, 3], [3]))
def test_results_do_not_depend_on_the_number_of_ranks(
    evaluated: dict[str, Any], world: int
) -> None:
    script = str(REPOSITORY / "tests" / "helpers" / "segments.py")
    status, out, err = finish(start(torchrun(script, "3", nproc=world)))
    assert status == 0, err
    check_equal(json.loads(out), evaluated)


def check_equal(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    """All is equal, except that the order of summation may change the last digits of the loss."""
    losses = [part["metrics"]["loss"] for part in (actual, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-14)
    assert actual["metrics"] | {"loss": 0} == expected["metrics"] | {"loss": 0}
    assert actual["confusion"] == expected["confusion"]
    assert actual["mistakes"] == expected["mistakes"]


class TokenTask:
    """A task whose outputs are per token."""

    per_row_fields: tuple[str, ...] = ()

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        return torch.stack([batch.columns["tokens"], batch.columns["tokens"] % 5], -1).double()


TOKEN_TASK: Any = TokenTask()
"""Has only the parts of a `Task` that `document_outputs` uses."""


def test_outputs_per_token_are_concatenated() -> None:
    documents = {
        7 * number: [token for segment in document for token in segment]
        for number, (document, _) in enumerate(segments.corpus())
    }
    merged = {}
    rows = segments.batches(0, 1, seed=0)
    for outputs, batch in document_outputs(TOKEN_TASK, nn.Identity(), rows, FP32, SINGLE):
        assert OUTPUTS not in batch.columns
        for row in torch.nonzero(batch.weights).flatten().tolist():
            values = outputs[row, : batch.lengths[row]]
            assert values[:, 0].tolist() == batch.columns["tokens"][row, : len(values)].tolist()
            assert values[:, 1].tolist() == (values[:, 0] % 5).tolist()
            merged[int(batch.columns["document"][row])] = values[:, 0].int().tolist()
    assert merged == documents


def test_batches_of_a_corpus_without_segments_are_unchanged() -> None:
    names = ("tokens", "label")

    def unsplit() -> Iterator[Batch]:
        for batch in segments.batches(0, 1, seed=0):
            yield replace(batch, columns={name: batch.columns[name] for name in names})

    outputs = document_outputs(TOKEN_TASK, nn.Identity(), unsplit(), FP32, SINGLE)
    outcome = [batch for _, batch in outputs]
    assert len(outcome) == len(list(unsplit()))
    for batch, original in zip(outcome, unsplit(), strict=True):
        assert torch.equal(batch.weights, original.weights)
        assert torch.equal(batch.columns["tokens"], original.columns["tokens"])


def test_the_model_keeps_its_training_mode() -> None:
    for training in (True, False):
        model = nn.Linear(1, 1).train(training)
        modes = [
            (model.training, outputs.requires_grad)
            for outputs, _ in document_outputs(
                TOKEN_TASK, model, segments.batches(0, 1, 0), FP32, SINGLE
            )
        ]
        assert set(modes) == {(False, False)}
        assert model.training == training


def test_an_interrupted_evaluation_restores_the_training_mode() -> None:
    """Both if the consumer stops and if an error occurs."""
    model = nn.Linear(1, 1)
    task: Any = TokenTask()
    outputs = document_outputs(task, model, segments.batches(0, 1, 0), FP32, SINGLE)
    next(outputs)
    assert not model.training
    del outputs
    assert model.training

    def broken() -> Iterator[Batch]:
        yield next(segments.batches(0, 1, 0))
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(document_outputs(task, model, broken(), FP32, SINGLE))
    assert model.training
