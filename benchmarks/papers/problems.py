"""The problems that recurrent cells were introduced with, drawn at random from a generator.

Legend: T steps, B sequences, F input features, K classes.
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
from nets import Plane, Steps
from torch import Generator, Tensor, nn
from torch.nn import functional

from pipeline.models.settings import ModelSettings


@dataclass(frozen=True)
class Sequences:
    """A batch of a problem."""

    x: Tensor
    """[T, B, F]"""
    lengths: Tensor
    """[B]"""
    target: Tensor
    """What the problem's `loss` wants."""


class Problem(ABC):
    """What is learnt, how it is judged, and what was published of it."""

    features: int
    outputs: ClassVar[int]
    published: ClassVar[str]
    judged: ClassVar[str]
    """What `score` says."""
    cells: ClassVar[tuple[str, ...]] = ("elman", "lstm", "gru", "goru", "grid_lstm")
    """Those that can be tried."""
    shortest: ClassVar[int] = 1
    """The least length."""

    def __init__(self, length: int, data: Path) -> None:
        """`data` is the folder of what is not drawn but read."""
        self.length = length

    def net(self, settings: ModelSettings) -> nn.Module:
        """What is to solve it, a `Sequences` -> outputs [T, B, outputs]."""
        return Steps(self.features, self.outputs, settings)

    @abstractmethod
    def draw(self, count: int, generator: Generator) -> Sequences:
        """`count` new sequences."""

    def unseen(self, generator: Generator) -> Iterator[Sequences]:
        """Those that are scored."""
        yield self.draw(1000, generator)

    @abstractmethod
    def loss(self, outputs: Tensor, batch: Sequences) -> Tensor:
        """Of outputs [T, B, outputs]."""

    @abstractmethod
    def score(self, outputs: Tensor, batch: Sequences) -> float: ...

    @abstractmethod
    def solved(self, score: float) -> bool: ...


class Adding(Problem):
    """The sum of the two numbers in [0, 1] that are marked among T, one in either half (Arjovsky et
    al. 2016, after Hochreiter and Schmidhuber 1997, whose numbers and lengths are others)."""

    features, outputs, shortest = 2, 1, 2
    published = "LSTM within 74,000 sequences in the variant of 1997, at lengths about 100"
    judged = "share of sequences with an error above 0.04; solved below 0.01"

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
    """Say again, after T blanks and a sign, the ten symbols of eight that came first (Hochreiter
    and Schmidhuber 1997, as in Arjovsky et al. 2016)."""

    features, outputs, kinds, count = 10, 9, 8, 10
    published = "GORU falls below the baseline, LSTM and GRU stay at it"
    judged = "cross entropy over the baseline 10 ln 8 / (T + 20); solved below 0.2"

    def draw(self, count: int, generator: Generator) -> Sequences:
        words = torch.randint(self.kinds, (self.count, count), generator=generator)
        tokens = torch.full((self.length + 2 * self.count, count), self.kinds)
        tokens[: self.count] = words
        tokens[self.length + self.count - 1] = self.kinds + 1
        target = torch.full_like(tokens, self.kinds)
        target[-self.count :] = words
        x = functional.one_hot(tokens, self.features).float()
        return Sequences(x, torch.full((count,), len(x)), target)

    @property
    def baseline(self) -> float:
        return self.count * log(self.kinds) / (self.length + 2 * self.count)

    def loss(self, outputs: Tensor, batch: Sequences) -> Tensor:
        return functional.cross_entropy(outputs.flatten(0, 1), batch.target.flatten())

    def score(self, outputs: Tensor, batch: Sequences) -> float:
        return self.loss(outputs, batch).item() / self.baseline

    def solved(self, score: float) -> bool:
        return score < 0.2


