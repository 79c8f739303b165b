"""Stacks of one direction each give what a stack of that direction alone gives."""

import pytest
import torch

from pipeline.models.classifier import Classifier
from pipeline.models.encoder import encoder
from pipeline.models.layers.independent_directions import IndependentDirections
from pipeline.models.layers.recurrent import Stack
from pipeline.models.settings import ModelSettings

LENGTHS = torch.tensor([7, 1, 4, 7])
KEYS = torch.arange(4)


def separate(**changes: object) -> tuple[IndependentDirections, torch.Tensor]:
    torch.manual_seed(0)
    settings = {"hidden": 5, "layers": 2, "independent_directions": True, "native": False} | changes
    net = encoder(6, ModelSettings(**settings))  # type: ignore[arg-type]
    assert isinstance(net, IndependentDirections)
    return net.double(), torch.randn(7, 4, 6, dtype=torch.float64)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_neither_direction_sees_the_other(cell: str) -> None:
    net, x = separate(cell=cell)
    states, carried = net(x, LENGTHS, KEYS)
    for row, n in enumerate(LENGTHS.tolist()):
        own, length, key = x[:n, row : row + 1], LENGTHS[row : row + 1], KEYS[row : row + 1]
        for number, turned in enumerate((False, True)):
            y, after = net.stacks[number](own.flip(0) if turned else own, length, key)
            expected = (y.flip(0) if turned else y)[:, 0]
            assert torch.allclose(states[:n, row, 5 * number : 5 * number + 5], expected)
            for layer, of in zip(carried, after, strict=True):
                assert torch.allclose(layer.h[number, row], of.h[0, 0])
        assert not states[n:, row].any()


def test_one_that_reads_from_the_end_is_the_second_of_two() -> None:
    both, x = separate()
    alone, _ = separate(independent_directions=False, bidirectional=False, reverse=True)
    alone.stacks[0].load_state_dict(both.stacks[1].state_dict())
    assert alone(x, LENGTHS, KEYS)[0].equal(both(x, LENGTHS, KEYS)[0][..., 5:])


@pytest.mark.parametrize("pooling", ["max_mean", "last", "attention"])
@pytest.mark.parametrize("backward", [False, True])
def test_every_token_has_a_part_in_what_is_said_of_a_row(pooling: str, backward: bool) -> None:
    torch.manual_seed(0)
    settings = ModelSettings(
        embedding=6, hidden=5, layers=2, bidirectional=False, reverse=backward,
        pooling=pooling, dropout=0, embedding_dropout=0, native=False,
    )  # fmt: skip
    model = Classifier(settings, 50, 2)
    tokens, lengths = torch.arange(1, 7).repeat(7, 1), torch.full((7,), 6)
    tokens[:6] += torch.eye(6, dtype=torch.long)  # each row but the last differs in one place
    scores = model(tokens, lengths, lengths)
    assert (scores[:6] - scores[6]).abs().amax(1).min() > 1e-6


def test_the_masks_of_zoneout_are_not_the_same_in_both_directions() -> None:
    net, x = separate(zoneout=0.5, zoneout_memory=0.5)
    net.train()
    for number in (0, 1):
        net.stacks[number].load_state_dict(net.stacks[0].state_dict())
    x = x[:1].expand(7, -1, -1)  # reads alike from both ends
    states, _ = net(x, torch.full((4,), 7), KEYS)
    assert not torch.allclose(states[..., :5], states.flip(0)[..., 5:])
    net.eval()
    states, _ = net(x, torch.full((4,), 7), KEYS)
    assert torch.allclose(states[..., :5], states.flip(0)[..., 5:])


def test_states_are_gone_on_with_in_the_order_that_each_direction_reads() -> None:
    net, x = separate()
    whole, _ = net(x, torch.tensor([7] * 4), KEYS)
    four, three = torch.tensor([4] * 4), torch.tensor([3] * 4)
    first, carried = net(x[:4], four, KEYS)
    rest, _ = net(x[4:], three, KEYS, carried)
    assert torch.allclose(torch.cat([first, rest])[..., :5], whole[..., :5])
    last, carried = net(x[3:], four, KEYS)
    rest, _ = net(x[:3], three, KEYS, carried)
    assert torch.allclose(torch.cat([rest, last])[..., 5:], whole[..., 5:])


def test_masks_of_the_directions_differ() -> None:
    net, x = separate(layers=3, dropout=0.5)
    first, second = (stack.dropouts[0].site for stack in net.stacks)
    assert first != second
    assert not net.train()(x, LENGTHS, KEYS)[0].equal(net.eval()(x, LENGTHS, KEYS)[0])


def test_parts_are_the_layers_of_both_directions() -> None:
    net, _ = separate(layers=3, layer_norm=True, skip="highway")
    parts = net.parts()
    assert len(parts) == 3
    assert {id(p) for part in parts for p in part} == {id(p) for p in net.parameters()}
    one = net.stacks[0]
    assert isinstance(one, Stack)
    own = {id(p) for p in one.layers[1].parameters()} | {id(p) for p in one.skips[0].parameters()}
    assert own < {id(p) for p in parts[1]}
