"""Tokens or steps of images to the scores of classes: embedding, recurrent stack, pooling, one
linear layer.

Legend: T tokens of the longest row, B rows, E embedding, H hidden, D directions, C classes.
"""

import torch
from torch import Tensor, nn

from pipeline.models.dropout import LockedDropout, TokenDropout
from pipeline.models.encoder import encoder
from pipeline.models.layers.pooling import POOLINGS
from pipeline.models.settings import ModelSettings


class Classifier(nn.Module):
    """A many-to-one recurrent network. `reads` says how many tokens there are, or embeds what is no
    token; `plane` is of `encoder`."""

    def __init__(
        self,
        settings: ModelSettings,
        reads: int | nn.Module,
        classes: int,
        plane: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        s = settings
        self.embedding: nn.Module
        if isinstance(reads, int):
            self.embedding = nn.Embedding(reads, s.embedding)
            nn.init.normal_(self.embedding.weight, std=0.1)
        else:
            self.embedding = reads
        self.token_dropout = TokenDropout(s.embedding_dropout, site=0)
        self.input_dropout = LockedDropout(s.dropout, site=1)
        self.stack = encoder(s.embedding, s, site=2, plane=plane)
        self.pooling = POOLINGS[s.pooling](self.stack.outputs, s.hidden, s.reverse)
        self.output_dropout = LockedDropout(s.dropout, site=1000)
        self.scores = nn.Linear(self.pooling.outputs, classes)

    def forward(self, tokens: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        """tokens [B, T], or what else is embedded [B, T, F], lengths [B] in 1..T, keys [B] (of
        dropout) -> scores [B, C]."""
        x = self.embedding(tokens.transpose(0, 1))  # [T, B, E]
        x = self.input_dropout(self.token_dropout(x, keys), keys)
        states, _ = self.stack(x, lengths, keys)  # [T, B, D*H]
        pooled = self.output_dropout(self.pooling(states, lengths), keys)
        with torch.autocast(x.device.type, enabled=False):  # scores and loss in full precision
            return self.scores(pooled.to(self.scores.weight.dtype))
