"""Draw docs/architecture.svg: the rooms of the package and the four paths through them.

    python docs/draw_architecture.py

The rooms and their order come from the import contract in pyproject.toml; every room must have a
place in the drawing, so that it cannot fall behind the code.
"""

import itertools
import tomllib
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).parents[1]
INK, EDGE, FILL = "#222222", "#9aa7b4", "#f3f6f9"

ROOMS = {
    "cli": "commands, options, exit status",
    "export": "ONNX folders",
    "inference": "a trained run applied to raw input",
    "train": "trainer, checkpointer, session",
    "config": "YAML and overrides to one Config",
    "tracking": "metrics.jsonl, console, MLflow",
    "report": "report.html from a run folder",
    "evaluation": "metrics over a split, on all ranks",
    "run": "run folder, checkpoint format",
    "runtime": "ranks, precision, logging",
    "optim": "optimizer, schedule, EMA",
    "tasks": "fields, model, loss, metrics",
    "stream": "shards to batches",
    "inspection": "what files hold, a config for them",
    "corpus": "raw files to shards",
    "models": "tensors to tensors",
    "kernels": "C++ and Triton time loops",
    "storage": "bytes by name, atomic writes",
    "components": "classes that a config names",
    "settings": "base of all settings",
    "errors": "user-fixable errors",
    "wording": "helpers for messages",
}
"""Each room of pipeline/ with its content."""

PATHS = {
    "a row": ("#d9822b", ["corpus", "storage"]),
    "a batch": ("#2f7d4f", ["storage", "stream", "train", "tasks", "models", "kernels"]),
    "a setting": ("#7a4ea3", ["cli", "config", "train", "optim"]),
    "a checkpoint": ("#2b6ca3", ["train", "run", "storage"]),
}
"""The rooms that each of the four paths enters, in order, with its color."""

WIDTH, HEIGHT, GAP = 3.05, 0.78, 0.34


def rooms_of_contract() -> list[str]:
    """Return the rooms in the order of the import contract, the highest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    return [layer.removeprefix("pipeline.") for layer in layers]


def draw() -> Figure:
    rooms = rooms_of_contract()
    assert rooms == list(ROOMS), f"the drawing has {list(ROOMS)}, the contract {rooms}"
    figure = Figure((9.2, 9.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    step = HEIGHT + GAP
    heights = {name: -row * step for row, name in enumerate(rooms)}
    for name, y in heights.items():
        box = FancyBboxPatch(
            (0, y), WIDTH, HEIGHT, "round,pad=0.02,rounding_size=0.1", facecolor=FILL,
            edgecolor=EDGE,
        )  # fmt: skip
        axes.add_patch(box)
        axes.text(0.12, y + 0.52, name, size=11, weight="bold", color=INK, va="center")
        axes.text(0.12, y + 0.18, ROOMS[name], size=8, color=INK, va="center")
    for lane, (path, (color, entered)) in enumerate(PATHS.items()):
        x = WIDTH + 0.9 + lane * 1.25
        axes.text(x, HEIGHT + 0.5, path, size=10, weight="bold", color=color, ha="center")
        for number, room in enumerate(entered, 1):
            y = heights[room] + HEIGHT / 2
            axes.plot([WIDTH + 0.05, x], [y, y], color=color, alpha=0.25, linewidth=1)
            axes.plot([x], [y], "o", color=color, markersize=17)
            axes.text(x, y, str(number), color="white", size=9, ha="center", va="center")
        for a, b in itertools.pairwise(entered):
            start, end = heights[a] + HEIGHT / 2, heights[b] + HEIGHT / 2
            sign = 1 if end > start else -1
            axes.annotate(
                "", (x, end - sign * 0.24), (x, start + sign * 0.24),
                arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 1.6,
                            "connectionstyle": "arc3,rad=-0.28"},
            )  # fmt: skip
    axes.annotate(
        "", (-0.45, heights[rooms[-1]]), (-0.45, HEIGHT),
        arrowprops={"arrowstyle": "-|>", "color": EDGE, "linewidth": 1.5},
    )  # fmt: skip
    axes.text(-0.62, heights["run"], "imports", rotation=90, color=INK, size=9, va="center")
    axes.set_xlim(-0.9, WIDTH + 0.9 + 4 * 1.25)
    axes.set_ylim(heights[rooms[-1]] - 0.3, HEIGHT + 0.9)
    return figure


def main() -> None:
    mpl.rcParams["svg.hashsalt"] = "headrace"  # the same drawing has the same bytes
    draw().savefig(ROOT / "docs" / "architecture.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
