"""How fast recurrent layers are on one GPU, forward and backward, in every way there is of running
them.

    python benchmarks/gpu.py [--cells lstm gru goru] [--hidden 128 256 512] [--json FILE]

Two layers of H units in both directions over H features, T tokens, B rows of full length, in bf16
and fp16. Per shape, in turn, medians of repeated passes: tokens a second, and the share of the rate
at which the GPU multiplies two matrices of 8192 x 8192 in that type.

  turned   each layer and direction alone, over copies in which rows are reversed (this project's)
  packed   the whole stack at once over packed rows (nn.LSTM, nn.GRU)
  padded   the whole stack at once over padded rows, which is right only if all are equally long
  triton   the loop of pipeline/kernels/gpu.py (gru, goru)
  loop     token by token in torch's operations
  flashrnn the package of that name, as many passes, where it is installed (lstm); its loop alone,
           without the products of the inputs, so its share is of fewer operations

With --profile the kernels that cuDNN chose for a shape are named, too.
"""

import argparse
import datetime
import importlib.util
import itertools
import json
import platform
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.machine import product_rate  # noqa: E402
from pipeline.kernels import loops  # noqa: E402
from pipeline.models.cells import CELLS  # noqa: E402
from pipeline.models.encoder import encoder  # noqa: E402
from pipeline.models.settings import ModelSettings  # noqa: E402

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
OWN_STACK = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
LAYERS = 2
DEVICE = torch.device("cuda")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=["lstm", "gru", "goru"])
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES))
    parser.add_argument("--hidden", nargs="+", type=int, default=[128, 256, 512, 1024])
    parser.add_argument("--tokens", nargs="+", type=int, default=[200, 400])
    parser.add_argument("--rows", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(1, "no GPU is at hand: benchmarks/cells.py measures a CPU\n")
    print(f"{torch.cuda.get_device_name()}; cuDNN {torch.backends.cudnn.version()}, "
          f"Python {platform.python_version()}, torch {torch.__version__}; "
          f"{datetime.date.today()}\n")  # fmt: skip
    print("| cell | type | H | T | B | million tokens/s (share of the rate) |\n" + "|---" * 6 + "|")
    found = []
    shapes = itertools.product(args.cells, args.types, args.hidden, args.tokens, args.rows)
    for cell, name, hidden, tokens, rows in shapes:
        rate = product_rate(TYPES[name])
        ways = contenders(cell, TYPES[name], hidden, tokens, rows)
        # forward, and backward to the inputs and to the weights, of two directions; the first layer
        # reads H features and the second 2 H
        gates = CELLS[cell].gates
        operations = 3 * 2 * 2 * gates * hidden * (2 * hidden + 3 * hidden)
        told = []
        for way, run in ways.items():
            try:
                seconds = timed(run)
            except Exception as error:  # the others are worth measuring all the same
                told.append(f"{way} failed: {str(error).splitlines()[0]}")
                continue
            speed = tokens * rows / seconds
            share = operations * (2 / 5 if way == "flashrnn" else 1) * speed / rate
            found.append({"cell": cell, "type": name, "hidden": hidden, "tokens": tokens,
                          "rows": rows, "way": way, "seconds": seconds, "rate": rate})  # fmt: skip
            told.append(f"{way} {speed / 1e6:.2f} ({share:.1%})")
            if args.profile:
                print(f"{cell} {name} {hidden} {tokens} {rows} {way}:\n{profile(run)}",
                      file=sys.stderr)  # fmt: skip
        print(f"| {cell} | {name} | {hidden} | {tokens} | {rows} | {', '.join(told)} |", flush=True)
        if args.json:
            args.json.write_text(json.dumps(found, indent=1) + "\n")


def contenders(
    cell: str, dtype: torch.dtype, hidden: int, tokens: int, rows: int
) -> dict[str, Callable[[], None]]:
    torch.manual_seed(0)
    settings = ModelSettings(cell=cell, hidden=hidden, layers=LAYERS)
    stack = encoder(hidden, settings).to(DEVICE)
    x = torch.randn(tokens, rows, hidden, device=DEVICE, requires_grad=True)
    lengths = torch.full((rows,), tokens, device=DEVICE)
    dy = torch.randn(tokens, rows, 2 * hidden, device=DEVICE)

    def backward(y: Tensor, parameters: list[Tensor]) -> None:
        torch.autograd.grad(y, parameters, dy.to(y.dtype), allow_unused=True)

    def ours(native: bool, on_a_gpu: tuple[str, ...]) -> Callable[[], None]:
        def run() -> None:
            loops.TRITON_CELLS = on_a_gpu
            for layer in stack.layers:
                layer.native = native
            with torch.autocast(DEVICE.type, dtype):
                y, _ = stack(x, lengths, lengths)
            backward(y, [x, *stack.parameters()])

        return run

    ways = {"turned" if cell in OWN_STACK else "loop": ours(False, ())}
    if cell in ("gru", "goru"):
        ways["triton"] = ours(True, (cell,))
    if cell not in OWN_STACK:
        return ways
    own = OWN_STACK[cell](hidden, hidden, LAYERS, bidirectional=True).to(DEVICE)

    ends = lengths.cpu()

    def padded() -> None:
        with torch.autocast(DEVICE.type, dtype):
            y, _ = own(x)
        backward(y, [x, *own.parameters()])

    def packed() -> None:
        with torch.autocast(DEVICE.type, dtype):
            y, _ = own(pack_padded_sequence(x, ends))
        torch.autograd.grad(y.data, [x, *own.parameters()], dy.to(y.data.dtype).flatten(0, 1))

    ways |= {"packed": packed, "padded": padded}
    if cell == "lstm" and importlib.util.find_spec("flashrnn"):
        ways["flashrnn"] = flashrnn(dtype, hidden, tokens, rows)
    return ways


def flashrnn(dtype: torch.dtype, hidden: int, tokens: int, rows: int) -> Callable[[], None]:
    """Its loop alone, once a layer and direction, on what the input's product would be."""
    from flashrnn import flashrnn as scan

    options = {"device": DEVICE, "dtype": dtype}
    wx = torch.randn(rows, tokens, 4, 1, hidden, **options).requires_grad_()
    weights = (torch.randn(4, 1, hidden, hidden, **options) * hidden**-0.5).requires_grad_()
    bias = torch.zeros(4, 1, hidden, **options).requires_grad_()

    def run() -> None:
        for _ in range(2 * LAYERS):
            states, _ = scan(
                wx, weights, bias, function="lstm", dtype=str(dtype).removeprefix("torch.")
            )
            torch.autograd.grad(states[0].sum(), [wx, weights, bias])

    return run


def timed(run: Callable[[], Any], repeats: int = 7) -> float:
    """The median seconds of a run, after three to warm up."""
    for _ in range(3):
        run()
    found = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end) / 1e3)
    return statistics.median(found)


def profile(run: Callable[[], None]) -> str:
    """The five kernels that took most of a run."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
        run()
        torch.cuda.synchronize()
    return found.key_averages().table(sort_by="cuda_time_total", row_limit=5)


if __name__ == "__main__":
    main()
