"""Decoder and translator: equations, decoding, padding and weight sharing, in float64."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from pipeline.models.cells.elman import Elman
from pipeline.models.dropout import draw_weight_masks
from pipeline.models.layers.masks import valid
from pipeline.models.translator import Translator
from tests.helpers.modules import modules_of_type
from tests.helpers.settings import model_settings

SOURCE = [5, 1, 7, 3]
TARGET = [4, 6, 1, 6]
B, S, T, V = len(SOURCE), max(SOURCE), max(TARGET), 11

every_cell = pytest.mark.parametrize(
    "cell, units", [("elman", 5), ("lstm", 5), ("gru", 5), ("goru", 8)]
)
native_or_torch = pytest.mark.parametrize("native", [True, False])
"""native=True runs the recurrence in a compiled kernel. Without a compiler it falls back to
torch, so both cases are the same; the kernel tests report that."""
both_attentions = pytest.mark.parametrize("attention", ["additive", "dot"])


def translator(cell: str = "lstm", units: int = 5, **settings: Any) -> Translator:
    torch.manual_seed(0)
    model = Translator(model_settings(cell=cell, hidden=units, embedding=6, **settings), 13, V)
    for name, parameter in model.named_parameters():
        if "bias" in name:
            torch.nn.init.normal_(parameter, std=0.3)  # so that each bias has an effect
    return model.double()


class Inputs(NamedTuple):
    """Arguments of the translator."""

    source: Tensor
    source_lengths: Tensor
    target: Tensor
    target_lengths: Tensor
    keys: Tensor


def make_inputs(padding: int = 0) -> Inputs:
    """Return a batch, with `padding` steps after the longest source and the longest target."""
    torch.manual_seed(1)
    source = torch.randint(0, 13, (B, S + padding))
    target = torch.randint(0, V, (B, T + padding))
    keys = torch.arange(B) * 2**40
    return Inputs(source, torch.tensor(SOURCE), target, torch.tensor(TARGET), keys)


@native_or_torch
@every_cell
@both_attentions
@pytest.mark.parametrize(
    "options",
    [{"layers": 1}, {"layers": 3, "skip": "residual"}, {"layer_norm": True, "bridge": False}],
    ids=str,
)
def test_scores_of_training_match_decoding_step_by_step(
    cell: str, units: int, native: bool, attention: str, options: dict[str, Any]
) -> None:
    model = translator(cell, units, native=native, attention=attention, **options).eval()
    source, lengths, target, _, keys = make_inputs()
    scores = model(source, lengths, target, torch.full((B,), T), keys)  # [T', B, V]
    memory = model.encode(source, lengths, keys)
    state = memory.initial_state
    for t, expected in enumerate(scores.log_softmax(-1)):
        log_probs, state, weights = model.step(target[:, t], state, memory)
        assert (log_probs - expected).abs().max() < 1e-10
        assert (weights.sum(-1) - 1).abs().max() < 1e-12
        assert (weights[1, 1:] == 0).all()


@both_attentions
def test_scores_match_the_equations(attention: str) -> None:
    """Three Elman layers, a residual connection around the third; one row and step at a time."""
    model = translator("elman", layers=3, skip="residual", attention=attention)
    source, lengths, target, target_lengths, keys = make_inputs()
    scores = model(source, lengths, target, target_lengths, keys)
    decoder, memory = model.decoder, model.encode(source, lengths, keys)
    assert model.embedding is not None
    assert decoder.bridge is not None
    assert decoder.project is not None
    cells = modules_of_type(decoder.layers, Elman)
    encoded, final_state = model.stack(model.embedding(source.t()), lengths, keys)
    for b in range(B):
        summary = torch.cat([final_state[-1].h[0, b], final_state[-1].h[1, b]])
        initial = torch.tanh(decoder.bridge.weight @ summary + decoder.bridge.bias)
        h = list(initial.split(5))
        for t in range(TARGET[b]):

            def run_cell(i: int, x: Tensor, h: list[Tensor] = h) -> Tensor:
                cell = cells[i]
                h[i] = torch.tanh(cell.input @ x + cell.hidden @ h[i] + cell.bias)
                return h[i]

            first = run_cell(0, decoder.embedding.weight[target[b, t]])
            states = encoded[: SOURCE[b], b, None]
            attention_keys = memory.attention_keys[: SOURCE[b], b, None]
            context, _ = decoder.attention(
                first[None, None], states, attention_keys, lengths[b : b + 1]
            )
            context = context[0, 0]
            second = run_cell(1, torch.cat([first, context]))
            third = run_cell(2, torch.cat([second, context])) + second
            combined = decoder.combine.weight @ torch.cat([third, context]) + decoder.combine.bias
            expected = decoder.project.weight @ torch.tanh(combined) + decoder.bias
            assert (scores[t, b] - expected).abs().max() < 1e-10


@every_cell
def test_hypotheses_of_a_row_can_share_its_memory(cell: str, units: int) -> None:
    """Two hypotheses per row give the same result as rows with a copy of the memory each."""
    model = translator(cell, units).eval()
    source, lengths, *_, keys = make_inputs()
    memory = model.encode(source, lengths, keys)
    copies = memory.select(torch.arange(B).repeat(2))
    tokens, state = torch.arange(2 * B), copies.initial_state
    log_probs, new_state, weights = model.step(tokens, state, memory)
    expected, expected_state, expected_weights = model.step(tokens, state, copies)
    assert (log_probs - expected).abs().max() < 1e-12
    assert (weights - expected_weights).abs().max() < 1e-12
    for a, b in zip(new_state, expected_state, strict=True):
        assert (a.h - b.h).abs().max() < 1e-12
        assert (a.c - b.c).abs().max() < 1e-12


@native_or_torch
@every_cell
@both_attentions
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_scores_and_gradients_do_not_depend_on_padding(
    cell: str, units: int, native: bool, attention: str, p: float
) -> None:
    """Padding of source or target, also with dropout: a mask depends only on the row's key."""
    drops = ("dropout", "embedding_dropout", "zoneout", "weight_drop")
    options = {"native": native, "attention": attention} | dict.fromkeys(drops, p)
    model = translator(cell, units, layers=3, skip="highway", **options)
    draw_weight_masks(model, 0, 1)
    source, lengths, target, target_lengths, keys = inputs = make_inputs(padding=3)

    def with_gradients(scores: Tensor) -> list[Tensor]:
        """scores [n, V] -> themselves and the gradients of the sum of their squares."""
        return [scores, *torch.autograd.grad(scores.pow(2).sum(), list(model.parameters()))]

    padded = model(*inputs)
    batched = torch.cat([padded[:n, b] for b, n in enumerate(TARGET)])
    # `row` is a list of one index, which keeps the batch axis.
    single = torch.cat(
        [
            model(source[row, :s], lengths[row], target[row, :t], target_lengths[row], keys[row])[
                :, 0
            ]
            for row, s, t in zip([[b] for b in range(B)], SOURCE, TARGET, strict=True)
        ]
    )
    for a, b in zip(with_gradients(batched), with_gradients(single), strict=True):
        assert (a - b).abs().max() < 1e-10


