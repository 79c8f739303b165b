"""Scores of labels in predictions."""

import torch

from pipeline.tasks.base.scores import MAX_SCORES, top_scores


def test_all_scores_are_in_the_order_of_the_labels() -> None:
    scores = top_scores(["b", "a", "c"], torch.tensor([[0.2, 0.5, 0.3], [0.1234567, 0.0, 1.0]]))
    assert [list(row["scores"].items()) for row in scores] == [
        [("b", 0.2), ("a", 0.5), ("c", 0.3)],
        [("b", 0.123457), ("a", 0.0), ("c", 1.0)],
    ]


def test_of_many_labels_the_most_probable_ones_come_first() -> None:
    labels = [f"label{n}" for n in range(9000)]
    probabilities = torch.rand(3, 9000, generator=torch.Generator().manual_seed(0)).double()
    for row, scores in zip(probabilities.tolist(), top_scores(labels, probabilities), strict=True):
        best = sorted(range(9000), key=lambda k: -row[k])[:MAX_SCORES]
        assert scores["scores_left_out"] == 9000 - MAX_SCORES
        assert list(scores["scores"].items()) == [(labels[k], round(row[k], 6)) for k in best]
    exactly = top_scores(labels[:MAX_SCORES], probabilities[:, :MAX_SCORES])
    assert [list(row) for row in exactly] == [["scores"]] * 3
    assert [list(row["scores"]) for row in exactly] == [labels[:MAX_SCORES]] * 3


def test_top_k_chooses_the_most_probable_labels() -> None:
    probabilities = torch.tensor([[0.2, 0.5, 0.3]])
    [two] = top_scores(["b", "a", "c"], probabilities, 2)
    assert list(two["scores"].items()) == [("a", 0.5), ("c", 0.3)]
    assert two["scores_left_out"] == 1
    [every] = top_scores(["b", "a", "c"], probabilities, 60)
    assert every == {"scores": {"a": 0.5, "c": 0.3, "b": 0.2}}
    assert list(every["scores"]) == ["a", "c", "b"]
    many = torch.rand(1, 90, generator=torch.Generator().manual_seed(0))
    [most] = top_scores([str(n) for n in range(90)], many, 70)
    assert (len(most["scores"]), most["scores_left_out"]) == (70, 20)
