"""Parameter groups: weight decay, depth, and what `train.groups` sets by the parameters' names."""

import re
from typing import Any, NamedTuple

from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.models.encoder import parameters_by_depth
from pipeline.optim.settings import GroupSettings, OptimizerSettings


class _Key(NamedTuple):
    """The entries that the parameters of a group share."""

    depth: int
    weight_decay: float
    lr_factor: float
    freeze: bool


def parameter_groups(model: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Return PyTorch's parameter groups of a model.

    Matrices use `weight_decay`, embeddings `embedding_decay`; vectors, such as biases, are not
    decayed. The first of `train.groups` whose pattern matches a parameter's name can change that,
    and the learning rate. Beside `params` and `weight_decay`, a group has

        depth       counted from the top of the model; 0 without `layer_decay` and `unfreeze`
        embeddings  those of the parameters that are embeddings
        lr_factor   factor of the learning rate
        freeze      whether the parameters are never trained
        frozen      whether they are not trained at present

    Raises ConfigError if a pattern matches no parameter.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    depths: dict[int, int] = {}
    if settings.layer_decay < 1 or settings.unfreeze:
        depths = {id(p): depth for depth, ps in enumerate(parameters_by_depth(model)) for p in ps}
    groups: dict[_Key, list[Tensor]] = {}
    unused = {group.pattern for group in settings.groups}
    for name, parameter in model.named_parameters():
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        if id(parameter) in embeddings:
            decay = settings.embedding_decay
        own = next((g for g in settings.groups if re.fullmatch(g.pattern, name)), None)
        own = own or GroupSettings(pattern="")
        unused.discard(own.pattern)
        key = _Key(
            depths.get(id(parameter), 0),
            decay if own.weight_decay is None else own.weight_decay,
            own.lr_factor,
            own.freeze,
        )
        groups.setdefault(key, []).append(parameter)
    if all(key.freeze for key in groups):
        raise ConfigError("train.groups: freezes all parameters; leave some to train")
    if unused:
        names = ", ".join(name for name, _ in model.named_parameters())
        raise ConfigError(
            f"train.groups: the pattern {min(unused)!r} matches no parameter (or only those of "
            f"earlier patterns); the parameters are {names}"
        )
    return [
        {
            "params": parameters, "weight_decay": key.weight_decay, "depth": key.depth,
            "embeddings": [p for p in parameters if id(p) in embeddings],
            "lr_factor": key.lr_factor, "freeze": key.freeze, "frozen": key.freeze,
        }
        for key, parameters in groups.items()
    ]  # fmt: skip
