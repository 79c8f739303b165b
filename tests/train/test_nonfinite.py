"""The layer where numbers end is named, and nothing else."""

import pytest
import torch

from pipeline.models.classifier import Classifier
from pipeline.models.settings import ModelSettings
from pipeline.train.nonfinite import NonfiniteDetector


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru", "goru", "grid_lstm"])
@pytest.mark.parametrize("layer", [0, 1])
def test_the_first_layer_that_is_not_finite_is_named(cell: str, layer: int) -> None:
    model = Classifier(ModelSettings(cell=cell, embedding=4, hidden=4), 10, 2)
    watch = NonfiniteDetector(model, torch.device("cpu"))
    tokens, lengths = torch.ones(3, 5, dtype=torch.int64), torch.tensor([5, 2, 1])
    model(tokens, lengths, lengths)
    assert watch.first(watch.take().tolist()) == ""
    name = f"stack.times.{layer}" if cell == "grid_lstm" else f"stack.layers.{layer}"
    broken = model.get_submodule(name)
    with torch.no_grad():
        broken.directions[0].bias.fill_(float("nan"))
    model(tokens, lengths, lengths)
    counts = watch.take().tolist()
    assert watch.first(counts) == name
    assert watch.take().sum() == 0
    model.eval()(tokens, lengths, lengths)
    assert watch.take().sum() == 0