class Denoising(Copying):
    """The same, with the ten symbols (of nine) strewn over T steps of noise (Jing et al. 2017)."""

    features, outputs, kinds = 11, 10, 9
    published = "GORU falls below the baseline"
    judged = "cross entropy over the baseline 10 ln 9 / (T + 20); solved below 0.2"

    def draw(self, count: int, generator: Generator) -> Sequences:
        words = torch.randint(self.kinds, (self.count, count), generator=generator)
        steps = self.length + 2 * self.count
        tokens = torch.full((steps, count), self.kinds)
        # without replacement: two symbols at one place could not be told
        order = torch.rand(self.length + self.count - 1, count, generator=generator)
        places = order.argsort(0)[: self.count].sort(0).values  # [10, B]
        tokens.scatter_(0, places, words)
        tokens[self.length + self.count - 1] = self.kinds + 1
        target = torch.full_like(tokens, self.kinds)
        target[-self.count :] = words
        x = functional.one_hot(tokens, self.features).float()
        return Sequences(x, torch.full((count,), steps), target)


class Reber(Problem):
    """Which symbols can follow in the embedded Reber grammar (Hochreiter and Schmidhuber 1997); the
    last but one must be the second again."""

    features = outputs = 7
    symbols = "BTPSXVE"
    grammar = (
        (("T", 1), ("P", 2)),
        (("S", 1), ("X", 3)),
        (("T", 2), ("V", 4)),
        (("X", 2), ("S", 5)),
        (("P", 3), ("V", 5)),
    )
    """Of each state but the last (5): symbol and next state."""
    published = "LSTM in 148 of 150 trials, after 8,440 to 39,740 sequences, by its size"
    judged = "share of sequences with a wrong set of successors anywhere; solved at 0"

    def draw(self, count: int, generator: Generator) -> Sequences:
        drawn = [self._sequence(generator) for _ in range(count)]
        steps = max(len(word) for word, _ in drawn) - 1
        x, target = torch.zeros(steps, count, 7), torch.zeros(steps, count, 7)
        for b, (word, legal) in enumerate(drawn):
            for t, (symbol, following) in enumerate(zip(word[:-1], legal, strict=True)):
                x[t, b, self.symbols.index(symbol)] = 1
                target[t, b, [self.symbols.index(s) for s in following]] = 1
        return Sequences(x, torch.tensor([len(word) - 1 for word, _ in drawn]), target)

    def _sequence(self, generator: Generator) -> tuple[str, list[str]]:
        """A word, and what may follow each of its symbols but the last."""

        def coin() -> int:
            return int(torch.randint(2, (), generator=generator))

        outer = "TP"[coin()]
        word, legal, state = f"B{outer}B", ["TP", "B"], 0
        while state < len(self.grammar):
            choices = self.grammar[state]
            legal.append("".join(symbol for symbol, _ in choices))
            symbol, state = choices[coin()]
            word += symbol
        return f"{word}E{outer}E", [*legal, "E", outer, "E"]

    def loss(self, outputs: Tensor, batch: Sequences) -> Tensor:
        losses = functional.binary_cross_entropy_with_logits(
            outputs, batch.target, reduction="none"
        )
        return (losses * self._valid(batch)).sum() / self._valid(batch).sum()

    def score(self, outputs: Tensor, batch: Sequences) -> float:
        wrong = ((outputs > 0) != (batch.target > 0)) & self._valid(batch)
        return wrong.any(0).any(-1).double().mean().item()

    def _valid(self, batch: Sequences) -> Tensor:
        return (torch.arange(len(batch.x))[:, None] < batch.lengths)[..., None]

    def solved(self, score: float) -> bool:
        return score == 0


class Addition(Problem):
    """The sum of two numbers of T digits, digit by digit, as a stream of symbols: each number, most
    significant digit first, then a sign, then blanks at which the sum is said (Kalchbrenner et al.
    2015)."""

    features, outputs = 11, 11
    published = "of 15 digits: tied 18 layers > 99 %, untied 5 layers 67 %, stacked 51 % right"
    judged = "share of sums with a wrong digit; solved below 0.01"

    def draw(self, count: int, generator: Generator) -> Sequences:
        a, b = torch.randint(10**self.length, (2, count), generator=generator)
        sign = torch.full((1, count), 10)
        width = self.length + 1
        blanks = sign.expand(width, count)
        tokens = torch.cat([_digits(a, self.length), sign, _digits(b, self.length), sign, blanks])
        x = functional.one_hot(tokens, self.features).float()
        return Sequences(x, torch.full((count,), len(x)), _digits(a + b, width))

    def loss(self, outputs: Tensor, batch: Sequences) -> Tensor:
        said = outputs[-len(batch.target) :]
        return functional.cross_entropy(said.flatten(0, 1), batch.target.flatten())

    def score(self, outputs: Tensor, batch: Sequences) -> float:
        said = outputs[-len(batch.target) :].argmax(-1)
        return (said != batch.target).any(0).double().mean().item()

    def solved(self, score: float) -> bool:
        return score < 0.01


