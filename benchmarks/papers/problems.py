"""Problems from the papers that introduced the recurrent cells, with randomly drawn sequences.

Shapes: T steps, B sequences, F input features, N images.
"""

import gzip
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from benchmarks.papers.nets import GridImageNet, StepwiseNet
from pipeline.models.settings import ModelSettings


@dataclass(frozen=True)
class Sequences:
    """A batch of a problem."""

    x: Tensor
    """[T, B, F]"""
    lengths: Tensor
    """[B]"""
    target: Tensor
    """Target in the form that the problem's `loss` expects."""


class Problem(ABC):
    """A training problem with its loss, its score and the published results."""

    features: int
    outputs: ClassVar[int]
    published: ClassVar[str]
    score_meaning: ClassVar[str]
    """Description of `score` and of the threshold for solving the problem."""
    cells: ClassVar[tuple[str, ...]] = ("elman", "lstm", "gru", "goru", "grid_lstm")
    """Cells that can be trained on this problem."""
    min_length: ClassVar[int] = 1

    def __init__(self, length: int, data: Path) -> None:
        """`data` is the folder of data sets; only problems on real data read it."""
        self.length = length

    def net(self, settings: ModelSettings) -> nn.Module:
        """Return the network, which maps `Sequences` to outputs [T, B, outputs]."""
        return StepwiseNet(self.features, self.outputs, settings)

    @abstractmethod
    def draw(self, count: int, generator: Generator) -> Sequences:
        """Draw `count` training sequences."""

    def test_batches(self, generator: Generator) -> Iterator[Sequences]:
        """Yield the sequences that are scored."""
        yield self.draw(1000, generator)

    @abstractmethod
    def loss(self, outputs: Tensor, batch: Sequences) -> Tensor:
        """Return the scalar training loss of outputs [T, B, outputs]."""

    @abstractmethod
    def score(self, outputs: Tensor, batch: Sequences) -> float:
        """Return the score of outputs [T, B, outputs]; lower is better."""

    @abstractmethod
    def solved(self, score: float) -> bool: ...


class Adding(Problem):
    """Add the two marked numbers among T numbers in [0, 1]; one is marked in each half.

    The problem is the one of Arjovsky et al. 2016, after Hochreiter and Schmidhuber 1997, whose
    numbers and lengths differ.
    """

    features, outputs, min_length = 2, 1, 2
    published = "LSTM within 74,000 sequences in the 1997 variant, at lengths of about 100"
    score_meaning = "share of sequences with an error above 0.04; solved below 0.01"

    def draw(self, count: int, generator: Generator) -> Sequences:
        steps = self.length
        numbers = torch.rand(steps, count, generator=generator)
        marks = torch.zeros(steps, count)
        half = steps // 2
        rows = torch.arange(count)
        for low, high in ((0, half), (half, steps)):
            marks[torch.randint(low, high, (count,), generator=generator), rows] = 1
        target = (numbers * marks).sum(0)
        return Sequences(torch.stack([numbers, marks], -1), torch.full((count,), steps), target)

    def loss(self, outputs: Tensor, batch: Sequences) -> Tensor:
        return functional.mse_loss(outputs[-1, :, 0], batch.target)

    def score(self, outputs: Tensor, batch: Sequences) -> float:
        return ((outputs[-1, :, 0] - batch.target).abs() > 0.04).double().mean().item()

    def solved(self, score: float) -> bool:
        return score < 0.01


class Copying(Problem):
    """Repeat the first ten symbols, out of an alphabet of eight, after T blanks and a delimiter.

    The problem is from Hochreiter and Schmidhuber 1997, in the form of Arjovsky et al. 2016.
    """

    features, outputs, alphabet_size, copied = 10, 9, 8, 10
    published = "GORU falls below the baseline, LSTM and GRU stay at it"
    score_meaning = "cross entropy divided by the baseline's, 10 ln 8 / (T + 20); solved below 0.2"

    def draw(self, count: int, generator: Generator) -> Sequences:
        blank, delimiter = self.alphabet_size, self.alphabet_size + 1
        symbols = torch.randint(self.alphabet_size, (self.copied, count), generator=generator)
        tokens = torch.full((self.length + 2 * self.copied, count), blank)  # [T + 20, B]
        tokens[: self.copied] = symbols
        tokens[self.length + self.copied - 1] = delimiter
        target = torch.full_like(tokens, blank)
        target[-self.copied :] = symbols
        x = functional.one_hot(tokens, self.features).float()
        return Sequences(x, torch.full((count,), len(x)), target)

    @property
    def baseline(self) -> float:
        """Cross entropy without memory: a uniform guess at the steps where symbols are due."""
        return self.copied * log(self.alphabet_size) / (self.length + 2 * self.copied)

    def loss(self, outputs: Tensor, batch: Sequences) -> Tensor:
        return functional.cross_entropy(outputs.flatten(0, 1), batch.target.flatten())

    def score(self, outputs: Tensor, batch: Sequences) -> float:
        return self.loss(outputs, batch).item() / self.baseline

    def solved(self, score: float) -> bool:
        return score < 0.2


