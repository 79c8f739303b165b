"""The target texts of batches of sequence-to-sequence tasks.

A row's target is the concatenation of the tokens of its texts, each ended by </s>.

Shapes: B rows of a batch, G tokens of the longest target, K maximum number of texts per row,
N = K * B texts (the first of each row, then the second of each row, ...), T' tokens of the longest
text, including </s>, n target tokens of all texts without padding, V vocabulary.
"""

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.corpus.tokenization.special_tokens import BEGIN, END, PAD
from pipeline.stream.batch import Batch


def target_of(batch: Batch) -> Tensor:
    """Return the target [B, G] with at least one column, even if all rows are padding."""
    target = batch.columns["target"]
    return target if target.shape[1] else functional.pad(target, (0, 1), value=PAD)


def split_texts(target: Tensor) -> Tensor:
    """Split targets [B, G] into their texts [N, T']; rows with fewer texts get empty ones."""
    valid, ends = target != PAD, target == END
    text = ends.cumsum(1) - ends.long()  # [B, G] index of the token's text in the row
    position = torch.arange(target.shape[1], device=target.device).expand_as(target)
    starts = functional.pad(torch.where(ends, position + 1, 0), (1, 0))[:, :-1].cummax(1).values
    position = position - starts  # [B, G] in the text
    count, longest = (int(x[valid].max()) + 1 if valid.any() else 1 for x in (text, position))
    texts = target.new_full((count, len(target), longest), PAD)  # [K, B, T']
    texts[text[valid], valid.nonzero()[:, 0], position[valid]] = target[valid]
    return texts.flatten(0, 1)


def decoder_inputs(texts: Tensor) -> tuple[Tensor, Tensor]:
    """Shift texts [N, T'] right, beginning with <s>; return them with their lengths [N]."""
    return functional.pad(texts[:, :-1], (1, 0), value=BEGIN), (texts != PAD).sum(1).clamp(min=1)


def score_targets(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compare scores [n, V] with targets [n].

    Returns all log-probabilities [n, V], those of the targets [n], and whether each target is
    correct [n]: no token is more likely. Comparing with the maximum is much faster than an argmax.
    """
    log_p = scores.log_softmax(1, dtype=torch.promote_types(scores.dtype, torch.float32))
    target_log_p = log_p.gather(1, targets[:, None])[:, 0]
    return log_p, target_log_p, target_log_p.detach() >= log_p.detach().amax(1)
