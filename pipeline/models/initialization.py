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
"""Functions that fill a tensor with random numbers. PyTorch dispatches these functions of `init` as
a whole; the others call methods of Tensor."""


class WithoutRandomInit(TorchFunctionMode):
    """Initializes tensors with zeros instead of random numbers, which is faster.

    For models whose weights are loaded after they are built. Calls with a `generator` still draw
    random numbers, because they may make a constant tensor that is not in the checkpoint.
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
