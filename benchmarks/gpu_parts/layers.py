"""Measure recurrent layers on one GPU, forward and backward, with every implementation.

    python -m benchmarks.gpu_parts.layers [--cells lstm gru] [--hidden 128 256] [--json FILE]

The network is two bidirectional layers of H hidden units over H input features, on batches of B
rows that are all T tokens long, in bf16 and fp16. For each shape the table shows the tokens per
second of the median pass, and the achieved share of the rate at which the GPU multiplies two
8192 x 8192 matrices of the same type.

  reversed each layer and direction on its own; the backward direction reads reversed copies of the
           rows (this project's implementation)
  packed   the whole stack in one call over packed sequences (nn.LSTM, nn.GRU)
  padded   the whole stack in one call over padded rows; correct only if all rows have equal length
  triton   the loop in pipeline/kernels/gpu.py (gru, goru)
  loop     PyTorch operations, one time step at a time (goru)
  flashrnn the package of that name, if it is installed (lstm): its loop alone, once per layer and
           direction, without the input projections, so its share counts fewer operations

--profile also prints the slowest kernels of each implementation, among them those that cuDNN chose.

Shapes: T tokens, B rows, H hidden units.
"""

import argparse
import datetime
import importlib.util
import itertools
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from benchmarks.gpu_parts.timing import median_time, profile_kernels
from benchmarks.machine import device, product_rate
from pipeline import components
from pipeline.kernels import loops
from pipeline.models.encoder import encoder
from pipeline.models.encoders.stack import Stack
from pipeline.models.layers.recurrent import Layer
from pipeline.models.settings import model_settings

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
TORCH_STACKS = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
LAYERS = 2
DEVICE = device()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", default=["lstm", "gru", "goru"])
    parser.add_argument("--types", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--hidden", nargs="+", type=int, default=[128, 256, 512, 1024])
    parser.add_argument("--tokens", nargs="+", type=int, default=[200, 400])
    parser.add_argument("--rows", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("--profile", action="store_true", help="print the slowest kernels")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(1, "no GPU is available; use benchmarks/cells.py to measure a CPU\n")
    print(f"{torch.cuda.get_device_name()}; cuDNN {torch.backends.cudnn.version()}, "
          f"Python {platform.python_version()}, torch {torch.__version__}; "
          f"{datetime.date.today()}\n")  # fmt: skip
    print("| cell | type | H | T | B | million tokens/s (share of the rate) |\n" + "|---" * 6 + "|")
    measurements = []
    shapes = itertools.product(args.cells, args.types, args.hidden, args.tokens, args.rows)
    for cell, dtype_name, hidden, tokens, rows in shapes:
        rate = product_rate(DTYPES[dtype_name])
        implementations = build_implementations(cell, DTYPES[dtype_name], hidden, tokens, rows)
        operations = operations_per_token(cell, hidden)
        results = []
        for way, run in implementations.items():
            try:
                seconds = median_time(run, DEVICE)
            except Exception as error:  # keep measuring the other implementations
                results.append(f"{way} failed: {str(error).splitlines()[0]}")
                continue
            speed = tokens * rows / seconds
            share = operations * (2 / 5 if way == "flashrnn" else 1) * speed / rate
            measurements.append({"cell": cell, "type": dtype_name, "hidden": hidden,
                                 "tokens": tokens, "rows": rows, "way": way, "seconds": seconds,
                                 "rate": rate})  # fmt: skip
            results.append(f"{way} {speed / 1e6:.2f} ({share:.1%})")
            if args.profile:
                found = profile_kernels(run, DEVICE)
                print(f"{cell} {dtype_name} {hidden} {tokens} {rows} {way}: {found}",
                      file=sys.stderr)  # fmt: skip
        print(f"| {cell} | {dtype_name} | {hidden} | {tokens} | {rows} | {', '.join(results)} |",
              flush=True)  # fmt: skip
        if args.json:
            args.json.write_text(json.dumps(measurements, indent=1) + "\n")


def operations_per_token(cell: str, hidden: int) -> int:
    """Return the operations of the network's matrix products, forward and backward."""
    # forward, backward to the inputs and backward to the weights, in two directions; the first
    # layer reads H features and the second 2 H
    return 3 * 2 * 2 * components.load("cell", cell).gates * hidden * (2 * hidden + 3 * hidden)


def build_implementations(
    cell: str, dtype: torch.dtype, hidden: int, tokens: int, rows: int
) -> dict[str, Callable[[], None]]:
    """Return the implementations of a cell by name; each runs one forward and backward pass."""
    torch.manual_seed(0)
    settings = model_settings(cell=cell, hidden=hidden, layers=LAYERS)
    stack = encoder(hidden, settings).to(DEVICE)
    assert isinstance(stack, Stack)
    layers = [layer for layer in stack.layers if isinstance(layer, Layer)]
    x = torch.randn(tokens, rows, hidden, device=DEVICE, requires_grad=True)  # [T, B, H]
    lengths = torch.full((rows,), tokens, device=DEVICE)  # [B]
    dy = torch.randn(tokens, rows, 2 * hidden, device=DEVICE)  # [T, B, 2*H]
    kernel_settings: Any = loops

    def backward(y: Tensor, parameters: list[Tensor]) -> None:
        torch.autograd.grad(y, parameters, dy.to(y.dtype), allow_unused=True)

    def stack_pass(native: bool, triton_cells: tuple[str, ...]) -> Callable[[], None]:
        def run() -> None:
            kernel_settings.TRITON_CELLS = triton_cells
            for layer in layers:
                layer.native = native
            with torch.autocast(DEVICE.type, dtype):
                y, _ = stack(x, lengths, lengths)
            backward(y, [x, *stack.parameters()])

        return run

    implementations = {"reversed" if cell in TORCH_STACKS else "loop": stack_pass(False, ())}
    if cell in ("gru", "goru"):
        implementations["triton"] = stack_pass(True, (cell,))
    if cell not in TORCH_STACKS:
        return implementations
    torch_stack = TORCH_STACKS[cell](hidden, hidden, LAYERS, bidirectional=True).to(DEVICE)

    cpu_lengths = lengths.cpu()

    def padded() -> None:
        with torch.autocast(DEVICE.type, dtype):
            y, _ = torch_stack(x)
        backward(y, [x, *torch_stack.parameters()])

    def packed() -> None:
        with torch.autocast(DEVICE.type, dtype):
            y, _ = torch_stack(pack_padded_sequence(x, cpu_lengths))
        parameters = [x, *torch_stack.parameters()]
        torch.autograd.grad(y.data, parameters, dy.to(y.data.dtype).flatten(0, 1))

    implementations |= {"packed": packed, "padded": padded}
    if cell == "lstm" and importlib.util.find_spec("flashrnn"):
        implementations["flashrnn"] = flashrnn_loops(dtype, hidden, tokens, rows)
    return implementations


def flashrnn_loops(dtype: torch.dtype, hidden: int, tokens: int, rows: int) -> Callable[[], None]:
    """Run FlashRNN's loop once per layer and direction, on random input projections."""
    from flashrnn import flashrnn as scan

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, device=DEVICE, dtype=dtype)

    wx = randn(rows, tokens, 4, 1, hidden).requires_grad_()  # [B, T, 4 gates, 1 head, H]
    weights = (randn(4, 1, hidden, hidden) * hidden**-0.5).requires_grad_()
    bias = torch.zeros(4, 1, hidden, device=DEVICE, dtype=dtype).requires_grad_()

    def run() -> None:
        for _ in range(2 * LAYERS):
            states, _ = scan(
                wx, weights, bias, function="lstm", dtype=str(dtype).removeprefix("torch.")
            )
            torch.autograd.grad(states[0].sum(), [wx, weights, bias])

    return run


if __name__ == "__main__":
    main()