def _digits(numbers: Tensor, width: int) -> Tensor:
    """[B] -> [width, B], the most significant first."""
    return torch.stack([numbers // 10**place % 10 for place in reversed(range(width))])


class Mnist(Problem):
    """Which digit an image shows that is read row by row, T = 28, or pixel by pixel, T = 784. The
    last 10,000 of the 60,000 training images are held out."""

    outputs = 10
    published = "by pixels LSTM 1.1 % or 12.8 %, GRU 3.8 %, IRNN 3 % wrong, of the test set"
    judged = "share of held-out images taken for another digit"

    def __init__(self, length: int, data: Path) -> None:
        super().__init__(length, data)
        folder = data / "mnist"
        if not folder.is_dir():
            raise SystemExit(
                f"--data {data}: holds no mnist/ with train-images-idx3-ubyte.gz and "
                "train-labels-idx1-ubyte.gz, MNIST's own files; download them there"
            )
        if 784 % length:
            raise SystemExit(f"--length {length}: does not divide the 784 pixels of an image")
        pixels = _idx(folder / "train-images-idx3-ubyte.gz", 16).view(-1, 28, 28)
        self.images = self.steps(pixels)
        self.features = self.images.shape[2]
        self.labels = _idx(folder / "train-labels-idx1-ubyte.gz", 8).long()

    def steps(self, pixels: Tensor) -> Tensor:
        """[N, 28, 28] -> [N, T, F]"""
        return pixels.reshape(len(pixels), self.length, -1)

    def draw(self, count: int, generator: Generator) -> Sequences:
        return self._take(torch.randint(50_000, (count,), generator=generator))

    def unseen(self, generator: Generator) -> Iterator[Sequences]:
        for first in range(50_000, 60_000, 1000):
            yield self._take(torch.arange(first, first + 1000))

    def _take(self, which: Tensor) -> Sequences:
        x = self.images[which].transpose(0, 1).float() / 255
        return Sequences(x, torch.full((len(which),), self.length), self.labels[which])

    def loss(self, outputs: Tensor, batch: Sequences) -> Tensor:
        return functional.cross_entropy(outputs[-1], batch.target)

    def score(self, outputs: Tensor, batch: Sequences) -> float:
        return (outputs[-1].argmax(-1) != batch.target).double().mean().item()

    def solved(self, score: float) -> bool:
        return False


class Patches(Mnist):
    """The same of patches of 4 x 4 pixels, T = 49, which the grid over depth, row and column reads
    as a plane (Kalchbrenner et al. 2015)."""

    published = "3-LSTM 0.32 % wrong of the test set (arXiv 1507.01526v1)"
    cells = ("grid_lstm",)

    def net(self, settings: ModelSettings) -> nn.Module:
        return Plane(self.features, self.outputs, settings)

    def steps(self, pixels: Tensor) -> Tensor:
        side = int(self.length**0.5)
        if side**2 != self.length or 28 % side:
            raise SystemExit(
                f"--length {self.length}: patches want a square number, as 16, 49, 196"
            )
        tiles = pixels.view(-1, side, 28 // side, side, 28 // side).transpose(2, 3)
        return tiles.reshape(len(pixels), self.length, -1)


def _idx(path: Path, header: int) -> Tensor:
    """The bytes of an idx file."""
    data = gzip.decompress(path.read_bytes())
    return torch.from_numpy(np.frombuffer(data, np.uint8)[header:].copy())


PROBLEMS = {
    "reber": Reber, "adding": Adding, "copying": Copying, "denoising": Denoising,
    "addition": Addition, "mnist": Mnist, "patches": Patches,
}  # fmt: skip
