"""The recurrent stack does not depend on padding, batching or the loop that runs it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.kernels import Weights, library, prepare
from pipeline.models.cell import Dense
from pipeline.models.classifier import Classifier
from pipeline.models.dropout import draw_weight_masks
from pipeline.models.encoder import encoder
from pipeline.models.encoders.grid import GridStack
from pipeline.models.encoders.stack import Stack
from pipeline.models.layers.recurrent import Layer, LayerState, Permute, reversal
from tests.helpers.modules import modules_of_type, settings_of_cell
from tests.helpers.settings import model_settings

LENGTHS = [7, 1, 4, 9, 9]
KEYS = torch.arange(len(LENGTHS))
"""Dropout keys of the rows."""

every_cell = pytest.mark.parametrize(
    "cell, units", [("elman", 5), ("lstm", 5), ("gru", 5), ("grid_lstm", 5), ("goru", 8)]
)
both_loops = pytest.mark.parametrize("native", [True, False])
"""native=True runs the recurrence in a compiled loop, False in PyTorch's. Without a compiler both
are PyTorch's; tests/kernels then skips with the reason."""


def make_input(features: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(max(LENGTHS), len(LENGTHS), features, dtype=torch.float64)


def make_stack(cell: str, units: int = 5, **settings: Any) -> Stack | GridStack:
    torch.manual_seed(0)
    net = encoder(6, settings_of_cell(cell, hidden=units, **settings)).double()
    assert isinstance(net, Stack | GridStack)
    return net


@both_loops
@every_cell
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_row_gives_the_same_states_in_a_padded_batch_and_alone(
    cell: str, units: int, layers: int, bidirectional: bool, native: bool
) -> None:
    net = make_stack(cell, units, layers=layers, bidirectional=bidirectional, native=native)
    x, lengths = make_input(6), torch.tensor(LENGTHS)
    keys = torch.arange(len(LENGTHS))
    batch, _ = net(x, lengths, keys)
    for b, n in enumerate(LENGTHS):
        alone, _ = net(x[:n, b : b + 1], lengths[b : b + 1], keys[b : b + 1])
        assert (batch[:n, b] - alone[:, 0]).abs().max() < 1e-10
        assert (batch[n:, b] == 0).all()


@both_loops
@every_cell
@pytest.mark.parametrize("priority", [True, False])
def test_a_row_in_two_segments_gives_the_same_states_as_in_one(
    cell: str, units: int, native: bool, priority: bool
) -> None:
    net = make_stack(
        cell, units, layers=3, bidirectional=False, native=native, grid_priority=priority
    )
    x, n = make_input(6), len(LENGTHS)
    keys = torch.arange(n)
    whole, expected = net(x, torch.full((n,), 9), keys)
    first, state = net(x[:4], torch.full((n,), 4), keys)
    second, final = net(x[4:], torch.full((n,), 5), keys, state)
    assert (torch.cat([first, second]) - whole).abs().max() < 1e-10
    for a, b in zip(final, expected, strict=True):
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
    x, lengths = make_input(6), torch.tensor(LENGTHS)

    def states_and_gradients(native: bool) -> list[Tensor]:
        net = make_stack(cell, units, layers=2, native=native, **options)
        draw_weight_masks(net, 1, 2)
        y, _ = net(x, lengths, KEYS)
        return [y, *torch.autograd.grad(y.square().sum(), list(net.parameters()))]

    for a, b in zip(states_and_gradients(True), states_and_gradients(False), strict=True):
        assert (a - b).abs().max() < 1e-10


@both_loops
@every_cell
@pytest.mark.parametrize("pooling", ["max_mean", "last", "attention"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_scores_and_gradients_do_not_depend_on_padding(
    cell: str, units: int, pooling: str, dropout: float, native: bool
) -> None:
    """Nor do dropout masks, which depend on the row's key."""
    torch.manual_seed(0)
    settings = model_settings(
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
@pytest.mark.parametrize(
    "cell, torch_class", [("lstm", nn.LSTM), ("gru", nn.GRU), ("elman", nn.RNN)]
)
def test_rows_of_equal_length_give_the_states_of_the_torch_layer(
    cell: str, torch_class: Callable[..., nn.RNNBase], native: bool
) -> None:
    net = make_stack(cell, native=native, layers=2)
    torch_net = torch_class(6, 5, num_layers=2, bidirectional=True).double()
    with torch.no_grad():
        for number, layer in enumerate(modules_of_type(net, Layer)):
            for cell_module, suffix in zip(layer.cells, ("", "_reverse"), strict=True):
                assert isinstance(cell_module, Dense)
                weights = cell_module.torch_weights()
                names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                for name, value in zip(names, weights, strict=True):
                    getattr(torch_net, f"{name}_l{number}{suffix}").copy_(value)
    x = make_input(6)
    lengths = torch.full((x.shape[1],), x.shape[0])
    assert (net(x, lengths, KEYS)[0] - torch_net(x)[0]).abs().max() < 1e-12


def test_the_reversal_is_its_own_inverse_and_has_correct_gradients() -> None:
    index = reversal(torch.tensor(LENGTHS), max(LENGTHS))
    assert torch.equal(index[index], torch.arange(len(index)))
    x = make_input(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: Permute.apply(x, index), x)
    reversed_row = Permute.apply(x, index)[:, 0]
    assert torch.equal(reversed_row[:7], x[:7, 0].flip(0))
    assert torch.equal(reversed_row[7:], x[7:, 0])


@pytest.mark.parametrize("cell, gates", [("elman", 1), ("lstm", 4), ("gru", 3)])
def test_initial_recurrent_weights_are_orthogonal(cell: str, gates: int) -> None:
    for cell_module in modules_of_type(make_stack(cell, 8), Layer)[0].cells:
        for gate in cell_module.recurrent_weight().split(8):
            assert (gate @ gate.T - torch.eye(8)).abs().max() < 1e-5
        assert len(cell_module.recurrent_weight()) == 8 * gates


def test_the_forget_gates_bias_is_initialized_to_the_setting() -> None:
    for cell in modules_of_type(make_stack("lstm", 8, forget_bias=1.5), Layer)[0].cells:
        assert cell.bias.tolist() == [0.0] * 8 + [1.5] * 8 + [0.0] * 16


def test_an_irnn_is_initialized_to_the_identity() -> None:
    net = make_stack("elman", 4, activation="relu", recurrent_init="identity", layers=1)
    x = torch.zeros(3, 1, 6, dtype=torch.float64)
    x[0] = 1
    y = net(x, torch.tensor([3]), torch.tensor([0]))[0][:, 0, :4]
    assert torch.equal(y[1], y[0])
    assert torch.equal(y[2], y[0])
    assert y[0].max() > 0


def test_the_torch_loop_returns_nan_as_the_memory_of_shorter_rows() -> None:
    net, x = make_stack("lstm", native=False, bidirectional=False, layers=1), make_input(6)
    _, (state,) = net(x, torch.tensor(LENGTHS), KEYS)
    assert state.c[0].isnan().all(-1).tolist() == [n < 9 for n in LENGTHS]
    assert state.h.isfinite().all()


@pytest.mark.skipif(library().loaded is None, reason=library().reason)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_an_initial_state_the_memory_of_shorter_rows_is_finite(dtype: torch.dtype) -> None:
    net, x = make_stack("lstm", layers=1).to(dtype), make_input(6).to(dtype)
    zero = torch.zeros(2, len(LENGTHS), 5, dtype=dtype)
    _, (state,) = net(x, torch.tensor(LENGTHS), KEYS, [LayerState(zero, zero)])
    assert state.c.isfinite().all()
    assert min(LENGTHS) < max(LENGTHS)


@pytest.mark.parametrize("cell", ["lstm", "gru", "grid_lstm", "elman"])
def test_both_loops_agree_in_bf16(cell: str) -> None:
    x, lengths = make_input(6).float(), torch.tensor(LENGTHS)

    def states(native: bool) -> Tensor:
        net = make_stack(cell, 16, layers=2, native=native).float()
        with torch.autocast("cpu", torch.bfloat16):
            return net(x, lengths, KEYS)[0].float()

    assert (states(True) - states(False)).abs().max() < 0.03


def test_infinite_padding_does_not_become_nan() -> None:
    settings = model_settings(
        cell="elman", activation="relu", hidden=4, bidirectional=False, native=False
    )
    layer = Layer(3, settings, bidirectional=False)
    x = torch.randn(5, 2, 3)
    x[3:, 1] = float("inf")
    with torch.no_grad():
        layer.cells[0].input.fill_(1.0)
    y, _ = layer(x, torch.tensor([5, 3]), torch.arange(2))
    assert y.isfinite().all()
    assert (y[3:, 1] == 0).all()


@both_loops
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_kept_weights_follow_changes(
    cell: str, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = make_stack(cell, native=native, bidirectional=True).eval()
    x, lengths = make_input(6), torch.tensor(LENGTHS)
    calls = []

    def counted(weights: Weights, dtype: torch.dtype) -> Weights:
        calls.append(dtype)
        return prepare(weights, dtype)

    monkeypatch.setattr("pipeline.kernels.prepare", counted)

    def states() -> Tensor:
        with torch.no_grad():
            y, _ = net(x, lengths, KEYS)
        return y

    before = states()
    for layer in modules_of_type(net, Layer):
        layer.keeps_weights = True
    assert torch.equal(states(), before)
    assert torch.equal(states(), before)
    uses_loop = native and library().supports(torch.float64)
    assert len(calls) == (len(modules_of_type(net, Layer)) if uses_loop else 0)
    with torch.no_grad():
        next(net.parameters()).mul_(0.5)
    changed = states()
    for layer in modules_of_type(net, Layer):
        layer.keeps_weights = False
    assert not torch.equal(changed, before)
    assert torch.equal(states(), changed)
