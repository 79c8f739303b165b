"""Building models whose weights are read from a file."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

RANDOM_FILLS = frozenset(
    {
        Tensor.bernoulli_, Tensor.cauchy_, Tensor.exponential_, Tensor.geometric_,
        Tensor.log_normal_, Tensor.normal_, Tensor.random_, Tensor.uniform_,
        init.kaiming_uniform_, init.normal_, init.uniform_,
    }
)  # fmt: skip
"""Functions that fill a tensor. Of those in `init`, the ones that PyTorch dispatches as a whole."""


class WithoutRandomInit(TorchFunctionMode):
    """Fills tensors with zeros where their random initialization is asked for, which is slower.

    For models whose weights are replaced after they are built. Fills with a generator of their own
    are not changed, because they may make a fixed tensor that no checkpoint has.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        if func in RANDOM_FILLS and options.get("generator") is None:
            tensor = args[0] if args else options["tensor"]
            with torch.no_grad():
                return tensor.zero_()
        if func is torch.linalg.qr and args and not args[0].any():  # from init.orthogonal_
            rows, columns = args[0].shape
            return torch.eye(rows, columns), torch.zeros(columns, columns)
        return func(*args, **options)
