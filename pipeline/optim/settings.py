"""Settings of the optimizer and of the learning-rate schedule."""

import re

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from pipeline.settings import Section, setting


class GroupSettings(Section):
    """One entry of `train.groups`: parameters by name, and how they are trained."""

    pattern: str = setting(..., "regular expression that matches the parameters' whole names")
    lr_factor: float = setting(1.0, "factor of the learning rate", gt=0)
    weight_decay: float | None = setting(None, "weight decay instead of the usual one", ge=0)
    freeze: bool = setting(False, "never train these parameters")

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise PydanticCustomError(
                "pattern", "is not a regular expression: {reason}", {"reason": str(error)}
            ) from None
        return value


class OptimizerSettings(Section):
    """Gradient clipping, warm-up, learning rates by layer or by name, and EMA of the weights.

    The optimizer and the schedule of the learning rate are components with keys of their own.
    """

    optimizer: str = setting("adamw", "optimizer", kind="optimizer")
    schedule: str = setting(
        "cosine", "course of the learning rate after the warm-up", kind="schedule"
    )
    groups: list[GroupSettings] = setting(
        [],
        "parameters to train otherwise, such as [{pattern: 'embedding\\..*', lr_factor: 0.1}]; "
        "entries have pattern, lr_factor, weight_decay, freeze",
    )

    lr: float = setting(1e-3, "peak learning rate; if not set, 3e-3 for a small corpus", gt=0)
    warmup: float = setting(
        0.05,
        "fraction of training, in rows, over which the learning rate rises linearly",
        ge=0,
        lt=1,
    )
    weight_decay: float = setting(
        0.01, "weight decay of matrices other than embeddings; vectors have none", ge=0
    )
    embedding_decay: float = setting(
        0.0, "weight decay of embeddings; pulls those of rare tokens towards 0", ge=0
    )
    layer_decay: float = setting(
        1.0,
        "learning rate of each recurrent layer relative to the layer above; the embedding counts "
        "as the lowest layer (ULMFiT: 0.38)",
        gt=0,
        le=1,
    )
    unfreeze: float = setting(
        0.0,
        "ULMFiT's gradual unfreezing: epochs from one layer to the next, from the top down, the "
        "embedding last; 0: all layers train from the start",
        ge=0,
    )
    max_grad_norm: float = setting(
        1.0, "L2 norm of all gradients above which they are scaled down; 0: no clipping", ge=0
    )
    ema_decay: float = setting(
        0.0,
        "decay per update of an exponential moving average (EMA) of the weights, which is then "
        "evaluated and saved as the model; 0: no average",
        ge=0,
        lt=1,
    )
