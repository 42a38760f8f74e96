"""Voxels to hold out of a fit: contiguous blocks of hkl, symmetry equivalents together.

Single voxels leak: neighbours are correlated over about 1/(molecule's size), equivalents are the
same measurement. A block some unit cells of reciprocal space across is nearly independent.
"""

from __future__ import annotations

import numpy as np

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.errors import InputError

# Blocks from large to small, in reciprocal-lattice units: the largest that leaves enough of them.
BLOCK_EDGES = (6, 5, 4, 3, 2)
ENOUGH_BLOCKS = 40


def canonical_equivalents(hkl: FloatArray, rotations: IntArray) -> FloatArray:
    """Return one equivalent of each hkl (n, 3), the same for all members of an orbit.

    The greatest in the order of l, then k, then h, which keeps neighbours together.

    >>> rotations = np.array([np.eye(3), -np.eye(3)]).astype(int)
    >>> canonical_equivalents(np.array([[1.0, 2.0, -3.0]]), rotations).tolist()
    [[-1.0, -2.0, 3.0]]
    """
    best = hkl.copy()
    for rotation in rotations:
        image = hkl @ rotation
        difference = image - best
        # Equal to rounding counts as equal: nodes are multiples of 1/sampling.
        sign = np.where(np.abs(difference) < 1e-6, 0.0, difference)
        greater = (sign[:, 2] > 0) | (
            (sign[:, 2] == 0) & ((sign[:, 1] > 0) | ((sign[:, 1] == 0) & (sign[:, 0] > 0)))
        )
        best[greater] = image[greater]
    return best


def choose_held_out(
    hkl: FloatArray,
    rotations: IntArray,
    fraction: float,
    rng: np.random.Generator,
    block_edge: int | None = None,
) -> BoolArray:
    """Choose voxels to hold out, by whole blocks drawn at random.

    Parameters
    ----------
    hkl : ndarray, shape (n, 3), float64
        Miller indices, fractional between nodes.
    rotations : ndarray, shape (n_operations, 3, 3), int64
        Laue rotations, inversion included.
    fraction : float
        Of the voxels, 0 ≤ fraction < 1; whole blocks, so about.
    rng : numpy.random.Generator
    block_edge : int, optional
        Edge of a block in reciprocal-lattice units; the largest of 6 … 2 that gives at least 40
        blocks where not given.

    Returns
    -------
    ndarray, shape (n,), bool

    Raises
    ------
    InputError
        If the fraction is out of range.
    """
    if not 0 <= fraction < 1:
        raise InputError(f"held_out must be at least 0 and below 1, got {fraction}")
    if fraction == 0 or len(hkl) == 0:
        return np.zeros(len(hkl), dtype=bool)
    block_of, sizes = blocks_of(hkl, rotations, block_edge)
    order = rng.permutation(len(sizes))
    before = np.cumsum(sizes[order]) - sizes[order]
    chosen = order[before < fraction * len(hkl)]
    held_out: BoolArray = np.isin(block_of, chosen)
    return held_out


def choose_folds(
    hkl: FloatArray,
    rotations: IntArray,
    n_folds: int,
    rng: np.random.Generator,
    block_edge: int | None = None,
) -> IntArray:
    """Share voxels out among folds of about equal size, by whole blocks drawn at random.

    Parameters
    ----------
    hkl, rotations, rng, block_edge
        As for `choose_held_out`.
    n_folds : int

    Returns
    -------
    ndarray, shape (n,), int64
        Fold of each voxel, 0 … n_folds − 1.

    Raises
    ------
    InputError
        If there are fewer than two folds, or fewer blocks than folds.
    """
    block_of, sizes = blocks_of(hkl, rotations, block_edge)
    if not 2 <= n_folds <= len(sizes):
        raise InputError(f"n_folds must be 2 to {len(sizes)}, the number of blocks, got {n_folds}")
    fold_of_block = np.empty(len(sizes), dtype=np.int64)
    filled = np.zeros(n_folds)
    # Large ones first, each to the fold that has least; in random order where sizes are equal.
    order = rng.permutation(len(sizes))
    for block in order[np.argsort(-sizes[order], kind="stable")]:
        fold = int(np.argmin(filled))
        fold_of_block[block] = fold
        filled[fold] += sizes[block]
    folds: IntArray = fold_of_block[block_of]
    return folds


def blocks_of(
    hkl: FloatArray, rotations: IntArray, block_edge: int | None = None
) -> tuple[IntArray, IntArray]:
    """Block of each voxel (n,), equivalents in one, and the blocks' sizes."""
    canonical = canonical_equivalents(hkl, rotations)
    for edge in BLOCK_EDGES if block_edge is None else (block_edge,):
        blocks = np.floor(canonical / edge + 1e-6).astype(np.int64)
        unique, block_of, sizes = np.unique(blocks, axis=0, return_inverse=True, return_counts=True)
        if len(unique) >= ENOUGH_BLOCKS:
            break
    return block_of.ravel().astype(np.int64), sizes.astype(np.int64)
