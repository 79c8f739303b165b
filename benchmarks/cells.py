"""How fast each recurrent cell is on one CPU core, forward and backward, beside its alternatives.

    python benchmarks/cells.py [--cells lstm gru ...] [--hidden 64 128 256 512] [--json FILE]

One layer of H units in both directions over H features, T tokens, B rows of full length. Per shape
and type, in turn, medians of repeated passes:

  ms       this project's layer, as a model runs it (the native loop, where there is a compiler)
  limit    the share of the arithmetic limit that it reaches: the floating-point operations of its
           matrix products, over the rate at which torch multiplies two matrices of 1024 x 1024
           in the same type, measured before each shape
  loop     how many times as fast as the plain loop over the tokens in torch's operations
  torch    how many times as fast as torch's own layer, where it has one
  native   how many times as fast as the loop in C++, where a model runs torch's layer
  passes   grid_lstm: its time over the sum of its LSTMs' alone, one along time, one along depth
"""

import argparse
import datetime
import itertools
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.machine import cpu, in_turn, product_rate  # noqa: E402
from pipeline import kernels  # noqa: E402
from pipeline.models.cells import CELLS  # noqa: E402
from pipeline.models.layers.grid import GridStack  # noqa: E402
from pipeline.models.layers.recurrent import Layer, LayerState, Stack  # noqa: E402
from pipeline.models.settings import ModelSettings  # noqa: E402
from pipeline.runtime.process_group import use_one_core  # noqa: E402

Contenders = dict[str, Callable[[], None]]
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CPU = torch.device("cpu")
OWN_LAYER = ("elman", "lstm", "gru")
"""Cells that torch has a layer of."""
STACKED = "stacked_lstm"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES))
    parser.add_argument("--hidden", nargs="+", type=int, default=[64, 128, 256, 512])
    parser.add_argument("--tokens", nargs="+", type=int, default=[50, 200, 800])
    parser.add_argument("--rows", nargs="+", type=int, default=[32, 64])
    parser.add_argument("--seconds", type=float, default=0.3, help="time a measurement takes [0.3]")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    use_one_core()
    loops = kernels.library().describe(torch.float32)
    print(f"One core of {cpu()}; {loops}; Python {platform.python_version()}, "
          f"torch {torch.__version__}; {datetime.date.today()}")  # fmt: skip
    found = []
    for cell, name in itertools.product(args.cells, args.types):
        print(f"\n### {cell}, {name}\n\n| T | B |", *(f"H {h} |" for h in args.hidden))
        print("|" + "---|" * (2 + len(args.hidden)))
        for tokens, rows in itertools.product(args.tokens, args.rows):
            print(f"| {tokens} | {rows} |", end="", flush=True)
            for hidden in args.hidden:
                figures = measure(cell, name, tokens, rows, hidden, args.seconds)
                found.append(figures)
                print(f" {cell_text(figures)} |", end="", flush=True)
            print()
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


def cell_text(figures: dict[str, Any]) -> str:
    times, own = figures["seconds"], figures["seconds"]["own"]
    text = f"{1e3 * own:.1f} ms, {figures['limit']:.0%}, loop {times['loop'] / own:.1f}x"
    for other in ("torch", "native"):
        if other in times:
            text += f", {other} {times[other] / own:.2f}x"
    if "passes" in times:
        text += f", passes {own / times['passes']:.2f}x"
    return text


def measure(
    cell: str, name: str, tokens: int, rows: int, hidden: int, seconds: float
) -> dict[str, Any]:
    torch.manual_seed(0)
    x = torch.randn(tokens, rows, hidden, dtype=TYPES[name], requires_grad=True)
    layers = 2 if cell == STACKED else 1
    settings = ModelSettings(cell="lstm" if cell == STACKED else cell, hidden=hidden, layers=layers)
    contenders, products = MEASURES[cell](x, settings)
    with torch.autocast("cpu", torch.bfloat16, enabled=name == "bf16"):
        rate = product_rate(TYPES[name], seconds / 3, CPU)
        times = dict(zip(contenders, in_turn([*contenders.values()], seconds), strict=True))
    # forward, and backward to the inputs and to the weights
    operations = 3 * 2 * tokens * rows * products
    return {
        "cell": cell, "type": name, "tokens": tokens, "rows": rows, "hidden": hidden,
        "seconds": times, "limit": operations / times["own"] / rate, "rate": rate,
    }  # fmt: skip


