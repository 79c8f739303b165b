"""Optional abilities of tasks: to embed inputs, score texts and generate texts.

Shapes: B rows of a batch, P features of a vector.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.stream.batch import Batch

SEED_STEP = 2**31
"""Distance between the seeds of the samples of one text; a task's seeds are smaller."""


@dataclass(frozen=True)
class GenerationOptions:
    """Options of `Generates.generate`. None: the value of the task's setting of this name."""

    n: int = 1
    """Number of texts per input."""
    temperature: float | None = None
    """Sampling temperature. 0: the most probable text that the search finds."""
    seed: int | None = None
    max_new_tokens: int | None = None
    beam_size: int | None = None


def check_search_options(options: GenerationOptions) -> None:
    """Raise ConfigError for an option that does not apply to the generation of target texts."""
    if options.max_new_tokens is not None:
        raise ConfigError(
            f"max_new_tokens={options.max_new_tokens}: the maximum length of a target text follows "
            "from its input; leave it out"
        )
    if options.temperature and options.beam_size is not None:
        raise ConfigError(
            f"beam_size={options.beam_size}: sampling has no beam; leave it out, or set "
            "temperature=0"
        )
    if not options.temperature and options.seed is not None:
        raise ConfigError(
            f"seed={options.seed}: beam search has no randomness; leave it out, or set a "
            "temperature"
        )
    if options.beam_size is not None and options.n > options.beam_size:
        raise ConfigError(
            f"n={options.n}: is more than the number of hypotheses, beam_size="
            f"{options.beam_size}; raise beam_size"
        )


@dataclass(frozen=True)
class Generation:
    """A generated text."""

    text: str
    score: float
    """Log-probability of the text; for a target text, divided by the length penalty."""


@dataclass(frozen=True)
class Score:
    """The probability of a given text."""

    log_probability: float
    """Natural logarithm of the probability, including the end of the text."""
    tokens: int
    """Number of tokens, including the end of the text."""


@runtime_checkable
class Embeds(Protocol):
    """A task whose model has a vector for each row."""

    @abstractmethod
    def embed(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the pooled states of each row [B, P], at least in float32."""


@runtime_checkable
class Scores(Protocol):
    """A task whose model computes the probability of a text."""

    @abstractmethod
    def log_probabilities(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the log-probability of each row's target text and its number of tokens [B, 2].

        The batch has the columns of all inputs and targets. The values are float64.
        """


@runtime_checkable
class Generates(Protocol):
    """A task whose model generates texts."""

    @abstractmethod
    def generate(
        self, model: nn.Module, batch: Batch, options: GenerationOptions
    ) -> list[list[Generation]]:
        """Return `options.n` texts for each row; a search may find fewer. Raises ConfigError for an
        option that the task does not have."""
