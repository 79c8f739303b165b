"""Sampling of continuations of texts with a language model.

Shapes: B texts, T tokens of the longest text, G generated tokens of the longest continuation, E
embedding width, H hidden units, V vocabulary size.
"""

import math

import torch
from torch import Tensor

from pipeline.models.decoding.sampling import gumbel_noise
from pipeline.models.language_model import LanguageModel
from pipeline.models.layers.recurrent import LayerState

NO_TOKEN = -1
"""Padding of generated tokens."""


def continue_texts(
    model: LanguageModel,
    tokens: Tensor,
    lengths: Tensor,
    *,
    keys: Tensor,
    end: int,
    max_new_tokens: int,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Return the tokens [B, G] that continue each text, padded with NO_TOKEN, and their
    log-probability [B].

    Takes tokens [B, T] in the reading order of the model's first direction, lengths [B] in 1..T,
    and the keys [B] of the random draws. Tokens are sampled at `temperature`; at 0, the most likely
    one is taken. Tokens with ids below `end` are never generated, and `end` ends a text. A text's
    continuation depends only on the text and its key.
    """
    top, states = _read(model, tokens, lengths)
    ended = torch.zeros_like(lengths, dtype=torch.bool)
    generated: list[Tensor] = []
    totals = torch.zeros(len(keys), dtype=torch.float64, device=keys.device)
    for _ in range(max_new_tokens):
        log_probs = model.log_probs(top).float()  # [B, V]
        scores = log_probs.clone()
        scores[:, :end] = -math.inf
        if temperature:  # Gumbel-max sampling from the softmax
            scores += temperature * gumbel_noise(keys, len(generated), scores.shape[1])
        token = scores.argmax(-1)
        chosen = log_probs.gather(1, token[:, None])[:, 0]
        totals += chosen.double().masked_fill(ended, 0.0)
        ended = ended | (token == end)
        generated.append(token.masked_fill(ended, NO_TOKEN))
        if bool(ended.all()):
            break
        ones = torch.ones_like(lengths)
        x = model.embedding(token[None])  # [1, B, E]
        outputs, states = model.stacks[0](x, ones, torch.zeros_like(lengths), states)
        top = outputs[0]
    return torch.stack(generated, 1), totals


def _read(model: LanguageModel, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, list[LayerState]]:
    """Return the top layer's output [B, H] and all layers' states at the end of each text.

    Texts of the same length are read together: with padding, a layer's final state is not defined
    for the shorter ones.
    """
    count, device = len(lengths), lengths.device
    hidden, layers = model.settings.hidden, model.settings.layers
    top = torch.zeros(count, hidden, device=device)
    states = [
        LayerState(*(torch.zeros(1, count, hidden, device=device) for _ in LayerState._fields))
        for _ in range(layers)
    ]
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero()[:, 0]
        x = model.embedding(tokens[rows, :length].t())
        keys = torch.zeros_like(rows)  # no effect: dropout is off
        outputs, final_states = model.stacks[0](x, lengths[rows], keys)
        top[rows] = outputs[-1].float()
        for state, final_state in zip(states, final_states, strict=True):
            state.h[:, rows] = final_state.h.float()
            state.c[:, rows] = final_state.c.float()
    return top, states
