"""Train cells on the problems of their papers, and say who solves what.

    python benchmarks/papers/run.py PROBLEM [key=value ...] [--cells lstm elman] [--seeds 0 1 2]

One process on one core, fp32. New sequences are drawn for every update; each `--every` updates
1,000 others are scored, and a run ends when they are solved, or after `--updates`. Overrides are
keys of the model section, such as hidden=128.
"""

import argparse
import datetime
import sys
import time
from pathlib import Path

import torch
import yaml
from problems import PROBLEMS, Problem, Sequences
from torch import Tensor, nn

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

from pipeline.models.encoder import encoder  # noqa: E402
from pipeline.models.settings import ModelSettings  # noqa: E402
from pipeline.train.distributed import use_one_core  # noqa: E402

LENGTHS = {"reber": 0, "adding": 100, "copying": 100, "denoising": 100, "addition": 4}


class Net(nn.Module):
    """A recurrent network with a linear layer at each step."""

    def __init__(self, problem: Problem, settings: ModelSettings) -> None:
        super().__init__()
        self.stack = encoder(problem.features, settings)
        self.head = nn.Linear(self.stack.outputs, problem.outputs)

    def forward(self, batch: Sequences) -> Tensor:
        return self.head(self.stack(batch.x, batch.lengths, torch.zeros_like(batch.lengths))[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problem", choices=PROBLEMS)
    parser.add_argument("--length", type=int, help="T, or the digits of an addition")
    parser.add_argument("--cells", nargs="+", default=["elman", "lstm", "gru", "goru"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--rows", type=int, default=64, help="sequences of an update [64]")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args()
    use_one_core()
    problem = PROBLEMS[args.problem](args.length or LENGTHS[args.problem])
    options = {k: yaml.safe_load(v) for k, v in (pair.split("=") for pair in args.overrides)}
    print(
        f"{args.problem}, T = {problem.length}: {problem.judged}. Published: {problem.published}."
    )
    print(
        f"{' '.join(['python', *sys.argv])}; torch {torch.__version__}, {datetime.date.today()}\n"
    )
    print("| cell | parameters | " + " | ".join(f"seed {seed}" for seed in args.seeds) + " |")
    print("|" + "---|" * (2 + len(args.seeds)))
    for cell in args.cells:
        settings = ModelSettings(**{"cell": cell, "layers": 1, "bidirectional": False, **options})
        size = sum(p.numel() for p in Net(problem, settings).parameters())
        told = " | ".join(train(problem, settings, args, seed) for seed in args.seeds)
        print(f"| {cell} | {size:,} | {told} |", flush=True)


def train(problem: Problem, settings: ModelSettings, args: argparse.Namespace, seed: int) -> str:
    """When the problem was solved, or the best score by the end."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    net = Net(problem, settings)
    optimiser = torch.optim.Adam(net.parameters(), lr=args.lr)
    begun, best = time.perf_counter(), float("inf")
    for update in range(1, args.updates + 1):
        batch = problem.draw(args.rows, generator)
        loss = problem.loss(net(batch), batch)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        if update % args.every == 0:
            with torch.no_grad():
                test = problem.draw(1000, generator)
                score = problem.score(net(test), test)
            best = min(best, score)
            seconds = time.perf_counter() - begun
            print(f"{settings.cell} seed {seed} update {update}: {score:.4f}", file=sys.stderr)
            if problem.solved(score):
                return f"solved in {update * args.rows:,} sequences, {seconds:.0f} s"
    return f"best {best:.3f} in {args.updates * args.rows:,}, {seconds:.0f} s"


if __name__ == "__main__":
    main()
