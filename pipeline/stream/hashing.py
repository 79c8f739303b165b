"""Counter-based random numbers: each value depends only on its key and its counter.

NumPy's generators may change their streams between releases. These functions do not, and the
golden tests of the plan verify it.
"""

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 0xFFFFFFFFFFFFFFFF


def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finalizer of SplitMix64 (Steele, Lea and Flood 2014): a bijection that scatters bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def key(*parts: int) -> int:
    """Hash several integers, in order, to a 64-bit key."""
    state = 0
    for part in parts:
        folded = np.array([(state * _GOLDEN + part + 1) & _MASK], dtype=np.uint64)
        state = int(mix(folded)[0])
    return state


def draw(key: int, counters: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a random 64-bit number for each counter."""
    return mix(counters.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(key))