class Denoising(Copying):
    """Repeat ten symbols, out of an alphabet of nine, that are scattered over T steps of noise.

    The problem is from Jing et al. 2017.
    """

    features, outputs, alphabet_size = 11, 10, 9
    published = "GORU falls below the baseline"
    score_meaning = "cross entropy divided by the baseline's, 10 ln 9 / (T + 20); solved below 0.2"

    def draw(self, count: int, generator: Generator) -> Sequences:
        noise, delimiter = self.alphabet_size, self.alphabet_size + 1
        symbols = torch.randint(self.alphabet_size, (self.copied, count), generator=generator)
        steps = self.length + 2 * self.copied
        tokens = torch.full((steps, count), noise)  # [T + 20, B]
        # positions without replacement: a step holds one symbol
        order = torch.rand(self.length + self.copied - 1, count, generator=generator)
        positions = order.argsort(0)[: self.copied].sort(0).values  # [10, B]
        tokens.scatter_(0, positions, symbols)
        tokens[self.length + self.copied - 1] = delimiter
        target = torch.full_like(tokens, noise)
        target[-self.copied :] = symbols
        x = functional.one_hot(tokens, self.features).float()
        return Sequences(x, torch.full((count,), steps), target)


class Reber(Problem):
    """Predict the possible next symbols in the embedded Reber grammar.

    The second-to-last symbol of a word must equal its second one (Hochreiter and Schmidhuber 1997).
    """

    features = outputs = 7
    symbols = "BTPSXVE"
    grammar = (
        (("T", 1), ("P", 2)),
        (("S", 1), ("X", 3)),
        (("T", 2), ("V", 4)),
        (("X", 2), ("S", 5)),
        (("P", 3), ("V", 5)),
    )
    """Transitions (symbol, next state) from each state; state 5 is final."""
    published = "LSTM in 148 of 150 trials, after 8,440 to 39,740 sequences, depending on its size"
    score_meaning = "share of sequences with any wrong set of next symbols; solved at 0"

    def draw(self, count: int, generator: Generator) -> Sequences:
        sequences = [self._draw_word(generator) for _ in range(count)]
        steps = max(len(word) for word, _ in sequences) - 1
        x, target = torch.zeros(steps, count, 7), torch.zeros(steps, count, 7)  # [T, B, 7]
        for b, (word, successors) in enumerate(sequences):
            for t, (symbol, next_symbols) in enumerate(zip(word[:-1], successors, strict=True)):
                x[t, b, self.symbols.index(symbol)] = 1
                target[t, b, [self.symbols.index(s) for s in next_symbols]] = 1
        return Sequences(x, torch.tensor([len(word) - 1 for word, _ in sequences]), target)

    def _draw_word(self, generator: Generator) -> tuple[str, list[str]]:
        """Draw a word; return it with the possible successors of each symbol but the last."""

        def flip_coin() -> int:
            return int(torch.randint(2, (), generator=generator))

        outer = "TP"[flip_coin()]
        word, successors, state = f"B{outer}B", ["TP", "B"], 0
        while state < len(self.grammar):
            transitions = self.grammar[state]
            successors.append("".join(symbol for symbol, _ in transitions))
            symbol, state = transitions[flip_coin()]
            word += symbol
        return f"{word}E{outer}E", [*successors, "E", outer, "E"]

    def loss(self, outputs: Tensor, batch: Sequences) -> Tensor:
        losses = functional.binary_cross_entropy_with_logits(
            outputs, batch.target, reduction="none"
        )
        return (losses * self._valid(batch)).sum() / self._valid(batch).sum()

    def score(self, outputs: Tensor, batch: Sequences) -> float:
        wrong = ((outputs > 0) != (batch.target > 0)) & self._valid(batch)
        return wrong.any(0).any(-1).double().mean().item()

    def _valid(self, batch: Sequences) -> Tensor:
        """Return a mask [T, B, 1] that is True within each sequence's length."""
        return (torch.arange(len(batch.x))[:, None] < batch.lengths)[..., None]

    def solved(self, score: float) -> bool:
        return score == 0


