"""Attention equals its equations, computed for each pair of steps in float64."""

import pytest
import torch
from torch import Tensor

from pipeline import components
from pipeline.models.attention import Attention
from pipeline.models.attentions import additive
from pipeline.models.attentions.additive import AdditiveAttention
from tests.helpers.settings import model_settings

LENGTHS = [6, 1, 4]
T, S, B, Q, M, A = 5, 6, 3, 4, 7, 8

both_kinds = pytest.mark.parametrize("kind", ["additive", "dot"])


def sizes(kind: str) -> dict[str, int]:
    return {"attention_size": A} if kind == "additive" else {}


def make_inputs(kind: str) -> tuple[Attention, Tensor, Tensor, Tensor]:
    """Return the module, queries, memory and lengths."""
    torch.manual_seed(0)
    module = components.load("attention", kind)(Q, M, model_settings(attention=kind, **sizes(kind)))
    module = module.double()
    torch.nn.init.normal_(module.key.bias)
    queries, memory = (torch.randn(*shape, dtype=torch.float64) for shape in ((T, B, Q), (S, B, M)))
    return module, queries.requires_grad_(), memory.requires_grad_(), torch.tensor(LENGTHS)


def reference(module: Attention, queries: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Compute contexts and weights by the equations; weights are 0 past a row's length."""
    contexts, weights = [], []
    for t in range(T):
        for b, n in enumerate(LENGTHS):
            scores = []
            for s in range(n):
                key = module.key.weight @ memory[s, b] + module.key.bias
                if isinstance(module, AdditiveAttention):
                    query = module.query.weight @ queries[t, b]
                    scores.append(module.score @ torch.tanh(query + key))
                else:
                    scores.append(queries[t, b] @ key)
            e = torch.stack(scores).exp()
            weights.append(torch.cat([e / e.sum(), e.new_zeros(S - n)]))
            contexts.append(sum(w * m for w, m in zip(weights[-1], memory[:, b], strict=True)))
    return torch.stack(contexts).view(T, B, M), torch.stack(weights).view(T, B, S)


@both_kinds
@pytest.mark.parametrize("chunk", [1, 2 * S * B * A, 1 << 18])
def test_contexts_weights_and_gradients_equal_the_equations(
    kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For chunks of one step, of two steps with one left over, and of all steps."""
    monkeypatch.setitem(additive.CHUNK_ELEMENTS, "cpu", chunk)
    module, queries, memory, lengths = make_inputs(kind)
    inputs = [queries, memory, *module.parameters()]

    def with_gradients(contexts: Tensor, weights: Tensor) -> list[Tensor]:
        loss = contexts.pow(3).sum() + weights.square().sum()
        return [contexts, weights, *torch.autograd.grad(loss, inputs)]

    actual = with_gradients(*module(queries, memory, module.keys(memory), lengths))
    expected = with_gradients(*reference(module, queries, memory))
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() < 1e-10


@both_kinds
def test_padding_has_no_weight_and_no_effect(kind: str) -> None:
    module, queries, memory, lengths = make_inputs(kind)
    contexts, weights = module(queries, memory, module.keys(memory), lengths)
    (gradient,) = torch.autograd.grad(contexts.square().sum(), [memory])
    for b, n in enumerate(LENGTHS):
        assert (weights[:, b, n:] == 0).all()
        assert (gradient[n:, b] == 0).all()
        row_memory = memory[:n, b : b + 1]
        row_queries, row_keys = queries[:, b : b + 1], module.keys(row_memory)
        alone_contexts, _ = module(row_queries, row_memory, row_keys, lengths[b : b + 1])
        assert (alone_contexts[:, 0] - contexts[:, b]).abs().max() < 1e-12
    assert (weights.sum(-1) - 1).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_additive_scores_equal_tanh_while_exponentials_are_finite(dtype: torch.dtype) -> None:
    """Also beyond the clamp at 40, if the other operand is within 20."""
    q = torch.tensor([-1e4, -100.0, -39.0, -1.0, 0.0, 1e-3, 2.0, 39.0, 100.0, 1e4], dtype=dtype)
    k = torch.tensor([-20.0, -3.0, -1e-3, 0.0, 0.5, 20.0], dtype=dtype)
    v = torch.ones(1, dtype=dtype)
    actual = additive._AdditiveScores.apply(q[:, None, None], k[:, None, None], v)[..., 0] + 1
    assert (actual - torch.tanh(q[:, None] + k)).abs().max() < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("steps, elements", [(T, 1 << 26), (2, 2 * S * B * A), (1, 1)])
def test_the_buffer_has_no_more_steps_than_queries(
    steps: int, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(additive.CHUNK_ELEMENTS, "cpu", elements)
    assert additive._chunk_buffer(torch.ones(T, B, A), torch.ones(S, B, A)).shape == (
        steps,
        S,
        B,
        A,
    )


@both_kinds
def test_under_bf16_autocast_the_softmax_is_in_fp32(kind: str) -> None:
    module, queries, memory, lengths = make_inputs(kind)
    module, queries, memory = module.float(), queries.float(), memory.float()
    exact_contexts, exact_weights = module(queries, memory, module.keys(memory), lengths)
    with torch.autocast("cpu", torch.bfloat16):
        contexts, weights = module(queries, memory, module.keys(memory), lengths)
    assert weights.dtype == torch.float32
    assert (weights.sum(-1) - 1).abs().max() < 1e-6
    assert (weights - exact_weights).abs().max() < 0.03
    assert (contexts - exact_contexts).abs().max() < 0.1
