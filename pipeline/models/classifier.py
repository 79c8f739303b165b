"""Recurrent classifier: embedding, recurrent stack, pooling and a linear layer.

Shapes: T tokens of the longest row, B rows, F input features of an image step, E embedding width,
H hidden units, D directions, C classes.
"""

import torch
from torch import Tensor, nn

from pipeline.models.dropout import LockedDropout, TokenDropout, assign_dropout_sites
from pipeline.models.encoder import encoder
from pipeline.models.layers.pooling import POOLINGS
from pipeline.models.settings import ModelSettings


class Classifier(nn.Module):
    """A many-to-one recurrent network over tokens or image steps.

    `embedding` is the vocabulary size, or a module that embeds inputs other than tokens. `plane`
    is passed on to `encoder`.
    """

    def __init__(
        self,
        settings: ModelSettings,
        embedding: int | nn.Module,
        classes: int,
        plane: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        s = settings
        self.embedding: nn.Module
        if isinstance(embedding, int):
            self.embedding = nn.Embedding(embedding, s.embedding)
            nn.init.normal_(self.embedding.weight, std=0.1)
        else:
            self.embedding = embedding
        self.token_dropout = TokenDropout(s.embedding_dropout)
        self.input_dropout = LockedDropout(s.dropout)
        self.stack = encoder(s.embedding, s, image_size=plane)
        self.pooling = POOLINGS[s.pooling](self.stack.outputs, s.hidden, s.reverse)
        self.output_dropout = LockedDropout(s.dropout)
        self.scores = nn.Linear(self.pooling.outputs, classes)
        assign_dropout_sites(self)

    def forward(self, tokens: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        """Return the class scores [B, C].

        tokens [B, T], or other inputs of the embedding [B, T, F]; lengths [B] in 1..T; dropout
        keys [B].
        """
        x = self.embedding(tokens.transpose(0, 1))  # [T, B, E]
        x = self.input_dropout(self.token_dropout(x, keys), keys)
        states, _ = self.stack(x, lengths, keys)  # [T, B, D*H]
        pooled = self.output_dropout(self.pooling(states, lengths), keys)
        with torch.autocast(x.device.type, enabled=False):  # scores and loss in full precision
            return self.scores(pooled.to(self.scores.weight.dtype))
