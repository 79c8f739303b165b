"""Typed access to the submodules of a model."""

from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def modules_of_type(parent: nn.Module, kind: type[M]) -> list[M]:
    """Return the modules in `parent` that are instances of `kind`, in order of registration."""
    return [module for module in parent.modules() if isinstance(module, kind)]
