"""Brute force in numpy: what exact searches must answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def distances(base: npt.ArrayLike, queries: npt.ArrayLike, metric: str) -> Array:
    """Returns queries x base distances in float64: squared L2, minus the product, 1 - cosine."""
    b, q = np.asarray(base, np.float64), np.asarray(queries, np.float64)
    products: Array = q @ b.T
    if metric == "ip":
        return -products
    if metric == "cosine":
        cosines: Array = products / np.outer(np.linalg.norm(q, axis=1), np.linalg.norm(b, axis=1))
        return 1 - cosines
    squares = (q * q).sum(1)[:, np.newaxis] + (b * b).sum(1)
    found: Array = np.maximum(squares - 2 * products, 0)
    return found


def nearest(
    base: npt.ArrayLike, keys: npt.ArrayLike, queries: npt.ArrayLike, k: int, metric: str
) -> tuple[Array, Array]:
    """Returns queries x k keys and distances, nearest first, ties in order of key."""
    names = np.asarray(keys)
    all_distances = distances(base, queries, metric)
    order = np.array([np.lexsort((names, row))[:k] for row in all_distances])
    return names[order], np.take_along_axis(all_distances, order, axis=1)