class Addition(Problem):
    """Add two numbers of T digits, digit by digit (Kalchbrenner et al. 2015).

    The input is a sequence of symbols: the digits of each number, most significant first, each
    number followed by a delimiter, then blanks. The network outputs the sum's digits at the blanks.
    """

    features, outputs = 11, 11
    published = "15 digits: tied 18 layers > 99 %, untied 5 layers 67 %, stacked 51 % correct"
    score_meaning = "share of sums with a wrong digit; solved below 0.01"

    def draw(self, count: int, generator: Generator) -> Sequences:
        a, b = torch.randint(10**self.length, (2, count), generator=generator)
        delimiter = torch.full((1, count), 10)
        width = self.length + 1
        tokens = torch.cat(
            [
                *(_digits(a, self.length), delimiter),
                *(_digits(b, self.length), delimiter),
                delimiter.expand(width, count),  # the blanks have the same symbol
            ]
        )
        x = functional.one_hot(tokens, self.features).float()
        return Sequences(x, torch.full((count,), len(x)), _digits(a + b, width))

    def loss(self, outputs: Tensor, batch: Sequences) -> Tensor:
        logits = outputs[-len(batch.target) :]
        return functional.cross_entropy(logits.flatten(0, 1), batch.target.flatten())

    def score(self, outputs: Tensor, batch: Sequences) -> float:
        predicted = outputs[-len(batch.target) :].argmax(-1)
        return (predicted != batch.target).any(0).double().mean().item()

    def solved(self, score: float) -> bool:
        return score < 0.01


def _digits(numbers: Tensor, width: int) -> Tensor:
    """Split numbers [B] into decimal digits [width, B], most significant first."""
    return torch.stack([numbers // 10**power % 10 for power in reversed(range(width))])


class Mnist(Problem):
    """Classify handwritten digits, read row by row (T = 28) or pixel by pixel (T = 784).

    The last 10,000 of the 60,000 training images are held out for scoring.
    """

    outputs = 10
    published = "test error by pixels: LSTM 1.1 % or 12.8 %, GRU 3.8 %, IRNN 3 %"
    score_meaning = "share of misclassified held-out images"

    def __init__(self, length: int, data: Path) -> None:
        super().__init__(length, data)
        folder = data / "mnist"
        if not folder.is_dir():
            raise SystemExit(
                f"--data {data}: has no folder mnist/; download the MNIST files "
                "train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz into it"
            )
        if 784 % length:
            raise SystemExit(
                f"--length {length}: does not divide the 784 pixels of an image; use a divisor"
            )
        pixels = _read_idx(folder / "train-images-idx3-ubyte.gz", 16).view(-1, 28, 28)
        self.images = self.split_into_steps(pixels)
        self.features = self.images.shape[2]
        self.labels = _read_idx(folder / "train-labels-idx1-ubyte.gz", 8).long()

    def split_into_steps(self, pixels: Tensor) -> Tensor:
        """Reshape images [N, 28, 28] into sequences [N, T, F]."""
        return pixels.reshape(len(pixels), self.length, -1)

    def draw(self, count: int, generator: Generator) -> Sequences:
        return self._select(torch.randint(50_000, (count,), generator=generator))

    def test_batches(self, generator: Generator) -> Iterator[Sequences]:
        for first in range(50_000, 60_000, 1000):
            yield self._select(torch.arange(first, first + 1000))

    def _select(self, indices: Tensor) -> Sequences:
        x = self.images[indices].transpose(0, 1).float() / 255  # [T, B, F]
        return Sequences(x, torch.full((len(indices),), self.length), self.labels[indices])

    def loss(self, outputs: Tensor, batch: Sequences) -> Tensor:
        return functional.cross_entropy(outputs[-1], batch.target)

    def score(self, outputs: Tensor, batch: Sequences) -> float:
        return (outputs[-1].argmax(-1) != batch.target).double().mean().item()

    def solved(self, score: float) -> bool:
        return False


class Patches(Mnist):
    """Classify handwritten digits from patches of 4 x 4 pixels (T = 49) with a 3D Grid-LSTM.

    The grid spans depth, rows and columns (Kalchbrenner et al. 2015).
    """

    published = "3-LSTM: test error 0.32 % (arXiv 1507.01526v1)"
    cells = ("grid_lstm",)

    def net(self, settings: ModelSettings) -> nn.Module:
        return GridImageNet(self.features, self.outputs, settings)

    def split_into_steps(self, pixels: Tensor) -> Tensor:
        side = int(self.length**0.5)
        if side**2 != self.length or 28 % side:
            raise SystemExit(
                f"--length {self.length}: is not a number of patches in a square grid; use a "
                "square number such as 16, 49 or 196"
            )
        tiles = pixels.view(-1, side, 28 // side, side, 28 // side).transpose(2, 3)
        return tiles.reshape(len(pixels), self.length, -1)


def _read_idx(path: Path, header: int) -> Tensor:
    """Read the bytes of a gzipped idx file after its header."""
    data = gzip.decompress(path.read_bytes())
    return torch.from_numpy(np.frombuffer(data, np.uint8)[header:].copy())


PROBLEMS: dict[str, type[Problem]] = {
    "reber": Reber, "adding": Adding, "copying": Copying, "denoising": Denoising,
    "addition": Addition, "mnist": Mnist, "patches": Patches,
}  # fmt: skip
