"""Floating-point precision of the model's computation; weights and optimizer stay in float32."""

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.errors import TrainingError
from pipeline.kernels import library
from pipeline.models.encoder import encoder
from pipeline.models.layers.recurrent import Layer
from pipeline.models.settings import EncoderSettings, ModelSettings

logger = logging.getLogger(__name__)

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CUDNN_WITH_BF16 = 91300
"""First version of cuDNN whose recurrent layers torch runs in bf16."""


@dataclass(frozen=True)
class Precision:
    """A precision, by its name in `TYPES`, on a device."""

    name: str
    device: torch.device

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, TYPES[self.name], enabled=self.name != "fp32")

    def scaler(self) -> torch.amp.GradScaler:
        """Return the loss scaler: enabled in fp16, where small gradients would underflow."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")


def choose(
    requested: str, device: torch.device, model: ModelSettings, *, trains: bool = True
) -> Precision:
    """Return the requested precision if a recurrent step runs in it.

    With `trains=False`, only the forward pass must run, and "auto" is not allowed.

    "auto" follows the machine and the cell, never a measured time, so that a run chooses the same
    whenever it starts (see `_best_of_cpu` and `_best_of_gpu`). Raises TrainingError if the
    requested precision does not run on the device.
    """
    if requested == "fp32":
        return Precision("fp32", device)
    if requested != "auto":
        _require(Precision(requested, device), model, trains=trains)
        return Precision(requested, device)
    candidate = _best_of_gpu(device) if device.type == "cuda" else _best_of_cpu(model)
    try:
        _run_step(Precision(candidate, device), model)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # oneDNN, cuDNN and Triton raise errors of many types
        logger.info("precision: %s does not run here (%s)", candidate, _first_line(error))
        return Precision("fp32", device)
    return Precision(candidate, device)


def _best_of_cpu(model: ModelSettings) -> str:
    """Return bf16 if the cell's C++ loop multiplies in bf16 on this CPU, else fp32.

    In the loop, bf16 is 1.7 to 1.9 times as fast for LSTM, GRU and GORU; benchmarks/onnx_speed.py
    measures it.
    """
    with torch.random.fork_rng([]):
        layers = [m for m in _encoder(model).modules() if isinstance(m, Layer)]
    has_loop = any(layer.native and layer.cells[0].kernel for layer in layers)
    return "bf16" if has_loop and library().supports(torch.bfloat16) else "fp32"


def _best_of_gpu(device: torch.device) -> str:
    """Return the fastest precision that the GPU and cuDNN have hardware and kernels for.

    bf16 needs no loss scaling, so it is preferred to fp16. Before version 9.13, cuDNN's recurrent
    layers are not used for it (PyTorch pull request 164411): torch would loop over the tokens.
    """
    capability = torch.cuda.get_device_capability(device)
    if capability >= (8, 0) and (torch.backends.cudnn.version() or 0) >= CUDNN_WITH_BF16:
        return "bf16"
    return "fp16" if capability >= (7, 0) else "fp32"  # 7.0 is the first with tensor cores


def _require(precision: Precision, model: ModelSettings, *, trains: bool) -> None:
    """Raise TrainingError if a step of the model's cell fails in a precision."""
    name, device = precision.name, precision.device
    reason, others = "", "auto or fp32"
    if name == "fp16" and device.type == "cpu":
        reason, others = "not supported on a CPU", "auto, bf16 or fp32"
    elif name == "bf16" and device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major < 8:
            reason = f"requires compute capability 8.0, this GPU has {major}.{minor}"
            others = "auto, fp16 or fp32"
    try:
        if not reason and trains:
            _run_step(precision, model)
        elif not reason:
            _forward(precision, *_one_layer(precision, model, tokens=2, rows=1))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        where = f"a layer of model.cell={model.cell}"
        reason = f"{where} fails on this {device.type} ({_first_line(error)})"
    if reason:
        raise TrainingError(f"train.precision={name}: {reason}; use train.precision={others}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _run_step(precision: Precision, model: ModelSettings) -> None:
    """Run a forward and backward pass of one layer."""
    stack, x = _one_layer(precision, model, tokens=2, rows=2)
    _forward(precision, stack, x).float().sum().backward()


def _one_layer(
    precision: Precision, model: ModelSettings, *, tokens: int, rows: int
) -> tuple[nn.Module, Tensor]:
    """Return a layer with the model's cell and its input [tokens, rows, H]."""
    device = precision.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        x = torch.randn(tokens, rows, model.hidden)
        return _encoder(model).to(device), x.to(device)


def _encoder(model: ModelSettings) -> nn.Module:
    """Return one layer with the model's cell."""
    one_layer = model.model_copy(update={"layers": 1})
    if isinstance(one_layer, EncoderSettings):
        return encoder(model.hidden, one_layer, (8, 8))
    return Layer(model.hidden, one_layer, bidirectional=True)


def _forward(precision: Precision, stack: nn.Module, x: Tensor) -> Tensor:
    lengths = torch.full((x.shape[1],), len(x), device=precision.device)
    with precision.autocast():
        y: Tensor = stack(x, lengths, lengths)[0]
    return y
