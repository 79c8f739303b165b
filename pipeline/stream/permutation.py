"""A keyed permutation of any size, a place at a time: nothing of its size is made or kept.

A Feistel network permutes the numbers below a power of four (Luby and Rackoff 1988); numbers that
fall outside go through it again until they fall inside (Black and Rogaway 2002, cycle walking),
less than four times on average.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.stream.hashing import draw, key

ROUNDS = 6


def permute(seed: int, size: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """What stands at `places`, each below `size`, of the permutation of 0 ... size - 1."""
    half = max(1, (int(size - 1).bit_length() + 1) // 2)
    keys = [key(seed, number) for number in range(ROUNDS)]
    found = _network(places, half, keys)
    while len(outside := np.flatnonzero(found >= size)):
        found[outside] = _network(found[outside], half, keys)
    return found


def _network(numbers: NDArray[np.int64], half: int, keys: list[int]) -> NDArray[np.int64]:
    """Permute numbers of 2 * half bits."""
    mask = (1 << half) - 1
    left, right = numbers >> half, numbers & mask
    for round_key in keys:
        mixed = (draw(round_key, right) >> np.uint64(64 - half)).astype(np.int64)
        left, right = right, left ^ mixed
    return (left << half) | right
