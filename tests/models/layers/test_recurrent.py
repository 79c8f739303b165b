"""Laws of the recurrent stack, in float64 against what each row alone gives."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.kernels import library
from pipeline.models.classifier import Classifier
from pipeline.models.dropout import draw_weight_masks
from pipeline.models.encoder import encoder
from pipeline.models.layers.grid import GridStack
from pipeline.models.layers.recurrent import LayerState, Permute, Stack, reversal
from pipeline.models.settings import ModelSettings

LENGTHS = [7, 1, 4, 9, 9]

every_cell = pytest.mark.parametrize(
    "cell, units", [("elman", 5), ("lstm", 5), ("gru", 5), ("grid_lstm", 5), ("goru", 8)]
)
both_loops = pytest.mark.parametrize("native", [True, False])
"""Without a compiler both are torch's; tests/kernels then says so."""


def rows(features: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(max(LENGTHS), len(LENGTHS), features, dtype=torch.float64)


def stack(cell: str, units: int = 5, **settings: Any) -> Stack | GridStack:
    torch.manual_seed(0)
    return encoder(6, ModelSettings(cell=cell, hidden=units, **settings)).double()


@both_loops
@every_cell
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_padded_batch_gives_what_each_row_alone_gives(
    cell: str, units: int, layers: int, bidirectional: bool, native: bool
) -> None:
    net = stack(cell, units, layers=layers, bidirectional=bidirectional, native=native)
    x, lengths = rows(6), torch.tensor(LENGTHS)
    keys = torch.arange(len(LENGTHS))
    batch, _ = net(x, lengths, keys)
    for b, n in enumerate(LENGTHS):
        alone, _ = net(x[:n, b : b + 1], lengths[b : b + 1], keys[b : b + 1])
        assert (batch[:n, b] - alone[:, 0]).abs().max() < 1e-10
        assert (batch[n:, b] == 0).all()


@both_loops
@every_cell
@pytest.mark.parametrize("priority", [True, False])
def test_a_carried_state_goes_on_where_the_last_stretch_ended(
    cell: str, units: int, native: bool, priority: bool
) -> None:
    net = stack(cell, units, layers=3, bidirectional=False, native=native, grid_priority=priority)
    x, n = rows(6), len(LENGTHS)
    keys = torch.arange(n)
    whole, end = net(x, torch.full((n,), 9), keys)
    first, state = net(x[:4], torch.full((n,), 4), keys)
    second, after = net(x[4:], torch.full((n,), 5), keys, state)
    assert (torch.cat([first, second]) - whole).abs().max() < 1e-10
    for a, b in zip(after, end, strict=True):
        assert (a.h - b.h).abs().max() < 1e-10
        assert (a.c - b.c).abs().max() < 1e-10


@every_cell
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "relu"},
        {"zoneout": 0.3, "zoneout_memory": 0.4, "weight_drop": 0.3},
        {"layer_norm": True, "skip": "highway"},
        {"skip": "residual", "dropout": 0.3},
    ],
    ids=str,
)
def test_both_loops_give_the_same_states_and_gradients(
    cell: str, units: int, options: dict[str, Any]
) -> None:
    x, lengths = rows(6), torch.tensor(LENGTHS)

    def outcome(native: bool) -> list[Tensor]:
        net = stack(cell, units, layers=2, native=native, **options)
        draw_weight_masks(net, 1, 2)
        y, _ = net(x, lengths, lengths)
        return [y, *torch.autograd.grad(y.square().sum(), list(net.parameters()))]

    for a, b in zip(outcome(True), outcome(False), strict=True):
        assert (a - b).abs().max() < 1e-10


