"""Counter-based random numbers: a value depends on its key and counter, on nothing drawn before.

numpy's generators may change their streams between releases; these few lines do not, and the
golden tests of the plan hold them to it.
"""

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 0xFFFFFFFFFFFFFFFF


def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): a bijection that scatters bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def key(*parts: int) -> int:
    """One 64-bit key from several integers, in which their order matters."""
    state = 0
    for part in parts:
        folded = np.array([(state * _GOLDEN + part + 1) & _MASK], dtype=np.uint64)
        state = int(mix(folded)[0])
    return state


def draw(key: int, counters: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A 64-bit number for each counter."""
    return mix(counters.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(key))
