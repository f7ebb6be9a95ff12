"""Chance without state: random numbers that depend on what they are for, not on how many were drawn before."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_MASK: Final = (1 << 64) - 1


def uniform(seed: int, number: NDArray[Any], purpose: str) -> NDArray[np.float64]:
    """One number in [0, 1) for each `number`, by hashing (seed, purpose, number): in any order, from any start.

    The hash is the output function of SplitMix64 (Steele, Lea, Flood 2014) over a counter; its upper 53 bits are used.

    >>> [round(float(u), 3) for u in uniform(1, np.array([5, 6]), "coin")] == [
    ...     round(float(uniform(1, np.array([i]), "coin")[0]), 3) for i in (5, 6)
    ... ]
    True
    """
    key = int(_splitmix(np.array([seed & _MASK], dtype=np.uint64))[0])
    for byte in purpose.encode():
        key = int(_splitmix(np.array([key ^ byte], dtype=np.uint64))[0])
    z = _splitmix(_splitmix(number.astype(np.uint64)) ^ np.uint64(key))
    return np.asarray((z >> np.uint64(11)) * 2.0**-53)


def _splitmix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = x + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
