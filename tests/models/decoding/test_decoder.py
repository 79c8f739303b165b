"""Laws of the decoder and the translator, in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.models.dropout import draw_weight_masks
from pipeline.models.layers.pooling import valid
from pipeline.models.settings import ModelSettings
from pipeline.models.translator import Translator

SOURCE = [5, 1, 7, 3]
TARGET = [4, 6, 1, 6]
B, S, T, V = len(SOURCE), max(SOURCE), max(TARGET), 11

every_cell = pytest.mark.parametrize(
    "cell, units", [("elman", 5), ("lstm", 5), ("gru", 5), ("goru", 8)]
)
both_loops = pytest.mark.parametrize("native", [True, False])
"""Without a compiler both are torch's; tests/kernels then says so."""
both_attentions = pytest.mark.parametrize("attention", ["additive", "dot"])


def translator(cell: str = "lstm", units: int = 5, **settings: Any) -> Translator:
    torch.manual_seed(0)
    model = Translator(ModelSettings(cell=cell, hidden=units, embedding=6, **settings), 13, V)
    for name, parameter in model.named_parameters():
        if "bias" in name:
            torch.nn.init.normal_(parameter, std=0.3)  # none of them is without effect
    return model.double()


def batch(more: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Source, lengths, target, lengths, keys; `more` padding than the longest row wants."""
    torch.manual_seed(1)
    source, target = torch.randint(0, 13, (B, S + more)), torch.randint(0, V, (B, T + more))
    return source, torch.tensor(SOURCE), target, torch.tensor(TARGET), torch.arange(B) * 2**40


@both_loops
@every_cell
@both_attentions
@pytest.mark.parametrize(
    "options",
    [{"layers": 1}, {"layers": 3, "skip": "residual"}, {"layer_norm": True, "bridge": False}],
    ids=str,
)
def test_training_over_whole_rows_is_decoding_step_by_step(
    cell: str, units: int, native: bool, attention: str, options: dict[str, Any]
) -> None:
    model = translator(cell, units, native=native, attention=attention, **options).eval()
    source, lengths, target, _, keys = batch()
    scores = model(source, lengths, target, torch.full((B,), T), keys)  # [T', B, V]
    memory = model.encode(source, lengths, keys)
    state = memory.initial
    for t, expected in enumerate(scores.log_softmax(-1)):
        got, state, weights = model.step(target[:, t], state, memory)
        assert (got - expected).abs().max() < 1e-10
        assert (weights.sum(-1) - 1).abs().max() < 1e-12
        assert (weights[1, 1:] == 0).all()


@both_attentions
def test_the_layout_is_that_of_the_equations(attention: str) -> None:
    """Three Elman layers, residual past the third; a row and a step at a time."""
    model = translator("elman", layers=3, skip="residual", attention=attention)
    source, lengths, target, target_lengths, keys = batch()
    scores = model(source, lengths, target, target_lengths, keys)
    decoder, memory = model.decoder, model.encode(source, lengths, keys)
    cells = [layer.directions[0] for layer in decoder.layers]
    encoded, ends = model.stack(model.embedding(source.t()), lengths, keys)
    for b in range(B):
        summary = torch.cat([ends[-1].h[0, b], ends[-1].h[1, b]])
        begin = torch.tanh(decoder.bridge.weight @ summary + decoder.bridge.bias)
        h = list(begin.split(5))
        for t in range(TARGET[b]):

            def run(i: int, x: Tensor, h: list[Tensor] = h) -> Tensor:
                cell = cells[i]
                h[i] = torch.tanh(cell.input @ x + cell.hidden @ h[i] + cell.bias)
                return h[i]

            first = run(0, decoder.embedding.weight[target[b, t]])
            keyed = (encoded[: SOURCE[b], b, None], memory.keys[: SOURCE[b], b, None])
            context, _ = decoder.attention(first[None, None], *keyed, lengths[b : b + 1])
            context = context[0, 0]
            second = run(1, torch.cat([first, context]))
            third = run(2, torch.cat([second, context])) + second
            read = decoder.combine.weight @ torch.cat([third, context]) + decoder.combine.bias
            expected = decoder.project.weight @ torch.tanh(read) + decoder.bias
            assert (scores[t, b] - expected).abs().max() < 1e-10


@every_cell
def test_hypotheses_of_a_row_share_its_memory(cell: str, units: int) -> None:
    """Two a row are what the rows would be, each with the memory for itself."""
    model = translator(cell, units).eval()
    source, lengths, *_, keys = batch()
    memory = model.encode(source, lengths, keys)
    each = memory.select(torch.arange(B).repeat(2))
    tokens, state = torch.arange(2 * B), each.initial
    shared, after, weights = model.step(tokens, state, memory)
    apart, same, own = model.step(tokens, state, each)
    assert (shared - apart).abs().max() < 1e-12
    assert (weights - own).abs().max() < 1e-12
    for a, b in zip(after, same, strict=True):
        assert (a.h - b.h).abs().max() < 1e-12
        assert (a.c - b.c).abs().max() < 1e-12


@both_loops
@every_cell
@both_attentions
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_scores_and_gradients_do_not_depend_on_padding(
    cell: str, units: int, native: bool, attention: str, share: float
) -> None:
    """Neither the source's nor the target's; dropout too: its masks hang on the row."""
    drops = ("dropout", "embedding_dropout", "zoneout", "weight_drop")
    options = {"native": native, "attention": attention} | dict.fromkeys(drops, share)
    model = translator(cell, units, layers=3, skip="highway", **options)
    draw_weight_masks(model, 0, 1)
    source, lengths, target, target_lengths, keys = whole = batch(more=3)

    def outcome(scores: Tensor) -> list[Tensor]:
        """scores [n, V]"""
        return [scores, *torch.autograd.grad(scores.pow(2).sum(), list(model.parameters()))]

    padded = model(*whole)
    together = torch.cat([padded[:n, b] for b, n in enumerate(TARGET)])
    alone = torch.cat(
        [
            model(source[i, :s], lengths[i], target[i, :t], target_lengths[i], keys[i])[:, 0]
            for i, s, t in zip([[b] for b in range(B)], SOURCE, TARGET, strict=True)
        ]
    )
    for a, b in zip(outcome(together), outcome(alone), strict=True):
        assert (a - b).abs().max() < 1e-10


def test_scores_of_the_places_wanted_are_those_of_all() -> None:
    model, rows = translator(), batch(more=2)
    wanted = valid(rows[3], T + 2)
    assert (model(*rows, wanted) - model(*rows)[wanted]).abs().max() < 1e-12
    assert model(*rows, wanted).shape == (sum(TARGET), V)


@both_attentions
@pytest.mark.parametrize("bridge", [True, False])
@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("target", [V, None])
def test_every_weight_has_one_name_and_a_gradient(
    attention: str, bridge: bool, tie: bool, target: int | None
) -> None:
    """As DistributedDataParallel and safetensors ask."""
    settings = ModelSettings(attention=attention, bridge=bridge, tie_embeddings=tie)
    model = Translator(settings, V, target)
    weights = model.state_dict()
    assert len({w.data_ptr() for w in weights.values()}) == len(weights)
    tables = sum(w.shape[0] == V and w.ndim == 2 for w in weights.values())
    assert tables == 3 - tie - (target is None)
    model(*(x.clamp(max=V - 1) if x.ndim > 1 else x for x in batch())).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_tied_weights_embed_and_score() -> None:
    decoder = translator(tie_embeddings=True).decoder
    features = torch.eye(6, dtype=torch.float64)
    with torch.no_grad():
        decoder.embedding.weight[3] += 1.5
        assert torch.equal(decoder.scores(features) - decoder.bias, decoder.embedding.weight.t())


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("deep", [0, 1, 4])
def test_the_decoder_is_as_deep_as_it_is_told(bidirectional: bool, deep: int) -> None:
    model = translator(layers=2, decoder_layers=deep, bidirectional=bidirectional)
    assert len(model.decoder.layers) == (deep or 2)
    assert model(*batch()).isfinite().all()


def test_a_memory_of_images_will_do() -> None:
    """Any states, lengths and summary."""
    decoder, rows = translator(bidirectional=False).decoder, batch()
    states = torch.randn(9, B, 5, dtype=torch.float64)
    memory = decoder.remember(states, torch.full((B,), 9), states.mean(0))
    assert decoder(*rows[2:], memory).shape == (T, B, 5)


def test_a_grid_has_no_decoder() -> None:
    with pytest.raises(ValueError, match="grid_lstm: no cell of a decoder; those are elman, lstm"):
        translator("grid_lstm")


@every_cell
@both_attentions
def test_bf16_is_near_fp32(cell: str, units: int, attention: str) -> None:
    model, rows = translator(cell, 16, attention=attention, goru_capacity=0).float(), batch()
    wanted = valid(rows[3], T)
    with torch.autocast("cpu", torch.bfloat16):
        near = model(*rows, wanted)
        memory = model.encode(rows[0], rows[1], rows[4])
        log_p, _, weights = model.step(rows[2][:, 0], memory.initial, memory)
    assert near.dtype == torch.bfloat16
    assert log_p.dtype == weights.dtype == torch.float32
    assert (log_p - near[:B].float().log_softmax(-1)).abs().max() < 0.06
    assert (near - model(*rows, wanted)).abs().max() < 0.06
    near.float().logsumexp(-1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
