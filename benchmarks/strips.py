"""Build a captioning corpus from MNIST: strips of handwritten digits, captioned by their names.

    python benchmarks/strips.py data/mnist data/strips [--train 40000] [--validation 2000]

The files have the layout of Flickr8k. Validation strips use only the last 5,000 of MNIST's training
images, which no training strip contains.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SIDE, MAX_DIGITS = 28, 5
WIDTH = SIDE * MAX_DIGITS
HELD_OUT = 5000
"""Number of MNIST images kept for validation."""

ByteArray = NDArray[np.uint8]


def read_idx(path: Path) -> ByteArray:
    """Read a gzipped idx file of unsigned bytes (LeCun et al. 1998)."""
    data = gzip.decompress(path.read_bytes())
    dimensions = data[3]  # bytes 0 to 3: 0, 0, element type, number of dimensions; then the sizes
    sizes = np.frombuffer(data, ">u4", dimensions, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(sizes)


def make_strip(digits: ByteArray, rng: np.random.Generator) -> ByteArray:
    """Place digits [n, 28, 28] from left to right on a strip [28, 140], with random gaps."""
    gaps = rng.multinomial(
        WIDTH - SIDE * len(digits), np.full(len(digits) + 1, 1 / (len(digits) + 1))
    )
    strip = np.zeros((SIDE, WIDTH), np.uint8)
    for number, digit in enumerate(digits):
        left = int(gaps[: number + 1].sum()) + SIDE * number
        strip[:, left : left + SIDE] = digit
    return strip


def write(
    folder: Path, split: str, count: int, pixels: ByteArray, labels: ByteArray, seed: int
) -> None:
    """Write `count` strips of 1 to 5 digits drawn from the images `pixels` with their `labels`.

    The strips are images/SPLIT000000.png and so on; their captions are SPLIT.token.txt.
    """
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        indices = rng.integers(len(labels), size=rng.integers(1, MAX_DIGITS + 1))
        name = f"{split}{number:06d}.png"
        Image.fromarray(make_strip(pixels[indices], rng)).save(folder / "images" / name)
        lines.append(f"{name}#0\t{' '.join(NAMES[label] for label in labels[indices])}\n")
    (folder / f"{split}.token.txt").write_text("".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mnist", type=Path, help="folder of MNIST's gzipped idx files")
    parser.add_argument("folder", type=Path, help="output folder")
    parser.add_argument("--train", type=int, default=40_000, help="training strips [40000]")
    parser.add_argument("--validation", type=int, default=2_000, help="validation strips [2000]")
    args = parser.parse_args()
    pixels = read_idx(args.mnist / "train-images-idx3-ubyte.gz")
    labels = read_idx(args.mnist / "train-labels-idx1-ubyte.gz")
    training_images, held_out_images = slice(-HELD_OUT), slice(-HELD_OUT, None)
    write(args.folder, "train", args.train, pixels[training_images], labels[training_images], 0)
    write(
        args.folder,
        "validation",
        args.validation,
        pixels[held_out_images],
        labels[held_out_images],
        1,
    )


if __name__ == "__main__":
    main()
