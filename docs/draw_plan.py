"""Draw docs/plan.svg: the batch plan of a small synthetic corpus, from blocks to updates.

python docs/draw_plan.py
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.stream.index import Block
from pipeline.stream.plan import Plan, PlanSource
from pipeline.stream.settings import StreamSettings

LANES, WINDOW_BLOCKS, BLOCKS, ROWS = 4, 3, 24, 6
"""Lanes, blocks per lane in a window, blocks of the corpus, rows per block."""
RANK_COLORS = ("#4477aa", "#ee8866")
BLOCK_COLORS = plt.get_cmap("viridis")


def synthetic_index() -> Any:
    """Return an object with the attributes of an `Index` that a plan reads."""
    lengths = np.random.default_rng(4).lognormal(2.6, 0.7, BLOCKS * ROWS).clip(2, 60)
    lengths = lengths.astype(np.uint16)

    def read(numbers: Any) -> list[Block]:
        return [
            Block(b, b * ROWS, 0, 0, 0, 0, lengths[b * ROWS :][:ROWS]) for b in numbers.tolist()
        ]

    return SimpleNamespace(
        rows=len(lengths), blocks=BLOCKS, rows_per_block=ROWS, max_length=60, read=read,
        lengths=lengths,
    )  # fmt: skip


def main() -> None:
    index = synthetic_index()
    settings = StreamSettings(lanes=LANES, shuffle_window=WINDOW_BLOCKS, token_budget=240)
    plan = Plan([PlanSource(index, "0" * 64)], settings, 0)
    windows = [plan.window(0, number) for number in range(plan.window_count(0))]
    plt.rcParams.update({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "plan"})
    figure, (top, middle, bottom) = plt.subplots(
        3, 1, figsize=(9, 7.6), height_ratios=(1.5, 2.2, 1.3), layout="constrained"
    )

    window_width = WINDOW_BLOCKS + 0.6
    top.set_title(
        "1  Blocks are permuted and fill windows; a lane is a contiguous part of a window",
        loc="left",
    )
    for w, window in enumerate(windows):
        for b, block in enumerate(window.blocks):
            lane, column = divmod(b, WINDOW_BLOCKS)
            x = w * window_width + column
            color = BLOCK_COLORS(block.number / (BLOCKS - 1))
            top.add_patch(Rectangle((x, -lane), 0.94, 0.85, color=color))
            text_color = "white" if block.number < BLOCKS * 0.6 else "black"
            top.text(x + 0.47, 0.42 - lane, str(block.number), color=text_color, ha="center",
                     va="center")  # fmt: skip
        top.text(w * window_width + WINDOW_BLOCKS / 2, 1.0, f"window {w}", ha="center")
    for lane in range(LANES):
        top.text(-0.15, 0.42 - lane, f"lane {lane}", ha="right", va="center")
    top.set(xlim=(-1, len(windows) * window_width), ylim=(-LANES + 0.9, 1.4))
    top.axis("off")

    window = windows[0]
    share = plan.share(window)
    lengths = index.lengths[share.ids]
    position = np.arange(window.rows)
    lane = np.argsort(window.lanes.turn)[position % LANES]
    rank = lane * len(RANK_COLORS) // LANES
    middle.set_title(
        "2  Rows are shuffled and sorted by length within each lane; lanes are read round-robin; "
        "the sequence\n    is split into batches: rows x padded length (gray) fit the token "
        "budget; bar color: the lane's rank", loc="left",
    )  # fmt: skip
    batches = [batch for update in window.updates for batch in update]
    for batch in sorted(batches, key=lambda batch: batch.start):
        size = (batch.stop - batch.start, batch.length)
        middle.add_patch(Rectangle((batch.start - 0.5, 0), *size, fc="0.9", ec="0.2", lw=1))
    middle.bar(position, lengths, width=0.75, color=[RANK_COLORS[r] for r in rank])
    middle.set(xlim=(-1, window.rows), xlabel="row in the window's sequence", ylabel="tokens")
    middle.spines[["top", "right"]].set_visible(False)
    for r, color in enumerate(RANK_COLORS):
        middle.bar(0, 0, color=color, label=f"rank {r} of 2: lanes {2 * r}, {2 * r + 1}")
    middle.legend(frameon=False)

    bottom.set_title(
        "3  Batches are shuffled and become updates; a batch has the same shape on both ranks",
        loc="left",
    )
    x = 0.0
    for step, (batch,) in enumerate(window.updates):
        begin, end = window.lanes.rank_rows_before(
            np.array([batch.start, batch.stop]), len(RANK_COLORS)
        )
        width = int((end - begin).max())
        for r, color in enumerate(RANK_COLORS):
            bottom.add_patch(
                Rectangle((x, -r * 66), width, batch.length, fc=color, ec="white", alpha=0.85)
            )
        bottom.text(x + width / 2, -80, f"update {step}", ha="center", va="top", fontsize=8)
        x += max(width, 5) + 2.5
    for r in range(len(RANK_COLORS)):
        bottom.text(-1, 15 - r * 66, f"rank {r}", ha="right")
    bottom.set(xlim=(-8, x), ylim=(-100, 62))
    bottom.axis("off")
    figure.savefig(Path(__file__).with_name("plan.svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
