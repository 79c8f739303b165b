"""Stacks of one direction each equal a single stack of that direction."""

import pytest
import torch

from pipeline.models.classifier import Classifier
from pipeline.models.dropout import LockedDropout
from pipeline.models.encoder import encoder
from pipeline.models.encoders.stack import Stack
from pipeline.models.layers.independent_directions import IndependentDirections
from tests.helpers.modules import modules_of_type
from tests.helpers.settings import model_settings

LENGTHS = torch.tensor([7, 1, 4, 7])
KEYS = torch.arange(4)


def make_net(**changes: object) -> tuple[IndependentDirections, torch.Tensor]:
    """Return a network and its input."""
    torch.manual_seed(0)
    settings = {"hidden": 5, "layers": 2, "independent_directions": True, "native": False} | changes
    net = encoder(6, model_settings(**settings))
    assert isinstance(net, IndependentDirections)
    return net.double(), torch.randn(7, 4, 6, dtype=torch.float64)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_neither_direction_sees_the_other(cell: str) -> None:
    net, x = make_net(cell=cell)
    states, final = net(x, LENGTHS, KEYS)
    for row, n in enumerate(LENGTHS.tolist()):
        tokens, length, key = x[:n, row : row + 1], LENGTHS[row : row + 1], KEYS[row : row + 1]
        for d, is_reversed in enumerate((False, True)):
            y, stack_final = net.stacks[d](tokens.flip(0) if is_reversed else tokens, length, key)
            expected = (y.flip(0) if is_reversed else y)[:, 0]
            assert torch.allclose(states[:n, row, 5 * d : 5 * d + 5], expected)
            for layer, stack_layer in zip(final, stack_final, strict=True):
                assert torch.allclose(layer.h[d, row], stack_layer.h[0, 0])
        assert not states[n:, row].any()


def test_a_reversed_stack_equals_the_second_of_two_directions() -> None:
    both, x = make_net()
    alone, _ = make_net(independent_directions=False, bidirectional=False, reverse=True)
    alone.stacks[0].load_state_dict(both.stacks[1].state_dict())
    assert alone(x, LENGTHS, KEYS)[0].equal(both(x, LENGTHS, KEYS)[0][..., 5:])


@pytest.mark.parametrize("pooling", ["max_mean", "last", "attention"])
@pytest.mark.parametrize("backward", [False, True])
def test_every_token_affects_the_scores_of_its_row(pooling: str, backward: bool) -> None:
    torch.manual_seed(0)
    settings = model_settings(
        embedding=6, hidden=5, layers=2, bidirectional=False, reverse=backward,
        pooling=pooling, dropout=0, embedding_dropout=0, native=False,
    )  # fmt: skip
    model = Classifier(settings, 50, 2)
    tokens, lengths = torch.arange(1, 7).repeat(7, 1), torch.full((7,), 6)
    tokens[:6] += torch.eye(6, dtype=torch.long)  # each row but the last differs in one token
    scores = model(tokens, lengths, torch.arange(7))  # dropout keys, not used
    assert (scores[:6] - scores[6]).abs().amax(1).min() > 1e-6


def test_zoneout_masks_differ_between_directions() -> None:
    net, x = make_net(zoneout=0.5, zoneout_memory=0.5)
    net.train()
    for number in (0, 1):
        net.stacks[number].load_state_dict(net.stacks[0].state_dict())
    x = x[:1].expand(7, -1, -1)  # the same from both ends
    states, _ = net(x, torch.full((4,), 7), KEYS)
    assert not torch.allclose(states[..., :5], states.flip(0)[..., 5:])
    net.eval()
    states, _ = net(x, torch.full((4,), 7), KEYS)
    assert torch.allclose(states[..., :5], states.flip(0)[..., 5:])


def test_each_direction_resumes_from_its_own_final_state() -> None:
    net, x = make_net()
    whole, _ = net(x, torch.tensor([7] * 4), KEYS)
    four, three = torch.tensor([4] * 4), torch.tensor([3] * 4)
    first, final = net(x[:4], four, KEYS)
    rest, _ = net(x[4:], three, KEYS, final)
    assert torch.allclose(torch.cat([first, rest])[..., :5], whole[..., :5])
    last, final = net(x[3:], four, KEYS)
    rest, _ = net(x[:3], three, KEYS, final)
    assert torch.allclose(torch.cat([rest, last])[..., 5:], whole[..., 5:])


def test_dropout_masks_differ_between_directions() -> None:
    net, x = make_net(layers=3, dropout=0.5)
    first, second = (modules_of_type(stack, LockedDropout)[0].site for stack in net.stacks)
    assert first != second
    assert not net.train()(x, LENGTHS, KEYS)[0].equal(net.eval()(x, LENGTHS, KEYS)[0])


def test_parameters_by_layer_joins_both_directions() -> None:
    net, _ = make_net(layers=3, layer_norm=True, skip="highway")
    layers = net.parameters_by_layer()
    assert len(layers) == 3
    assert {id(p) for layer in layers for p in layer} == {id(p) for p in net.parameters()}
    stack = net.stacks[0]
    assert isinstance(stack, Stack)
    modules = stack.layers[1], stack.skips[0]
    forward = {id(p) for module in modules for p in module.parameters()}
    assert forward < {id(p) for p in layers[1]}
