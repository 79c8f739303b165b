"""Attention, in float64 against its equations written out for each pair of steps."""

import pytest
import torch
from torch import Tensor

from pipeline.models.layers import attention
from pipeline.models.layers.attention import ATTENTIONS, Additive, Dot

LENGTHS = [6, 1, 4]
T, S, B, Q, M, A = 5, 6, 3, 4, 7, 8

both = pytest.mark.parametrize("kind", ["additive", "dot"])


def made(kind: str) -> tuple[Additive | Dot, Tensor, Tensor, Tensor]:
    """The module, queries, memory and lengths."""
    torch.manual_seed(0)
    module = ATTENTIONS[kind](Q, M, A).double()
    torch.nn.init.normal_(module.key.bias)
    queries, memory = (torch.randn(*shape, dtype=torch.float64) for shape in ((T, B, Q), (S, B, M)))
    return module, queries.requires_grad_(), memory.requires_grad_(), torch.tensor(LENGTHS)


def written_out(module: Additive | Dot, queries: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Contexts and weights, 0 past a length."""
    contexts, weights = [], []
    for t in range(T):
        for b, n in enumerate(LENGTHS):
            scores = []
            for s in range(n):
                key = module.key.weight @ memory[s, b] + module.key.bias
                if isinstance(module, Additive):
                    query = module.query.weight @ queries[t, b]
                    scores.append(module.score @ torch.tanh(query + key))
                else:
                    scores.append(queries[t, b] @ key)
            e = torch.stack(scores).exp()
            weights.append(torch.cat([e / e.sum(), e.new_zeros(S - n)]))
            contexts.append(sum(w * m for w, m in zip(weights[-1], memory[:, b], strict=True)))
    return torch.stack(contexts).view(T, B, M), torch.stack(weights).view(T, B, S)


@both
@pytest.mark.parametrize("chunk", [1, 2 * S * B * A, 1 << 18])
def test_contexts_weights_and_gradients_are_those_of_the_equations(
    kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many steps are worked on at once: one, two with one left over, all."""
    monkeypatch.setitem(attention.CHUNK, "cpu", chunk)
    module, queries, memory, lengths = made(kind)
    inputs = [queries, memory, *module.parameters()]

    def outcome(contexts: Tensor, weights: Tensor) -> list[Tensor]:
        loss = contexts.pow(3).sum() + weights.square().sum()
        return [contexts, weights, *torch.autograd.grad(loss, inputs)]

    got = outcome(*module(queries, memory, module.keys(memory), lengths))
    for a, b in zip(got, outcome(*written_out(module, queries, memory)), strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() < 1e-10


@both
def test_padding_has_no_weight_and_moves_nothing(kind: str) -> None:
    module, queries, memory, lengths = made(kind)
    contexts, weights = module(queries, memory, module.keys(memory), lengths)
    (moved,) = torch.autograd.grad(contexts.square().sum(), [memory])
    for b, n in enumerate(LENGTHS):
        assert (weights[:, b, n:] == 0).all()
        assert (moved[n:, b] == 0).all()
        alone = memory[:n, b : b + 1]
        one, _ = module(queries[:, b : b + 1], alone, module.keys(alone), lengths[b : b + 1])
        assert (one[:, 0] - contexts[:, b]).abs().max() < 1e-12
    assert (weights.sum(-1) - 1).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_quotient_is_tanh_wherever_its_exponentials_are_finite(dtype: torch.dtype) -> None:
    """Beyond 40 too, where the other is within 20."""
    q = torch.tensor([-1e4, -100.0, -39.0, -1.0, 0.0, 1e-3, 2.0, 39.0, 100.0, 1e4], dtype=dtype)
    k = torch.tensor([-20.0, -3.0, -1e-3, 0.0, 0.5, 20.0], dtype=dtype)
    v = torch.ones(1, dtype=dtype)
    got = attention._Additive.apply(q[:, None, None], k[:, None, None], v)[..., 0] + 1
    assert (got - torch.tanh(q[:, None] + k)).abs().max() < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("steps, most", [(T, 1 << 26), (2, 2 * S * B * A), (1, 1)])
def test_there_is_room_for_no_more_steps_than_there_are(
    steps: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(attention.CHUNK, "cpu", most)
    assert attention._chunk(torch.ones(T, B, A), torch.ones(S, B, A)).shape == (steps, S, B, A)


@both
def test_in_bf16_the_softmax_is_in_fp32(kind: str) -> None:
    module, queries, memory, lengths = made(kind)
    module, queries, memory = module.float(), queries.float(), memory.float()
    whole, exact = module(queries, memory, module.keys(memory), lengths)
    with torch.autocast("cpu", torch.bfloat16):
        contexts, weights = module(queries, memory, module.keys(memory), lengths)
    assert weights.dtype == torch.float32
    assert (weights.sum(-1) - 1).abs().max() < 1e-6
    assert (weights - exact).abs().max() < 0.03
    assert (contexts - whole).abs().max() < 0.1