def layer(x: Tensor, settings: ModelSettings) -> tuple[Contenders, int]:
    """A layer of a cell, and the multiplications of a token."""
    steps, rows, units = x.shape
    layer = Layer(units, settings)
    lengths = torch.full((rows,), steps)
    dy = torch.randn(steps, rows, 2 * units)

    def run(native: bool, carried: LayerState | None = None) -> None:
        layer.native = native
        backward(layer(x, lengths, lengths, carried)[0], dy, [x, *layer.parameters()])

    def loop() -> None:
        zero = x.new_zeros(rows, units)
        y = [c.loop(x if d == 0 else x.flip(0), zero, zero)[0] for d, c in enumerate(layer.cells)]
        backward(torch.cat([y[0], y[1].flip(0)], -1), dy, [x, *layer.parameters()])

    found = {"own": lambda: run(True), "loop": loop}
    if settings.cell in OWN_LAYER:
        found["torch"] = lambda: run(False)
    if not kernels.should_use(settings.cell, x.device, x.dtype):
        zero = torch.zeros(2, rows, units)
        found["native"] = lambda: run(True, LayerState(zero, zero))  # what is carried on always is
    return found, 2 * layer.cells[0].gates * units * (units + units)


def stacked(x: Tensor, settings: ModelSettings) -> tuple[Contenders, int]:
    """Two bidirectional layers of LSTM, the second of which reads both directions."""
    steps, rows, units = x.shape
    stack = Stack(units, settings)
    lengths = torch.full((rows,), steps)
    dy = torch.randn(steps, rows, 2 * units)
    layers = [layer for layer in stack.layers if isinstance(layer, Layer)]

    def run(native: bool) -> None:
        for layer in layers:
            layer.native = native
        backward(stack(x, lengths, lengths)[0], dy, [x, *stack.parameters()])

    def loop() -> None:
        zero, y = x.new_zeros(rows, units), x
        for layer in layers:
            turned = [y, y.flip(0)]
            both = [c.loop(turned[d], zero, zero)[0] for d, c in enumerate(layer.cells)]
            y = torch.cat([both[0], both[1].flip(0)], -1)
        backward(y, dy, [x, *stack.parameters()])

    products = 2 * 4 * units * (units + units + 2 * units + units)
    return {"own": lambda: run(True), "loop": loop, "torch": lambda: run(False)}, products


def grid(x: Tensor, settings: ModelSettings) -> tuple[Contenders, int]:
    """A layer of the grid, with both directions of time."""
    steps, rows, units = x.shape
    stack = GridStack(units, settings)
    (time,), (depth,) = stack.times, stack.depths
    lengths = torch.full((rows,), steps)
    dy = torch.randn(steps, rows, units)
    both = torch.cat([dy, dy], -1)

    def own() -> None:
        backward(stack(x, lengths, lengths)[0], dy, [x, *stack.parameters()])

    def passes() -> None:
        along, _ = time(x, lengths, lengths)
        backward(along, both, [x, *time.parameters()])
        along = along.detach().requires_grad_()
        y, _ = depth(along, x, torch.zeros_like(x))
        backward(y, dy, [x, along, *depth.parameters()])

    def loop() -> None:
        """Cell by cell: from each end along time, then along depth."""
        zero = x.new_zeros(rows, units)
        h = stack.project(x)
        reached: list[list[Tensor]] = []
        for d, cell in enumerate(time.cells):
            order = range(steps - 1, -1, -1) if d else range(steps)
            state, memory, states = zero.to(h), zero, {}
            wx = functional.linear(h, cell.input, cell.bias)
            for t in order:
                uh = functional.linear(state, cell.recurrent())
                state, memory = cell.step(wx[t], uh, state, memory)
                states[t] = state
            reached.append([states[t] for t in range(steps)])
        (cell,), y = depth.layer.cells, []
        for t, along in enumerate(zip(*reached, strict=True)):
            wx = functional.linear(torch.cat(along, -1), cell.input, cell.bias)
            y.append(cell.step(wx, functional.linear(h[t], cell.recurrent()), h[t], zero)[0])
        backward(torch.stack(y), dy, [x, *stack.parameters()])

    products = units * units + 2 * 4 * units * 2 * units + 4 * units * 3 * units
    return {"own": own, "loop": loop, "passes": passes}, products


def backward(y: Tensor, dy: Tensor, parameters: list[Tensor]) -> None:
    torch.autograd.grad(y, parameters, dy.to(y.dtype), allow_unused=True)


MEASURES = dict.fromkeys(CELLS, layer) | {"grid_lstm": grid, STACKED: stacked}


if __name__ == "__main__":
    main()
