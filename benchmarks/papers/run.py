"""Train cells on the problems of their papers, and say who solves what.

    python benchmarks/papers/run.py PROBLEM [key=value ...] [--cells elman lstm] [--seeds 0 1 2]

One process on one core, fp32, Adam. New sequences are drawn for every update; each `--every`
updates others are scored, and a run ends when they are solved, or after `--updates`. Overrides are
keys of the model section, such as hidden=128.
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

from problems import PROBLEMS, Problem  # noqa: E402

from pipeline.models.settings import ModelSettings  # noqa: E402
from pipeline.runtime.process_group import use_one_core  # noqa: E402

LENGTHS = {
    "reber": 0, "adding": 100, "copying": 100, "denoising": 100, "addition": 4, "mnist": 28,
    "patches": 49,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problem", choices=PROBLEMS)
    parser.add_argument("--length", type=int, help="T, or the digits of an addition")
    parser.add_argument("--cells", nargs="+", help="[all that the problem can be given to]")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--rows", type=int, default=64, help="sequences of an update [64]")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--anneal", action="store_true", help="let the rate fall to 0 by the end")
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--data", type=Path, default=Path("data"), help="where mnist/ lies [data]")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args()
    use_one_core()
    kind, length = PROBLEMS[args.problem], args.length or LENGTHS[args.problem]
    for cell in args.cells or ():
        if cell not in kind.cells:
            parser.error(f"--cells {cell}: {args.problem} is tried by {', '.join(kind.cells)}")
    if args.length is not None and length < kind.shortest:
        parser.error(f"--length {length}: {args.problem} wants at least {kind.shortest}")
    problem = kind(length, args.data)
    options = {k: yaml.safe_load(v) for k, _, v in (o.partition("=") for o in args.overrides)}
    if unknown := options.keys() - (ModelSettings.model_fields.keys() - {"cell"}):
        parser.error(
            f"{', '.join(unknown)}: no key of the model section, or cell, for which there "
            "is --cells"
        )
    print(
        f"{args.problem}, T = {problem.length}: {problem.judged}. Published: {problem.published}."
    )
    print(
        f"{' '.join(['python', *sys.argv])}; torch {torch.__version__}, {datetime.date.today()}\n"
    )
    print("| cell | parameters | " + " | ".join(f"seed {seed}" for seed in args.seeds) + " |")
    print("|" + "---|" * (2 + len(args.seeds)))
    for cell in args.cells or kind.cells:
        settings = ModelSettings(**{"cell": cell, "layers": 1, "bidirectional": False, **options})
        size = parameters(problem, settings)
        told = " | ".join(train(problem, settings, args, seed) for seed in args.seeds)
        print(f"| {cell} | {size:,} | {told} |", flush=True)


def parameters(problem: Problem, settings: ModelSettings) -> int:
    net = problem.net(settings)
    net(problem.draw(1, torch.Generator()))  # layers that learn their width from the first batch
    return sum(p.numel() for p in net.parameters())


def train(problem: Problem, settings: ModelSettings, args: argparse.Namespace, seed: int) -> str:
    """When the problem was solved, or how far it came."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    net = problem.net(settings)
    net(problem.draw(1, generator))
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    begun, scores = time.perf_counter(), []
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
            scores.append(judge(problem, net, generator))
            seconds = time.perf_counter() - begun
            print(f"{settings.cell} seed {seed} update {update}: {scores[-1]:.4f}, {seconds:.0f} s",
                  file=sys.stderr)  # fmt: skip
            if problem.solved(scores[-1]):
                return f"solved in {update * args.rows:,}, {seconds:.0f} s"
    return (
        f"{scores[-1]:.4f} (best {min(scores):.4f}) after {update * args.rows:,}, {seconds:.0f} s"
    )


@torch.no_grad()
def judge(problem: Problem, net: nn.Module, generator: torch.Generator) -> float:
    return statistics.mean(problem.score(net(test), test) for test in problem.unseen(generator))


if __name__ == "__main__":
    main()
