"""Benchmark each recurrent cell on one CPU core, forward and backward, against its alternatives.

    python benchmarks/cells.py [--cells lstm gru ...] [--hidden 64 128 256 512] [--json FILE]

The network is one bidirectional layer of H hidden units over H input features, on batches of B rows
that are all T tokens long. For each shape and data type the implementations take turns; the table
shows medians over repeated passes:

  ms       time of this project's layer as a model runs it (the native loop, if a compiler exists)
  limit    achieved share of the arithmetic limit: the floating-point operations of the layer's
           matrix products per second, divided by the rate at which torch multiplies two
           1024 x 1024 matrices of the same type, measured before each shape
  loop     speedup over a plain loop over the tokens in torch operations
  torch    speedup over torch's own layer, if torch has one
  native   speedup over the C++ loop, in cases where a model runs torch's layer
  passes   grid_lstm only: its time divided by the summed time of its LSTM along time and its LSTM
           along depth, each run on its own

Shapes: T tokens, B rows, H hidden units.
"""

import argparse
import datetime
import itertools
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.machine import cpu_name, product_rate, time_in_turn  # noqa: E402
from pipeline import kernels  # noqa: E402
from pipeline.models.encoders.grid import GridSettings, GridStack  # noqa: E402
from pipeline.models.encoders.stack import Stack  # noqa: E402
from pipeline.models.layers.depth_lstm import DepthLSTM  # noqa: E402
from pipeline.models.layers.recurrent import Layer, LayerState  # noqa: E402
from pipeline.models.settings import EncoderSettings, model_settings  # noqa: E402
from pipeline.runtime.device import use_one_core  # noqa: E402

Implementations = dict[str, Callable[[], None]]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CPU = torch.device("cpu")
TORCH_CELLS = ("elman", "lstm", "gru")
"""Cells for which torch has a layer."""
STACKED = "stacked_lstm"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", choices=BUILDERS, default=list(BUILDERS))
    parser.add_argument("--types", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--hidden", nargs="+", type=int, default=[64, 128, 256, 512])
    parser.add_argument("--tokens", nargs="+", type=int, default=[50, 200, 800])
    parser.add_argument("--rows", nargs="+", type=int, default=[32, 64])
    parser.add_argument("--seconds", type=float, default=0.3, help="seconds per measurement [0.3]")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    args = parser.parse_args()
    use_one_core()
    native_loops = kernels.library().describe(torch.float32)
    print(f"One core of {cpu_name()}; {native_loops}; Python {platform.python_version()}, "
          f"torch {torch.__version__}; {datetime.date.today()}")  # fmt: skip
    results = []
    for cell, dtype_name in itertools.product(args.cells, args.types):
        print(f"\n### {cell}, {dtype_name}\n\n| T | B |", *(f"H {h} |" for h in args.hidden))
        print("|" + "---|" * (2 + len(args.hidden)))
        for tokens, rows in itertools.product(args.tokens, args.rows):
            print(f"| {tokens} | {rows} |", end="", flush=True)
            for hidden in args.hidden:
                result = measure(cell, dtype_name, tokens, rows, hidden, args.seconds)
                results.append(result)
                print(f" {format_result(result)} |", end="", flush=True)
            print()
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


def format_result(result: dict[str, Any]) -> str:
    """Format one measurement as the text of a table cell."""
    times, own = result["seconds"], result["seconds"]["own"]
    text = f"{1e3 * own:.1f} ms, {result['limit']:.0%}, loop {times['loop'] / own:.1f}x"
    for other in ("torch", "native"):
        if other in times:
            text += f", {other} {times[other] / own:.2f}x"
    if "passes" in times:
        text += f", passes {own / times['passes']:.2f}x"
    return text


def measure(
    cell: str, dtype_name: str, tokens: int, rows: int, hidden: int, seconds: float
) -> dict[str, Any]:
    """Time all implementations of a cell for one shape and data type."""
    torch.manual_seed(0)
    dtype = DTYPES[dtype_name]
    x = torch.randn(tokens, rows, hidden, dtype=dtype, requires_grad=True)  # [T, B, H]
    layers = 2 if cell == STACKED else 1
    settings = model_settings(
        cell="lstm" if cell == STACKED else cell, hidden=hidden, layers=layers
    )
    implementations, products = BUILDERS[cell](x, settings)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype_name == "bf16"):
        rate = product_rate(dtype, seconds / 3, CPU)
        medians = time_in_turn([*implementations.values()], seconds)
    times = dict(zip(implementations, medians, strict=True))
    # factor 3: forward, backward to the inputs and backward to the weights
    operations = 3 * 2 * tokens * rows * products
    return {
        "cell": cell, "type": dtype_name, "tokens": tokens, "rows": rows, "hidden": hidden,
        "seconds": times, "limit": operations / times["own"] / rate, "rate": rate,
    }  # fmt: skip


