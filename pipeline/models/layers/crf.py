"""Linear-chain conditional random field over sequences of tags.

Shapes: T tokens of the longest row, B rows, C tags.
"""

import torch
from torch import Tensor, nn

from pipeline.models.layers.masks import valid


class CRF(nn.Module):
    """Linear-chain CRF (Lafferty et al. 2001; on recurrent states: Lample et al. 2016).

    The score of a row's tag sequence is the sum of its emissions, a transition weight for each pair
    of neighbors, and a weight each for its first and its last tag. The probability of a sequence is
    the softmax of the scores over all sequences.

    `allowed` [C + 2, C + 2] is true at [i, j] if tag j may follow tag i; row C represents the start
    of a sequence and column C + 1 its end. Only decoding is constrained by it. Training and
    `marginals` ignore it: the loss of tags that break a rule is finite and has gradients, and the
    weights of pairs that never occur decrease by training.

    All weights are initialized to 0, at which the loss is the sum of the tokens' cross entropies.
    Rows have lengths in 1..T; emissions and tags past a row's length have no effect, whatever their
    values. Everything is computed in float32, even under autocast, or in float64 if the emissions
    are float64.

    Raises ValueError if `allowed` has the wrong shape or data type.
    """

    allowed: Tensor | None

    def __init__(self, tags: int, allowed: Tensor | None = None) -> None:
        super().__init__()
        shape = (tags + 2, tags + 2)
        if allowed is not None and (allowed.shape != shape or allowed.dtype != torch.bool):
            raise ValueError(
                f"allowed is {allowed.dtype} {list(allowed.shape)}; expected torch.bool "
                f"{list(shape)}: {tags} tags, the start and the end of a sequence"
            )
        self.transitions = nn.Parameter(torch.zeros(tags, tags))  # [C, C]: from, to
        self.start = nn.Parameter(torch.zeros(tags))  # [C]
        self.end = nn.Parameter(torch.zeros(tags))  # [C]
        # Not saved: derived from the tags' names.
        self.register_buffer("allowed", allowed, persistent=False)

    def nll(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Return each row's negative log-likelihood [B].

        Takes emissions [T, B, C], tags [T, B] int64 and lengths [B].
        """
        with torch.autocast(emissions.device.type, enabled=False):
            emissions = _mask_and_promote(emissions, lengths)
            forward = self._forward_scores(emissions, lengths)
            log_partition = (forward[-1] + self.end).logsumexp(-1)
            return log_partition - self._score(emissions, tags, lengths)

    def marginals(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """Return the probability of each tag at each token [T, B, C], 0 past a row's length.

        Takes emissions [T, B, C] and lengths [B].
        """
        with torch.autocast(emissions.device.type, enabled=False):
            emissions = _mask_and_promote(emissions, lengths)
            forward = torch.stack(self._forward_scores(emissions, lengths))  # [T, B, C]
            # [B, C]: logsumexp of the scores of what can follow a token with tag c;
            # first for the last token
            suffix = self.end.expand_as(emissions[0])
            backward = [suffix]
            for t in range(len(emissions) - 1, 0, -1):
                following = (emissions[t] + suffix)[:, None]  # [B, 1, C]
                extended = (self.transitions + following).logsumexp(2)
                suffix = torch.where((t < lengths)[:, None], extended, suffix)
                backward.append(suffix)
            scores = forward + torch.stack(backward[::-1])
            return scores.softmax(-1) * valid(lengths, len(scores))[..., None]

    @torch.no_grad()
    def decode(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """Return each row's most probable allowed tags [B, T] int64, 0 past its length (Viterbi
        1967).

        Takes emissions [T, B, C] and lengths [B]. If no sequence of a row's length is allowed, the
        result breaks as few rules as possible.
        """
        with torch.autocast(emissions.device.type, enabled=False):
            emissions = _mask_and_promote(emissions, lengths)
            transitions, start, end = self._constrained_weights(emissions, lengths)
            best, backpointers = start + emissions[0], []
            identity = torch.arange(best.shape[1], device=best.device)
            for t in range(1, len(emissions)):
                extended, backpointer = (best[:, :, None] + transitions).max(1)  # [B, C]
                inside = (t < lengths)[:, None]
                best = torch.where(inside, extended + emissions[t], best)
                backpointers.append(torch.where(inside, backpointer, identity))
            tag = (best + end).argmax(-1, keepdim=True)  # [B, 1]
            path = [tag]
            for backpointer in reversed(backpointers):
                tag = backpointer.gather(1, tag)
                path.append(tag)
            return torch.cat(path[::-1], 1) * valid(lengths, len(emissions)).t()

    def _forward_scores(self, emissions: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return a tensor [B, C] for each token t.

        At [b, c] it holds the logsumexp of the scores of all tag sequences up to t that end in tag
        c. Past a row's length, the last value is repeated.
        """
        prefix = self.start + emissions[0]
        steps = [prefix]
        for t in range(1, len(emissions)):
            extended = (prefix[:, :, None] + self.transitions).logsumexp(1) + emissions[t]
            prefix = torch.where((t < lengths)[:, None], extended, prefix)
            steps.append(prefix)
        return steps

    def _score(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Return the score of each row's tags [B]."""
        inside = valid(lengths, len(tags))  # [T, B]
        tags = tags.masked_fill(~inside, 0)
        tag_emissions = emissions.gather(2, tags[..., None])[..., 0]  # [T, B], 0 past a length
        pairs = self.transitions[tags[:-1], tags[1:]] * inside[1:]  # [T - 1, B]
        last = tags.gather(0, lengths[None] - 1)[0]  # [B]
        return tag_emissions.sum(0) + pairs.sum(0) + self.start[tags[0]] + self.end[last]

    def _constrained_weights(self, emissions: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Return the weights for decoding: transitions [B, C, C], start and end [B, C].

        The weights of pairs that are not allowed are lowered by a finite penalty that exceeds the
        difference between the scores of any two tag sequences of the row.
        """
        weights = self.transitions, self.start, self.end
        if self.allowed is None:
            return tuple(weight.expand(len(lengths), *weight.shape) for weight in weights)
        c = len(self.start)
        rules = [self.allowed[:c, :c], self.allowed[c, :c], self.allowed[:c, c + 1]]
        largest = torch.stack([weight.abs().max() for weight in weights]).max()
        # Scores differ by at most half of the penalty, so rounding cannot hide a broken rule.
        penalty = 4 * (emissions.abs().amax(2).sum(0) + (lengths + 1) * largest) + 1  # [B]
        return tuple(
            torch.where(rule, weight, weight - penalty.view(-1, *[1] * weight.ndim))
            for weight, rule in zip(weights, rules, strict=True)
        )


def _mask_and_promote(emissions: Tensor, lengths: Tensor) -> Tensor:
    """Return [T, B, C] in at least float32, set to 0 past each row's length (even where NaN)."""
    wide = emissions.to(torch.promote_types(emissions.dtype, torch.float32))
    return wide.masked_fill(~valid(lengths, len(wide))[..., None], 0)