@both_loops
@every_cell
@pytest.mark.parametrize("pooling", ["max_mean", "last", "attention"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_scores_and_gradients_do_not_depend_on_padding(
    cell: str, units: int, pooling: str, dropout: float, native: bool
) -> None:
    """Dropout too: its masks hang on the row."""
    torch.manual_seed(0)
    settings = ModelSettings(
        cell=cell,
        pooling=pooling,
        embedding=6,
        hidden=units,
        native=native,
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


@both_loops
@pytest.mark.parametrize("cell, own_class", [("lstm", nn.LSTM), ("gru", nn.GRU), ("elman", nn.RNN)])
def test_the_stack_is_torchs_own_on_rows_of_one_length(
    cell: str, own_class: type[nn.RNNBase], native: bool
) -> None:
    net = stack(cell, native=native, layers=2)
    own = own_class(6, 5, num_layers=2, bidirectional=True).double()
    with torch.no_grad():
        for number, layer in enumerate(net.layers):
            for direction, suffix in zip(layer.directions, ("", "_reverse"), strict=True):
                params = direction.params()
                names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                for name, value in zip(names, params, strict=True):
                    getattr(own, f"{name}_l{number}{suffix}").copy_(value)
    x = rows(6)
    lengths = torch.full((x.shape[1],), x.shape[0])
    assert (net(x, lengths, lengths)[0] - own(x)[0]).abs().max() < 1e-12


def test_the_reversal_is_its_own_inverse_and_its_gradient_is_right() -> None:
    index = reversal(torch.tensor(LENGTHS), max(LENGTHS))
    assert torch.equal(index[index], torch.arange(len(index)))
    x = rows(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: Permute.apply(x, index), x)
    reversed_row = Permute.apply(x, index)[:, 0]
    assert torch.equal(reversed_row[:7], x[:7, 0].flip(0))
    assert torch.equal(reversed_row[7:], x[7:, 0])


@pytest.mark.parametrize("cell, gates", [("elman", 1), ("lstm", 4), ("gru", 3)])
def test_initial_recurrent_weights_are_orthogonal(cell: str, gates: int) -> None:
    for direction in stack(cell, 8).layers[0].directions:
        for gate in direction.recurrent().split(8):
            assert (gate @ gate.T - torch.eye(8)).abs().max() < 1e-5
        assert len(direction.recurrent()) == 8 * gates


def test_the_forget_gate_is_open_at_first() -> None:
    for direction in stack("lstm", 8, forget_bias=1.5).layers[0].directions:
        assert direction.bias.tolist() == [0.0] * 8 + [1.5] * 8 + [0.0] * 16


def test_an_irnn_begins_as_the_identity() -> None:
    net = stack("elman", 4, activation="relu", recurrent_init="identity", layers=1)
    x = torch.zeros(3, 1, 6, dtype=torch.float64)
    x[0] = 1
    y = net(x, torch.tensor([3]), torch.tensor([0]))[0][:, 0, :4]
    assert torch.equal(y[1], y[0])
    assert torch.equal(y[2], y[0])
    assert y[0].max() > 0


def test_torchs_loop_has_no_memory_of_a_row_that_is_shorter() -> None:
    net, x = stack("lstm", native=False, bidirectional=False, layers=1), rows(6)
    _, (state,) = net(x, torch.tensor(LENGTHS), torch.tensor(LENGTHS))
    assert state.c[0].isnan().all(-1).tolist() == [n < 9 for n in LENGTHS]
    assert state.h.isfinite().all()


@pytest.mark.skipif(library().loaded is None, reason=library().reason)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_memory_of_shorter_rows_is_kept_where_a_state_is_carried(dtype: torch.dtype) -> None:
    net, x = stack("lstm", layers=1).to(dtype), rows(6).to(dtype)
    zero = torch.zeros(2, len(LENGTHS), 5, dtype=dtype)
    _, (state,) = net(x, torch.tensor(LENGTHS), torch.tensor(LENGTHS), [LayerState(zero, zero)])
    assert state.c.isfinite().all()
    assert min(LENGTHS) < max(LENGTHS)


@pytest.mark.parametrize("cell", ["lstm", "gru", "grid_lstm", "elman"])
def test_both_loops_agree_in_bf16(cell: str) -> None:
    x, lengths = rows(6).float(), torch.tensor(LENGTHS)

    def states(native: bool) -> Tensor:
        net = stack(cell, 16, layers=2, native=native).float()
        with torch.autocast("cpu", torch.bfloat16):
            return net(x, lengths, lengths)[0].float()

    assert (states(True) - states(False)).abs().max() < 0.03
