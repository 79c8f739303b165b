"""Laws of the recurrent stack, in float64 against what each row alone gives."""

import pytest
import torch
from torch import Tensor, nn

from pipeline.models.classifier import Classifier
from pipeline.models.recurrent import Stack, _Permute, reversal
from pipeline.models.settings import ModelSettings

LENGTHS = [7, 1, 4, 9, 9]


def rows(features: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(max(LENGTHS), len(LENGTHS), features, dtype=torch.float64)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_padded_batch_gives_what_each_row_alone_gives(
    cell: str, layers: int, bidirectional: bool
) -> None:
    torch.manual_seed(0)
    stack = Stack(cell, 6, 5, layers, bidirectional=bidirectional, dropout=0.0).double()
    x, lengths = rows(6), torch.tensor(LENGTHS)
    keys = torch.arange(len(LENGTHS))
    batch = stack(x, lengths, keys)
    for b, n in enumerate(LENGTHS):
        alone = stack(x[:n, b : b + 1], lengths[b : b + 1], keys[b : b + 1])
        assert (batch[:n, b] - alone[:, 0]).abs().max() < 1e-10


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("pooling", ["max_mean", "last", "attention"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_scores_and_gradients_do_not_depend_on_padding(
    cell: str, pooling: str, dropout: float
) -> None:
    """Dropout too: its masks hang on the row."""
    torch.manual_seed(0)
    settings = ModelSettings(
        cell=cell,
        pooling=pooling,
        embedding=6,
        hidden=5,
        dropout=dropout,
        embedding_dropout=dropout,
    )
    model = Classifier(settings, 50, 3).double()
    tokens = torch.randint(0, 50, (len(LENGTHS), max(LENGTHS) + 3))
    lengths, keys = torch.tensor(LENGTHS), torch.randint(0, 2**62, (len(LENGTHS),))

    def gradients(scores: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(scores.square().sum(), list(model.parameters())))

    batch = model(tokens, lengths, keys)
    alone = torch.cat(
        [
            model(tokens[b : b + 1, :n], lengths[b : b + 1], keys[b : b + 1])
            for b, n in enumerate(LENGTHS)
        ]
    )
    assert (batch - alone).abs().max() < 1e-10
    for g, h in zip(gradients(batch), gradients(alone), strict=True):
        assert (g - h).abs().max() < 1e-10


def test_the_stack_is_torchs_own_on_rows_of_one_length() -> None:
    torch.manual_seed(0)
    stack = Stack("lstm", 6, 5, 2, bidirectional=True, dropout=0.0).double()
    own = nn.LSTM(6, 5, num_layers=2, bidirectional=True).double()
    with torch.no_grad():
        for layer in range(2):
            for direction, suffix in enumerate(("", "_reverse")):
                source = stack.layers[layer].directions[direction]
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    target = getattr(own, f"{name}_l{layer}{suffix}")
                    target.copy_(getattr(source, f"{name}_l0"))
    x = rows(6)
    lengths = torch.full((x.shape[1],), x.shape[0])
    assert (stack(x, lengths, lengths) - own(x)[0]).abs().max() < 1e-12


def test_the_reversal_is_its_own_inverse_and_its_gradient_is_right() -> None:
    index = reversal(torch.tensor(LENGTHS), max(LENGTHS))
    assert torch.equal(index[index], torch.arange(len(index)))
    x = rows(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: _Permute.apply(x, index), x)
    reversed_row = _Permute.apply(x, index)[:, 0]
    assert torch.equal(reversed_row[:7], x[:7, 0].flip(0))
    assert torch.equal(reversed_row[7:], x[7:, 0])


def test_initial_recurrent_weights_are_orthogonal_and_the_forget_gate_is_open() -> None:
    stack = Stack("lstm", 6, 8, 1, bidirectional=True, dropout=0.0)
    for direction in stack.layers[0].directions:
        for gate in direction.weight_hh_l0.split(8):
            assert (gate @ gate.T - torch.eye(8)).abs().max() < 1e-5
        bias = direction.bias_ih_l0 + direction.bias_hh_l0
        assert bias.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16
