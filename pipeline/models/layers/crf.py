"""A linear-chain conditional random field: what a whole sequence of tags is worth.

Legend: T tokens of the longest row, B rows, C tags.
"""

import torch
from torch import Tensor, nn

from pipeline.models.layers.pooling import valid


class CRF(nn.Module):
    """The distribution over all tag sequences of a row whose log-probability is, up to a constant,
    the sum of the emissions along the sequence, of a weight for each pair of neighbors, and of one
    for each end (Lafferty et al. 2001; on recurrent states: Lample et al. 2016).

    `allowed` [C + 2, C + 2] is true at [i, j] where tag j may follow tag i; row C stands for the
    start of a row and column C + 1 for its end. It binds decoding only. Training and `marginals`
    know nothing of it: the loss of a row whose tags break it is finite and teaches what it says,
    and the weights of pairs that never occur fall by themselves.

    All weights are 0 at first, where the loss is the cross entropy of each token for itself. Rows
    have lengths in 1..T; neither emissions nor tags past a length matter, whatever they are. All is
    computed in float32 whatever the autocast, and in float64 where the emissions are.
    """

    allowed: Tensor | None

    def __init__(self, tags: int, allowed: Tensor | None = None) -> None:
        super().__init__()
        shape = (tags + 2, tags + 2)
        if allowed is not None and (allowed.shape != shape or allowed.dtype != torch.bool):
            raise ValueError(
                f"allowed is {allowed.dtype} {list(allowed.shape)}; for {tags} tags it is "
                f"torch.bool {list(shape)}: the tags, then the start and the end of a row"
            )
        self.transitions = nn.Parameter(torch.zeros(tags, tags))  # [C, C], from and to
        self.start = nn.Parameter(torch.zeros(tags))  # [C]
        self.end = nn.Parameter(torch.zeros(tags))  # [C]
        self.register_buffer("allowed", allowed, persistent=False)  # the names of the tags tell it

    def nll(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """emissions [T, B, C], tags [T, B] int64, lengths [B] -> minus the log-probability of each
        row's tags [B]."""
        with torch.autocast(emissions.device.type, enabled=False):
            emissions = _wide(emissions, lengths)
            forward = self._forward(emissions, lengths)
            return (forward[-1] + self.end).logsumexp(-1) - self._score(emissions, tags, lengths)

    def marginals(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """emissions [T, B, C], lengths [B] -> the probability of each tag at each token [T, B, C],
        0 past a length."""
        with torch.autocast(emissions.device.type, enabled=False):
            emissions = _wide(emissions, lengths)
            forward = torch.stack(self._forward(emissions, lengths))  # [T, B, C]
            rest = self.end.expand_as(emissions[0])  # [B, C] of all that comes after t
            backward = [rest]
            for t in range(len(emissions) - 1, 0, -1):
                ahead = (emissions[t] + rest)[:, None]  # [B, 1, C]
                longer = (self.transitions + ahead).logsumexp(2)
                rest = torch.where((t < lengths)[:, None], longer, rest)
                backward.append(rest)
            both = forward + torch.stack(backward[::-1])
            return both.softmax(-1) * valid(lengths, len(both))[..., None]

    @torch.no_grad()
    def decode(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """emissions [T, B, C], lengths [B] -> each row's most probable tags [B, T] int64 of those
        that `allowed` allows, 0 past a length (Viterbi 1967).

        Where the tags and the length leave none that it allows, as few of its rules are broken as
        can be.
        """
        with torch.autocast(emissions.device.type, enabled=False):
            emissions = _wide(emissions, lengths)
            between, start, end = self._bound(emissions, lengths)  # [B, C, C], [B, C], [B, C]
            best, sources = start + emissions[0], []
            same = torch.arange(best.shape[1], device=best.device)
            for t in range(1, len(emissions)):
                longer, source = (best[:, :, None] + between).max(1)  # [B, C]
                inside = (t < lengths)[:, None]
                best = torch.where(inside, longer + emissions[t], best)
                sources.append(torch.where(inside, source, same))
            tag = (best + end).argmax(-1, keepdim=True)  # [B, 1]
            path = [tag]
            for source in reversed(sources):
                tag = source.gather(1, tag)
                path.append(tag)
            return torch.cat(path[::-1], 1) * valid(lengths, len(emissions)).t()

    def _forward(self, emissions: Tensor, lengths: Tensor) -> list[Tensor]:
        """For each token [B, C], the log of what all sequences up to it that end in a tag are
        worth; past a length it stays."""
        here = self.start + emissions[0]
        steps = [here]
        for t in range(1, len(emissions)):
            longer = (here[:, :, None] + self.transitions).logsumexp(1) + emissions[t]
            here = torch.where((t < lengths)[:, None], longer, here)
            steps.append(here)
        return steps

    def _score(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """What the given tags are worth [B]."""
        inside = valid(lengths, len(tags))  # [T, B]
        tags = tags.masked_fill(~inside, 0)
        said = emissions.gather(2, tags[..., None])[..., 0]  # [T, B], 0 past a length
        pairs = self.transitions[tags[:-1], tags[1:]] * inside[1:]  # [T - 1, B]
        last = tags.gather(0, lengths[None] - 1)[0]  # [B]
        return said.sum(0) + pairs.sum(0) + self.start[tags[0]] + self.end[last]

    def _bound(self, emissions: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """The weights of pairs [B, C, C], of the start and of the end [B, C] for decoding: what is
        not allowed costs a row more than all else could bring it, and yet a finite sum."""
        weights = self.transitions, self.start, self.end
        if self.allowed is None:
            return tuple(weight.expand(len(lengths), *weight.shape) for weight in weights)
        c = len(self.start)
        rules = [self.allowed[:c, :c], self.allowed[c, :c], self.allowed[:c, c + 1]]
        largest = torch.stack([weight.abs().max() for weight in weights]).max()
        # Two sequences differ by half of it at most, so that rounding cannot hide a broken rule.
        cost = 4 * (emissions.abs().amax(2).sum(0) + (lengths + 1) * largest) + 1  # [B]
        return tuple(
            torch.where(rule, weight, weight - cost.view(-1, *[1] * weight.ndim))
            for weight, rule in zip(weights, rules, strict=True)
        )


def _wide(emissions: Tensor, lengths: Tensor) -> Tensor:
    """[T, B, C] in at least float32, with 0 past a length, even where there was no number."""
    wide = emissions.to(torch.promote_types(emissions.dtype, torch.float32))
    return wide.masked_fill(~valid(lengths, len(wide))[..., None], 0)
