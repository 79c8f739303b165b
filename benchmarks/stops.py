"""Stop a run at random times by random signals, resume it, and compare its weights.

    python benchmarks/stops.py [--trials 100] [--seed 0] [--kill 0.2]

Each trial trains a small classifier on two processes until it is finished. Each attempt is stopped
at a random time: by SIGTERM, SIGINT, SIGHUP or SIGUSR1 to torchrun, to one worker or to all
processes at once, often repeatedly; the share --kill of them by SIGKILL to a random process. Every
phase is hit: imports, preparation, start, updates, saves, evaluations and the end. A trial counts
as lost if

  - a process is still there 25 s after the signal (40 s for a signal to one worker, after which
    torchrun itself waits for up to 30 s),
  - a signaled attempt does not have a checkpoint of its last logged step, or
  - the finished run has other weights than the undisturbed one.

Prints a line for each loss, and a table by the receiver of the signal.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
LABELS = ("good", "bad", "fair")
SETTINGS = [
    "corpus.validation=0.2", "corpus.vocab_size=300", "corpus.workers=1", "train.epochs=6",
    "train.log_every=1", "train.checkpoint_every=9", "train.evaluate_every=7",
    "stream.token_budget=600", "model.hidden=16", "model.embedding=16", "track.enabled=false",
    "train.precision=fp32",
]  # fmt: skip


def write_corpus(path: Path, rows: int = 600) -> None:
    """Write made-up texts with labels as JSON lines."""
    draw = random.Random(0)
    words = [f"w{n}" for n in range(200)]
    with path.open("w") as file:
        for n in range(rows):
            text = " ".join(draw.choices(words, k=draw.randint(5, 40)))
            file.write(json.dumps({"text": text, "label": LABELS[n % 3]}) + "\n")


def start(corpus: Path, folder: Path) -> subprocess.Popen[str]:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"),
        *("--local-addr=localhost", "--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGUSR1"),
        *("launch/train.py", "-q", f"corpus.input={corpus}", *SETTINGS),
        *(f"corpus.shards={folder}/shards", f"run.dir={folder}/run"),
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with (folder / "log").open("a") as log:
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log, text=True)


def disturb(process: subprocess.Popen[str], draw: random.Random, kill: float) -> str:
    """Send a random signal to random processes; return a description."""
    torchrun = psutil.Process(process.pid)
    workers = torchrun.children(recursive=True)
    receiver = draw.choice(["torchrun", "one worker", "all"])
    receivers = {
        "torchrun": [torchrun],
        "one worker": draw.sample(workers, 1) if workers else [torchrun],
        "all": [*workers, torchrun],
    }[receiver]
    is_kill = draw.random() < kill
    number = signal.SIGKILL if is_kill else draw.choice(SIGNALS)
    for _ in range(1 if is_kill else draw.choice([1, 1, 2, 3])):
        for one in receivers:
            try:
                one.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        time.sleep(draw.choice([0.0, 0.05, 0.5]))
    return f"{number.name} to {receiver}"


def end_of(process: subprocess.Popen[str], known: list[psutil.Process], limit: float) -> bool:
    """Return whether all processes end within `limit` seconds; kill those that remain."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(limit)
    _, alive = psutil.wait_procs(known, timeout=25)
    for one in alive:
        one.kill()
    return process.poll() is not None and not alive


def last_logged(run: Path) -> int:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def weights(run: Path) -> bytes:
    return (run / "checkpoints" / "latest" / "model.safetensors").read_bytes()


def trial(
    corpus: Path, folder: Path, draw: random.Random, seconds: float, kill: float
) -> tuple[Counter[str], list[str]]:
    """Train until the run is finished; return how often each signal was sent, and the losses."""
    sent: Counter[str] = Counter()
    losses: list[str] = []
    for _ in range(30):
        process = start(corpus, folder)
        try:
            process.wait(draw.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            known = psutil.Process(process.pid).children(recursive=True)
            what = disturb(process, draw, kill)
            sent[what] += 1
            limit = 40 if "one worker" in what else 25
            if not end_of(process, known, limit):
                losses.append(f"{what}: a process was still there after {limit} s")
            step = last_logged(folder / "run")
            saved = folder / "run" / "checkpoints" / f"step-{step:08d}"
            if "KILL" not in what and step and not saved.is_dir():
                losses.append(f"{what}: step {step} is not saved")
            continue
        if process.returncode == 0:
            return sent, losses
        losses.append(f"status {process.returncode} without a signal; see {folder}/log")
        break
    return sent, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kill", type=float, default=0.2, help="share of SIGKILL [0.2]")
    parser.add_argument("--out", type=Path, help="keep the folders of the trials here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        out = args.out or Path(name)
        out.mkdir(parents=True, exist_ok=True)
        corpus = out / "corpus.jsonl"
        write_corpus(corpus)
        reference = out / "reference"
        reference.mkdir()
        begin = time.perf_counter()
        status = start(corpus, reference).wait()
        if status:
            sys.exit(f"the undisturbed run failed; see {reference}/log")
        seconds, expected = time.perf_counter() - begin, weights(reference / "run")
        sent: Counter[str] = Counter()
        lost = 0
        for number in range(args.trials):
            folder = out / f"trial-{number}"
            folder.mkdir()
            draw = random.Random(f"{args.seed}-{number}")
            counts, losses = trial(corpus, folder, draw, seconds, args.kill)
            sent += counts
            if not losses and weights(folder / "run") != expected:
                losses.append("other weights than the undisturbed run")
            lost += bool(losses)
            for line in losses:
                print(f"trial {number}: {line}", flush=True)
        print("| signal | attempts |", "|---|---:|", sep="\n")
        print(*(f"| {what} | {count} |" for what, count in sorted(sent.items())), sep="\n")
        print(f"\n{args.trials - lost} of {args.trials} runs without a loss")
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