def build_layer(x: Tensor, settings: EncoderSettings) -> tuple[Implementations, int]:
    """Return the implementations of one layer, and its multiplications per token."""
    steps, rows, hidden = x.shape
    layer = Layer(hidden, settings, bidirectional=True)
    lengths = torch.full((rows,), steps)  # [B]
    dy = torch.randn(steps, rows, 2 * hidden)  # [T, B, 2*H]

    def run(native: bool, initial_state: LayerState | None = None) -> None:
        layer.native = native
        backward(layer(x, lengths, lengths, initial_state)[0], dy, [x, *layer.parameters()])

    def loop() -> None:
        zero = x.new_zeros(rows, hidden)
        y = [
            c.run_stepwise(x if d == 0 else x.flip(0), zero, zero)[0]
            for d, c in enumerate(layer.cells)
        ]
        backward(torch.cat([y[0], y[1].flip(0)], -1), dy, [x, *layer.parameters()])

    implementations = {"own": lambda: run(True), "loop": loop}
    if settings.cell in TORCH_CELLS:
        implementations["torch"] = lambda: run(False)
    if not kernels.should_use(settings.cell, x.device, x.dtype):
        zero = torch.zeros(2, rows, hidden)  # an initial state forces the native loop
        implementations["native"] = lambda: run(True, LayerState(zero, zero))
    return implementations, 2 * layer.cells[0].gates * hidden * (hidden + hidden)


def build_stack(x: Tensor, settings: EncoderSettings) -> tuple[Implementations, int]:
    """Return the implementations of two bidirectional LSTM layers, and their multiplications.

    The second layer reads both directions of the first.
    """
    steps, rows, hidden = x.shape
    stack = Stack(hidden, settings)
    lengths = torch.full((rows,), steps)  # [B]
    dy = torch.randn(steps, rows, 2 * hidden)  # [T, B, 2*H]
    layers = [layer for layer in stack.layers if isinstance(layer, Layer)]

    def run(native: bool) -> None:
        for layer in layers:
            layer.native = native
        backward(stack(x, lengths, lengths)[0], dy, [x, *stack.parameters()])

    def loop() -> None:
        zero, y = x.new_zeros(rows, hidden), x
        for layer in layers:
            inputs = [y, y.flip(0)]
            outputs = [c.run_stepwise(inputs[d], zero, zero)[0] for d, c in enumerate(layer.cells)]
            y = torch.cat([outputs[0], outputs[1].flip(0)], -1)
        backward(y, dy, [x, *stack.parameters()])

    products = 2 * 4 * hidden * (hidden + hidden + 2 * hidden + hidden)
    return {"own": lambda: run(True), "loop": loop, "torch": lambda: run(False)}, products


def build_grid(x: Tensor, settings: EncoderSettings) -> tuple[Implementations, int]:
    """Return the implementations of one bidirectional Grid-LSTM layer, and its multiplications."""
    steps, rows, hidden = x.shape
    stack = GridStack(hidden, cast(GridSettings, settings))
    time, depth = cast(Layer, stack.times[0]), cast(DepthLSTM, stack.depths[0])
    lengths = torch.full((rows,), steps)  # [B]
    dy = torch.randn(steps, rows, hidden)  # [T, B, H]
    dy_time = torch.cat([dy, dy], -1)  # [T, B, 2*H]

    def own() -> None:
        backward(stack(x, lengths, lengths)[0], dy, [x, *stack.parameters()])

    def passes() -> None:
        along, _ = time(x, lengths, lengths)
        backward(along, dy_time, [x, *time.parameters()])
        along = along.detach().requires_grad_()
        y, _ = depth(along, x, torch.zeros_like(x))
        backward(y, dy, [x, along, *depth.parameters()])

    def loop() -> None:
        """Run cell by cell: along time from each end, then along depth."""
        zero = x.new_zeros(rows, hidden)
        h = stack.project(x)
        states_per_direction: list[list[Tensor]] = []
        for d, cell in enumerate(time.cells):
            order = range(steps - 1, -1, -1) if d else range(steps)
            state, memory, states = zero.to(h), zero, {}
            wx = functional.linear(h, cell.input, cell.bias)
            for t in order:
                uh = functional.linear(state, cell.recurrent_weight())
                state, memory = cell.step(wx[t], uh, state, memory)
                states[t] = state
            states_per_direction.append([states[t] for t in range(steps)])
        (cell,), y = depth.layer.cells, []
        for t, along in enumerate(zip(*states_per_direction, strict=True)):
            wx = functional.linear(torch.cat(along, -1), cell.input, cell.bias)
            y.append(cell.step(wx, functional.linear(h[t], cell.recurrent_weight()), h[t], zero)[0])
        backward(torch.stack(y), dy, [x, *stack.parameters()])

    products = hidden * hidden + 2 * 4 * hidden * 2 * hidden + 4 * hidden * 3 * hidden
    return {"own": own, "loop": loop, "passes": passes}, products


def backward(y: Tensor, dy: Tensor, parameters: list[Tensor]) -> None:
    torch.autograd.grad(y, parameters, dy.to(y.dtype), allow_unused=True)


BUILDERS = dict.fromkeys(("elman", "lstm", "gru", "goru"), build_layer) | {
    "grid_lstm": build_grid,
    STACKED: build_stack,
}


if __name__ == "__main__":
    main()
