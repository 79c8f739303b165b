"""Strips of handwritten digits and their names in words, in the layout of Flickr8k: made of MNIST's
training images, whose last 5,000 are in strips for validation alone.

python benchmarks/strips.py data/mnist data/strips [--train 40000] [--validation 2000]
"""

import argparse
import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SIDE, MOST = 28, 5
WIDTH = SIDE * MOST
HELD_OUT = 5000
"""Digits for validation."""

Bytes = NDArray[np.uint8]


def read(path: Path) -> Bytes:
    """The content of an idx file of bytes (LeCun et al. 1998)."""
    data = gzip.decompress(path.read_bytes())
    sizes = np.frombuffer(data, ">u4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sizes)


def strip(digits: Bytes, draw: np.random.Generator) -> Bytes:
    """Digits [n, 28, 28] from left to right, what is left of the strip [28, 140] drawn between."""
    room = draw.multinomial(
        WIDTH - SIDE * len(digits), np.full(len(digits) + 1, 1 / (len(digits) + 1))
    )
    found = np.zeros((SIDE, WIDTH), np.uint8)
    for number, digit in enumerate(digits):
        left = int(room[: number + 1].sum()) + SIDE * number
        found[:, left : left + SIDE] = digit
    return found


def write(folder: Path, split: str, count: int, pixels: Bytes, labels: Bytes, seed: int) -> None:
    """NAME.png of each strip, and SPLIT.token.txt."""
    draw = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        chosen = draw.integers(len(labels), size=draw.integers(1, MOST + 1))
        name = f"{split}{number:06d}.png"
        Image.fromarray(strip(pixels[chosen], draw)).save(folder / "images" / name)
        lines.append(f"{name}#0\t{' '.join(NAMES[label] for label in labels[chosen])}\n")
    (folder / f"{split}.token.txt").write_text("".join(lines))


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("mnist", type=Path)
    args.add_argument("folder", type=Path)
    args.add_argument("--train", type=int, default=40_000)
    args.add_argument("--validation", type=int, default=2_000)
    given = args.parse_args()
    pixels = read(given.mnist / "train-images-idx3-ubyte.gz")
    labels = read(given.mnist / "train-labels-idx1-ubyte.gz")
    known, held_out = slice(-HELD_OUT), slice(-HELD_OUT, None)
    write(given.folder, "train", given.train, pixels[known], labels[known], 0)
    write(given.folder, "validation", given.validation, pixels[held_out], labels[held_out], 1)


if __name__ == "__main__":
    main()