def test_score_positions_select_from_all_scores() -> None:
    model, inputs = translator(), make_inputs(padding=2)
    is_target = valid(inputs.target_lengths, T + 2)  # [T', N]
    positions = is_target.flatten().nonzero()[:, 0]
    assert (model(*inputs, positions) - model(*inputs)[is_target]).abs().max() < 1e-12
    assert model(*inputs, positions).shape == (sum(TARGET), V)


@both_attentions
@pytest.mark.parametrize("bridge", [True, False])
@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("target_vocab_size", [V, None])  # None: shared with the source
def test_every_weight_has_one_name_and_a_gradient(
    attention: str, bridge: bool, tie: bool, target_vocab_size: int | None
) -> None:
    """As DistributedDataParallel and safetensors require."""
    settings = model_settings(attention=attention, bridge=bridge, tie_embeddings=tie)
    model = Translator(settings, V, target_vocab_size)
    weights = model.state_dict()
    assert len({w.data_ptr() for w in weights.values()}) == len(weights)
    vocabulary_matrices = sum(w.shape[0] == V and w.ndim == 2 for w in weights.values())
    assert vocabulary_matrices == 3 - tie - (target_vocab_size is None)
    model(
        *(x.clamp(max=V - 1) if x.ndim > 1 else x for x in make_inputs())
    ).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_tied_weights_are_embedding_and_output_layer() -> None:
    decoder = translator(tie_embeddings=True).decoder
    features = torch.eye(6, dtype=torch.float64)
    with torch.no_grad():
        decoder.embedding.weight[3] += 1.5
        assert torch.equal(decoder.scores(features) - decoder.bias, decoder.embedding.weight.t())


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("decoder_layers", [0, 1, 4])
def test_decoder_has_the_configured_number_of_layers(
    bidirectional: bool, decoder_layers: int
) -> None:
    model = translator(layers=2, decoder_layers=decoder_layers, bidirectional=bidirectional)
    assert len(model.decoder.layers) == (decoder_layers or 2)
    assert model(*make_inputs()).isfinite().all()


def test_decoder_accepts_a_memory_from_any_encoder() -> None:
    """For example from images: the decoder only needs states, lengths and a summary."""
    decoder, inputs = translator(bidirectional=False).decoder, make_inputs()
    states = torch.randn(9, B, 5, dtype=torch.float64)
    memory = decoder.build_memory(states, torch.full((B,), 9), states.mean(0))
    features = decoder(inputs.target, inputs.target_lengths, inputs.keys, memory)
    assert features.shape == (T, B, 5)


def test_grid_lstm_is_rejected() -> None:
    message = "model.cell=grid_lstm: has no decoder; set another cell"
    with pytest.raises(ValueError, match=message):
        translator("grid_lstm")


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru", "goru"])
@both_attentions
def test_bf16_is_close_to_fp32(cell: str, attention: str) -> None:
    model = translator(cell, units=16, attention=attention).float()
    inputs = make_inputs()
    positions = valid(inputs.target_lengths, T).flatten().nonzero()[:, 0]
    with torch.autocast("cpu", torch.bfloat16):
        bf16_scores = model(*inputs, positions)
        memory = model.encode(inputs.source, inputs.source_lengths, inputs.keys)
        log_probs, _, weights = model.step(inputs.target[:, 0], memory.initial_state, memory)
    assert bf16_scores.dtype == torch.bfloat16
    assert log_probs.dtype == weights.dtype == torch.float32
    assert (log_probs - bf16_scores[:B].float().log_softmax(-1)).abs().max() < 0.06
    assert (bf16_scores - model(*inputs, positions)).abs().max() < 0.06
    bf16_scores.float().logsumexp(-1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
