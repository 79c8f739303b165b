"""Typed access to the submodules of a model, and settings for any cell."""

from collections.abc import Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from pipeline.components import compose
from pipeline.kernels import Weights
from tests.helpers.settings import ModelKeys, model_settings

M = TypeVar("M", bound=nn.Module)


def modules_of_type(parent: nn.Module, kind: type[M]) -> list[M]:
    """Return the modules in `parent` that are instances of `kind`, in order of registration."""
    return [module for module in parent.modules() if isinstance(module, kind)]


def settings_of_cell(cell: str, **values: Any) -> Any:
    """Return settings of a model without the values of keys that the cell does not have."""
    known = compose({"model": ModelKeys}, {"model": {"cell": cell}})["model"].model_fields
    return model_settings(cell=cell, **{k: v for k, v in values.items() if k in known})


def weights_of(tensors: Sequence[Tensor]) -> Weights:
    """Return the weights of a layer, in the order of `Weights`."""
    input_weights, hidden, bias, candidate_bias = tensors
    return Weights(input_weights, hidden, bias, candidate_bias)
