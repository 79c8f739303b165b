"""Keyed permutation of any size, evaluated at single positions without storing it.

A Feistel network permutes the numbers below a power of four (Luby and Rackoff 1988). Results that
are out of range go through the network again until they are in range (cycle walking, Black and
Rogaway 2002), which takes fewer than four rounds on average.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.stream.hashing import draw, key

ROUNDS = 6


def permute(seed: int, size: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the elements at `positions`, each below `size`, of a permutation of 0 ... size - 1."""
    half_bits = max(1, (int(size - 1).bit_length() + 1) // 2)
    round_keys = [key(seed, number) for number in range(ROUNDS)]
    elements = _feistel(positions, half_bits, round_keys)
    while len(out_of_range := np.flatnonzero(elements >= size)):
        elements[out_of_range] = _feistel(elements[out_of_range], half_bits, round_keys)
    return elements


def _feistel(
    numbers: NDArray[np.int64], half_bits: int, round_keys: list[int]
) -> NDArray[np.int64]:
    """Permute numbers of 2 * half_bits bits."""
    mask = (1 << half_bits) - 1
    left, right = numbers >> half_bits, numbers & mask
    for round_key in round_keys:
        mixed = (draw(round_key, right) >> np.uint64(64 - half_bits)).astype(np.int64)
        left, right = right, left ^ mixed
    return (left << half_bits) | right
