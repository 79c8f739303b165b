"""Floating-point precision of the model's computation; weights and optimizer stay in float32."""

import logging
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from pipeline.errors import TrainingError
from pipeline.models.encoder import encoder
from pipeline.models.settings import ModelSettings

logger = logging.getLogger(__name__)

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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


def choose(requested: str, device: torch.device, model: ModelSettings) -> Precision:
    """Return the requested precision if a recurrent step runs in it.

    "auto" times a step and returns the faster of bf16 (fp16 on a GPU without bf16) and fp32. Raises
    TrainingError if the requested precision does not run on the device.
    """
    if requested == "fp32":
        return Precision("fp32", device)
    if requested != "auto":
        reason = (
            "" if requested == "bf16" or device.type == "cuda" else "a CPU trains in fp32 or bf16"
        )
        try:
            if not reason:
                _step_seconds(Precision(requested, device), model)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
        if reason:
            raise TrainingError(
                f"train.precision={requested}: a {model.cell} step fails on this {device.type} "
                f"({reason}); use train.precision=auto or fp32"
            )
        return Precision(requested, device)

    full = _step_seconds(Precision("fp32", device), model)
    for name in ("bf16", "fp16") if device.type == "cuda" else ("bf16",):
        try:
            seconds = _step_seconds(Precision(name, device), model)
        except RuntimeError as error:
            logger.info("precision: %s does not run here (%s)", name, str(error).splitlines()[0])
            continue
        if seconds < full:
            return Precision(name, device)
        logger.info("precision: %s runs here but is not faster than fp32", name)
    return Precision("fp32", device)


def _step_seconds(precision: Precision, model: ModelSettings) -> float:
    """Return the seconds that a forward and backward pass of one layer takes, the best of three."""
    if precision.name == "bf16" and precision.device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(precision.device)
        if major < 8:
            raise RuntimeError(f"bf16 needs compute capability 8.0, this GPU has {major}.{minor}")
    with torch.random.fork_rng([precision.device] if precision.device.type == "cuda" else []):
        stack = encoder(model.hidden, model.model_copy(update={"layers": 1}), image_size=(8, 8))
        stack = stack.to(precision.device)
        x = torch.randn(64, 16, model.hidden).to(precision.device)
    lengths = torch.full((16,), 64, device=precision.device)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        with precision.autocast():
            y, _ = stack(x, lengths, lengths)
        y.float().sum().backward()
        if precision.device.type == "cuda":
            torch.cuda.synchronize(precision.device)
        best = min(best, time.perf_counter() - start)
    return best
