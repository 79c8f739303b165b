"""The detector names the recurrent layer whose states stopped being finite."""

import pytest
import torch

from pipeline.models.classifier import Classifier
from pipeline.training.nonfinite import NonfiniteDetector
from tests.helpers.settings import model_settings


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru", "goru", "grid_lstm"])
@pytest.mark.parametrize("layer", [0, 1])
def test_first_nonfinite_layer_is_named(cell: str, layer: int) -> None:
    model = Classifier(model_settings(cell=cell, embedding=4, hidden=4), 10, 2)
    detector = NonfiniteDetector(model, torch.device("cpu"))
    tokens, lengths = torch.ones(3, 5, dtype=torch.int64), torch.tensor([5, 2, 1])
    keys = torch.arange(3)
    model(tokens, lengths, keys)
    assert detector.first_layer(detector.take().tolist()) == ""
    name = f"stack.times.{layer}" if cell == "grid_lstm" else f"stack.layers.{layer}"
    with torch.no_grad():
        model.get_parameter(f"{name}.directions.0.bias").fill_(float("nan"))
    model(tokens, lengths, keys)
    counts = detector.take().tolist()
    assert detector.first_layer(counts) == name
    assert detector.take().sum() == 0, "take resets the counts"
    model.eval()(tokens, lengths, keys)  # nothing is counted in evaluation
    assert detector.take().sum() == 0
