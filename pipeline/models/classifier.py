"""Many-to-one model: embedding, encoder, pooling and output head.

Shapes: T tokens of the longest row, B rows, F input features of an image step, E embedding width,
H hidden units, D directions, P features of a row's vector, C outputs.
"""

import torch
from torch import Tensor, nn

from pipeline import components
from pipeline.models.dropout import LockedDropout, TokenDropout, assign_dropout_sites
from pipeline.models.encoder import encoder
from pipeline.models.settings import EncoderSettings
from pipeline.settings import setting


class Classifier(nn.Module):
    """A many-to-one recurrent network over tokens or image steps.

    `embedding` is the vocabulary size, or a module that embeds inputs other than tokens. `plane`
    is passed on to `encoder`.
    """

    class Settings(EncoderSettings):
        pooling: str = setting(
            "max_mean", "how the states of a row become one vector", kind="pooling"
        )
        head: str = setting("linear", "layers from that vector to the outputs", kind="head")

    def __init__(
        self,
        settings: Settings,
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
        self.stack = encoder(s.embedding, s, plane)
        self.pooling = components.load("pooling", s.pooling)(self.stack.outputs, s)
        components.require(self.pooling, "outputs")
        self.output_dropout = LockedDropout(s.dropout)
        self.scores = components.load("head", s.head)(self.head_inputs, classes, s)
        assign_dropout_sites(self)

    @property
    def head_inputs(self) -> int:
        """Number of features that the head maps to the outputs."""
        return int(self.pooling.outputs)

    def forward(self, tokens: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        """Return the class scores [B, C].

        tokens [B, T], or other inputs of the embedding [B, T, F]; lengths [B] in 1..T; dropout
        keys [B].
        """
        return self.outputs(self.pool(tokens, lengths, keys))

    def pool(self, tokens: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        """Return the vector of each row [B, P]; arguments as for `forward`."""
        x = self.embedding(tokens.transpose(0, 1))  # [T, B, E]
        x = self.input_dropout(self.token_dropout(x, keys), keys)
        states, _ = self.stack(x, lengths, keys)  # [T, B, D*H]
        return self.output_dropout(self.pooling(states, lengths), keys)

    def outputs(self, pooled: Tensor) -> Tensor:
        """Return the class scores [B, C] of the vectors of rows."""
        with torch.autocast(pooled.device.type, enabled=False):  # scores and loss in full precision
            return self.scores(pooled.to(next(self.parameters()).dtype))
