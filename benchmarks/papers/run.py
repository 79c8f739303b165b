"""Train recurrent cells on the problems from their papers and report which ones they solve.

    python benchmarks/papers/run.py PROBLEM [key=value ...] [--cells elman lstm] [--seeds 0 1 2]

Runs in one process on one core, in fp32 with Adam. Each update trains on newly drawn sequences.
Every `--every` updates the network is scored on other sequences; a run ends when the problem is
solved or after `--updates` updates. Overrides set fields of ModelSettings, such as hidden=128.
"""

import argparse
import datetime
import statistics
import sys
import time
from pathlib import Path

import torch
import yaml
from torch import nn

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.papers.problems import PROBLEMS, Problem  # noqa: E402
from pipeline.models.settings import ModelSettings, model_settings  # noqa: E402
from pipeline.runtime.device import use_one_core  # noqa: E402

DEFAULT_LENGTHS = {
    "reber": 0,  # the grammar determines the lengths
    "adding": 100,  # the adding problem of the LSTM paper
    "copying": 100,
    "denoising": 100,
    "addition": 4,  # decimal addition, digit by digit
    "mnist": 28,
    "patches": 49,
}
"""The length T of each problem, as its class in problems.py defines it."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problem", choices=PROBLEMS)
    parser.add_argument(
        "--length",
        type=int,
        help="length T of the problem, usually its number of steps; for addition, the number of "
        "digits; see the docstrings in problems.py",
    )
    parser.add_argument("--cells", nargs="+", help="cells to train [all that the problem allows]")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--rows", type=int, default=64, help="sequences per update [64]")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--anneal", action="store_true", help="decay the learning rate to 0")
    parser.add_argument("--every", type=int, default=100, help="updates between scores [100]")
    parser.add_argument("--data", type=Path, default=Path("data"), help="parent of mnist/ [data]")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args()
    use_one_core()
    problem_type, length = PROBLEMS[args.problem], args.length or DEFAULT_LENGTHS[args.problem]
    for cell in args.cells or ():
        if cell not in problem_type.cells:
            parser.error(
                f"--cells {cell}: not available for {args.problem}; "
                f"use {', '.join(problem_type.cells)}"
            )
    if args.length is not None and length < problem_type.min_length:
        parser.error(
            f"--length {length}: too short for {args.problem}; "
            f"use {problem_type.min_length} or more"
        )
    problem = problem_type(length, args.data)
    pairs = (override.partition("=") for override in args.overrides)
    overrides = {key: yaml.safe_load(value) for key, _, value in pairs}
    if unknown := overrides.keys() - (ModelSettings.model_fields.keys() - {"cell"}):
        parser.error(
            f"{', '.join(unknown)}: not an overridable field of ModelSettings; "
            "use --cells to choose cells"
        )
    print(
        f"{args.problem}, T = {problem.length}: {problem.score_meaning}. "
        f"Published: {problem.published}."
    )
    print(
        f"{' '.join(['python', *sys.argv])}; torch {torch.__version__}, {datetime.date.today()}\n"
    )
    print("| cell | parameters | " + " | ".join(f"seed {seed}" for seed in args.seeds) + " |")
    print("|" + "---|" * (2 + len(args.seeds)))
    for cell in args.cells or problem_type.cells:
        settings = model_settings(
            **{"cell": cell, "layers": 1, "bidirectional": False, **overrides}
        )
        parameters = count_parameters(problem, settings)
        results = " | ".join(train(problem, settings, args, seed) for seed in args.seeds)
        print(f"| {cell} | {parameters:,} | {results} |", flush=True)


def count_parameters(problem: Problem, settings: ModelSettings) -> int:
    net = problem.net(settings)
    net(problem.draw(1, torch.Generator()))  # initializes lazy layers
    return sum(p.numel() for p in net.parameters())


def train(problem: Problem, settings: ModelSettings, args: argparse.Namespace, seed: int) -> str:
    """Train a network and return its table cell: after how many sequences it solved the problem, or
    else its last and best score."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    net = problem.net(settings)
    net(problem.draw(1, generator))  # initializes lazy layers
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    begin, scores = time.perf_counter(), []
    for update in range(1, args.updates + 1):
        batch = problem.draw(args.rows, generator)
        loss = problem.loss(net(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        if args.anneal:
            optimizer.param_groups[0]["lr"] = args.lr * (1 - (update - 1) / args.updates)
        optimizer.step()
        if update % args.every == 0 or update == args.updates:
            scores.append(mean_score(problem, net, generator))
            seconds = time.perf_counter() - begin
            print(f"{settings.cell} seed {seed} update {update}: {scores[-1]:.4f}, {seconds:.0f} s",
                  file=sys.stderr)  # fmt: skip
            if problem.solved(scores[-1]):
                return f"solved in {update * args.rows:,} sequences, {seconds:.0f} s"
    return (
        f"{scores[-1]:.4f} (best {min(scores):.4f}) after {update * args.rows:,} sequences, "
        f"{seconds:.0f} s"
    )


@torch.no_grad()
def mean_score(problem: Problem, net: nn.Module, generator: torch.Generator) -> float:
    """Return the mean score over the problem's test batches; lower is better."""
    batches = problem.test_batches(generator)
    return statistics.mean(problem.score(net(batch), batch) for batch in batches)


if __name__ == "__main__":
    main()
