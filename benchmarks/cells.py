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
"""

import argparse
import datetime
import itertools
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from pipeline import kernels  # noqa: E402
from pipeline.models.cells import CELLS  # noqa: E402
from pipeline.models.recurrent import Layer  # noqa: E402
from pipeline.models.settings import ModelSettings  # noqa: E402
from pipeline.train.distributed import use_one_core  # noqa: E402

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
OWN_LAYER = ("elman", "lstm", "gru")
"""Cells that torch has a layer of."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES))
    parser.add_argument("--hidden", nargs="+", type=int, default=[64, 128, 256, 512])
    parser.add_argument("--tokens", nargs="+", type=int, default=[50, 200, 800])
    parser.add_argument("--rows", nargs="+", type=int, default=[32, 64])
    parser.add_argument("--seconds", type=float, default=0.3, help="time a measurement takes [0.3]")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    use_one_core()
    loops = kernels.library().described(torch.float32)
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
    text = f"{1e3 * figures['seconds']:.1f} ms, {figures['limit']:.0%}"
    text += f", loop {figures['loop'] / figures['seconds']:.1f}x"
    if figures["torch"]:
        text += f", torch {figures['torch'] / figures['seconds']:.2f}x"
    return text


def measure(
    cell: str, name: str, tokens: int, rows: int, hidden: int, seconds: float
) -> dict[str, Any]:
    torch.manual_seed(0)
    layer = Layer(hidden, ModelSettings(cell=cell, hidden=hidden))
    x = torch.randn(tokens, rows, hidden, dtype=TYPES[name], requires_grad=True)
    lengths = torch.full((rows,), tokens)
    dy = torch.randn(tokens, rows, 2 * hidden).to(TYPES[name])
    parameters = [x, *layer.parameters()]

    def own() -> None:
        layer.native = True
        backward(layer(x, lengths, lengths)[0])

    def by_layer() -> None:
        layer.native = False
        backward(layer(x, lengths, lengths)[0])

    def by_loop() -> None:
        zero = x.new_zeros(rows, hidden)
        y = [c.loop(x if d == 0 else x.flip(0), zero, zero)[0] for d, c in enumerate(layer.cells)]
        backward(torch.cat([y[0], y[1].flip(0)], -1))

    def backward(y: Tensor) -> None:
        torch.autograd.grad(y, parameters, dy.to(y.dtype), allow_unused=True)

    with torch.autocast("cpu", torch.bfloat16, enabled=name == "bf16"):
        rate = product_rate(TYPES[name], seconds)
        contenders = [own, by_loop] + [by_layer] * (cell in OWN_LAYER)
        times = in_turn(contenders, seconds)
    gates = CELLS[cell].gates
    # forward, and backward to the inputs and to the weights, of both products and directions
    operations = 3 * 2 * 2 * tokens * rows * gates * hidden * (hidden + hidden)
    return {
        "cell": cell, "type": name, "tokens": tokens, "rows": rows, "hidden": hidden,
        "seconds": times[0], "loop": times[1], "torch": times[2] if len(times) > 2 else None,
        "limit": operations / times[0] / rate, "rate": rate,
    }  # fmt: skip


def in_turn(contenders: list[Callable[[], None]], seconds: float) -> list[float]:
    """The median time of each; each is run at least three times, after one to warm up."""
    times: list[list[float]] = [[] for _ in contenders]
    for run in contenders:
        run()
    begun = time.perf_counter()
    while len(times[0]) < 3 or time.perf_counter() - begun < seconds * len(contenders):
        for run, found in zip(contenders, times, strict=True):
            start = time.perf_counter()
            run()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


def product_rate(dtype: torch.dtype, seconds: float) -> float:
    """Floating-point operations a second of a product of square matrices."""
    a, b = (torch.randn(1024, 1024).to(dtype) for _ in range(2))
    (median,) = in_turn([lambda: torch.mm(a, b)], seconds / 3)
    return 2 * 1024**3 / median


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))


if __name__ == "__main__":
    main()
