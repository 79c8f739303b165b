"""Check and measure Headrace on a GPU, in calls of at most nine minutes, the most valuable first.

    python benchmarks/gpu.py correct --out DIR     # results match a CPU's
    python benchmarks/gpu.py fast --out DIR        # speed, memory, kernels
    python benchmarks/gpu.py good --out DIR --data FOLDER    # trained models
    python benchmarks/gpu.py report DIR            # tables of what was measured

Each step runs in its own process with a time limit, and its result is written at once. A part that
is called again continues with the steps that have no result. No network is needed, and data only
for the part good (benchmarks/gpu_parts/good.py). Without a GPU, --rehearse runs every step on the
CPU with smaller shapes.
"""

import argparse
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

import torch  # noqa: E402

from benchmarks.gpu_parts import correct, fast, good, report, steps  # noqa: E402
from pipeline.runtime.device import disable_tf32  # noqa: E402

PARTS = {"correct": correct.STEPS, "fast": fast.STEPS, "good": good.STEPS}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=[*PARTS, "report"])
    parser.add_argument("folder", nargs="?", type=Path, help="folder of results, for the report")
    parser.add_argument("--out", type=Path, help="folder of results")
    parser.add_argument("--data", type=Path, help="folder of the named files that good reads")
    parser.add_argument("--step", help="run this step alone, in this process")
    parser.add_argument(
        "--seconds", type=float, help="time after which this step stops by itself, if it can"
    )
    parser.add_argument("--rehearse", action="store_true", help="use the CPU if there is no GPU")
    parser.add_argument(
        "--limit-scale", type=float, default=1.0, help="factor of all time limits [1]"
    )
    args = parser.parse_args()
    out = args.out or args.folder
    if out is None:
        parser.error("--out: missing; pass a folder for the results")
    if args.part == "report":
        print(report.report(out, PARTS))
        return
    if torch.cuda.is_available():
        if (out / "rehearsal").exists():
            parser.error(f"--out={out}: contains the results of a rehearsal; choose another folder")
        device = torch.device("cuda", 0)
        disable_tf32()
    elif args.rehearse or (out / "rehearsal").exists():
        device = torch.device("cpu")
        out.mkdir(parents=True, exist_ok=True)
        (out / "rehearsal").touch()  # the steps' own processes are rehearsals too
    else:
        parser.error("no GPU is available; --rehearse runs the steps on the CPU")
    data = args.data.resolve() if args.data else None
    if not args.step:
        results = steps.run_part(
            args.part, PARTS[args.part], out, limit_scale=args.limit_scale, data=data
        )
        sys.exit(0 if all(result.passed for result in results) else 1)
    folder = out.resolve() / args.part
    folder.mkdir(parents=True, exist_ok=True)
    by_name = {step.name: step for step in PARTS[args.part]}
    if args.step not in by_name:
        parser.error(f"--step {args.step}: not a step of {args.part}; use {', '.join(by_name)}")
    step = by_name[args.step]
    kept = folder / f"{step.name}.kept"
    machine = steps.Machine(device, folder, data, args.seconds or step.seconds, kept)
    result = steps.run_step(step, machine, folder / f"{step.name}.json")
    print(result.error or result.measurements)
    sys.exit(steps.RESULT_IS_WRITTEN)


if __name__ == "__main__":
    main()
