"""Frames of one molecule as arrays: superposed all at once, their mean and covariance gathered.

Mean and covariance take memory that does not grow with the number of frames.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray, IntArray
from offbragg.errors import InputError

logger = logging.getLogger(__name__)

# A mean that moves by less than this [Å] is found; sets of conformers need some ten rounds.
MEAN_TOLERANCE = 1e-9
MEAN_ROUNDS = 500


def superpose(
    frames: ArrayLike,
    reference: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    atoms: ArrayLike | None = None,
) -> FloatArray:
    r"""Move every frame as a rigid body onto a reference, or all onto their common mean.

    Rotation Q and shift minimise ``Σ_i |(x_i − x̄) Q + ȳ − y_i|²``: with the singular values of
    ``Σ_i (x_i − x̄)ᵀ (y_i − ȳ) = U S Wᵀ`` it is ``Q = U diag(1, 1, ±1) Wᵀ``, the sign such that Q
    is a proper rotation.

    Parameters
    ----------
    frames : array, shape (n_frames, n_atoms, 3)
        Cartesian [Å].
    reference : array, shape (n_atoms, 3), optional
        Where to move them. None: onto their mean, which is found by repeating (the mean of
        superposed frames is the next reference) and lies on the first frame.
    weights : array, shape (n_frames,), optional
        Of the frames in that mean. None: all alike.
    atoms : mask or indices of atoms, optional
        Atoms that decide rotation and shift; all atoms move. None: all.

    Returns
    -------
    ndarray, shape (n_frames, n_atoms, 3), float64
        [Å]

    Raises
    ------
    InputError
        If a shape does not match or ``atoms`` names none.

    References
    ----------
    .. [1] Kabsch, Acta Cryst. A34, 827 (1978).

    Examples
    --------
    >>> frame = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    >>> turned = frame @ np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) + 5.0
    >>> bool(np.allclose(superpose([frame, turned])[1], frame))
    True
    """
    x = as_frames(frames)
    chosen = _chosen(atoms, x.shape[1])
    if reference is not None:
        target = np.asarray(reference, dtype=np.float64)
        if target.shape != x.shape[1:]:
            raise InputError(f"reference must have shape {x.shape[1:]}, got {target.shape}")
        return _moved_onto(x, target, chosen)
    shares = as_frame_weights(weights, len(x))
    mean = x[0]
    for _ in range(MEAN_ROUNDS):
        x = _moved_onto(x, mean, chosen)
        previous, mean = mean, np.tensordot(shares, x, axes=1)
        if np.max(np.abs(mean - previous)) < MEAN_TOLERANCE:
            break
    else:
        logger.warning("superpose: the mean still moves after %d rounds", MEAN_ROUNDS)
    turns, shifts = _rigid_motions(mean[None], as_frames(frames)[0], chosen)
    placed: FloatArray = x @ turns + shifts
    return placed


@dataclass(frozen=True, eq=False)
class FrameMoments:
    """Mean and covariance of frames.

    Attributes
    ----------
    mean : ndarray, shape (n_atoms, 3), float64
        [Å]
    covariance : ndarray, shape (n_atoms, n_atoms, 3, 3), float64
        ``V_ij = ⟨δ_i δ_jᵀ⟩`` [Å²], unbiased: the weighted mean divided by 1 − Σw².
    n_frames : int
    """

    mean: FloatArray
    covariance: FloatArray
    n_frames: int


@dataclass(frozen=True, eq=False)
class FrameFactor:
    """Mean of frames and the largest principal components of their covariance.

    Attributes
    ----------
    mean : ndarray, shape (n_atoms, 3), float64
        [Å]
    factor : ndarray, shape (n_atoms, 3, rank), float64
        P [Å] of ``V ≈ P Pᵀ``, unbiased as in `FrameMoments`, largest component first.
    left_out : float
        Trace of what P Pᵀ lacks of the covariance [Å²], exact.
    n_frames : int
    """

    mean: FloatArray
    factor: FloatArray
    left_out: float
    n_frames: int


def streamed_moments(
    chunks: Iterable[ArrayLike],
    superpose_on: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> FrameMoments:
    """Gather mean and covariance of frames in one pass, whatever their number.

    Parameters
    ----------
    chunks : iterable of arrays, shape (n_chunk, n_atoms, 3)
        Cartesian [Å], as from `iter_frames`.
    superpose_on : array, shape (n_atoms, 3), optional
        Superpose every frame on this first.
    weights : array, shape (n_frames,), optional
        Of all frames in their order; None: all alike.

    Returns
    -------
    FrameMoments

    Raises
    ------
    InputError
        If there are fewer than two frames of weight, or shapes or numbers do not match.

    Notes
    -----
    Memory 9 n_atoms² numbers and a chunk; time 9 n_atoms² a frame. Chunks are joined by the
    formula for the sums of squares of two samples, so that nothing cancels.

    References
    ----------
    .. [1] Chan, Golub & LeVeque, Am. Stat. 37, 242 (1983).

    Examples
    --------
    >>> moments = streamed_moments([[[[0.0, 0.0, 0.0]]], [[[0.2, 0.0, 0.0]]]])
    >>> moments.mean.tolist(), float(moments.covariance[0, 0, 0, 0].round(6))
    ([[0.1, 0.0, 0.0]], 0.02)
    """
    sums = _Sums()
    squares = np.zeros((0, 0))
    for deviations in sums.gather(chunks, superpose_on, weights):
        if not len(squares):
            squares = np.zeros((deviations.shape[1],) * 2)
        squares += deviations.T @ deviations
    n = len(squares) // 3
    covariance = (sums.unbias() * squares).reshape(n, 3, n, 3).transpose(0, 2, 1, 3)
    return FrameMoments(sums.mean.reshape(n, 3), np.ascontiguousarray(covariance), sums.n_frames)


def streamed_factor(
    chunks: Iterable[ArrayLike],
    rank: int,
    superpose_on: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> FrameFactor:
    """Gather the mean and the ``rank`` largest principal components of frames in one pass.

    Parameters
    ----------
    chunks, superpose_on, weights
        As for `streamed_moments`.
    rank : int
        Components kept. With ``rank`` ≥ the number of frames, or 3 n_atoms, nothing is lost;
        otherwise what is cut after each chunk is counted in ``left_out``.

    Returns
    -------
    FrameFactor

    Raises
    ------
    InputError
        As `streamed_moments`, or if ``rank`` is below 1.

    Notes
    -----
    Memory 3 n_atoms (rank + n_chunk) numbers: for molecules whose whole covariance is too large.
    Time O(n_atoms (rank + n_chunk)²) a chunk.

    References
    ----------
    .. [1] Brand, Linear Algebra Appl. 415, 20 (2006).
    """
    if rank < 1:
        raise InputError(f"rank must be >= 1, got {rank}")
    sums = _Sums()
    factor, lost = np.zeros((0, 0)), 0.0
    for deviations in sums.gather(chunks, superpose_on, weights):
        rows = np.concatenate([factor, deviations]) if len(factor) else deviations
        _, sizes, directions = np.linalg.svd(rows, full_matrices=False)
        lost += float(np.sum(sizes[rank:] ** 2))
        factor = sizes[:rank, None] * directions[:rank]
    scale = sums.unbias()
    components = np.sqrt(scale) * factor.T
    return FrameFactor(
        sums.mean.reshape(-1, 3),
        np.ascontiguousarray(components.reshape(-1, 3, components.shape[1])),
        scale * lost,
        sums.n_frames,
    )


def as_frames(frames: ArrayLike) -> FloatArray:
    """Return frames as an array (n_frames, n_atoms, 3), float64, after checking them.

    Raises
    ------
    InputError
        If they have another shape, are none, or are not finite.
    """
    x = np.asarray(frames, dtype=np.float64)
    if x.ndim != 3 or x.shape[2] != 3 or not x.size:
        raise InputError(f"frames must be (n_frames, n_atoms, 3), none of them 0, got {x.shape}")
    if not np.all(np.isfinite(x)):
        raise InputError("frames must be finite, got NaN or infinity")
    return x


def as_frame_weights(weights: ArrayLike | None, n_frames: int) -> FloatArray:
    """Return weights of frames that sum to 1; None: all alike.

    Raises
    ------
    InputError
        If there is another number of them, one is negative or not finite, or all are 0.

    Examples
    --------
    >>> as_frame_weights([1, 3], 2).tolist(), as_frame_weights(None, 2).tolist()
    ([0.25, 0.75], [0.5, 0.5])
    """
    w = np.ones(n_frames) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (n_frames,):
        raise InputError(f"weights must be ({n_frames},), one a frame, got {w.shape}")
    if not np.all(np.isfinite(w)) or np.any(w < 0) or not np.any(w > 0):
        raise InputError("weights must be finite, >= 0 and not all 0")
    shares: FloatArray = w / w.sum()
    return shares


class _Sums:
    """Weight, mean and number of the frames seen so far."""

    def __init__(self) -> None:
        self.n_frames = 0
        self.weight = self.weight_squares = 0.0
        self.mean: FloatArray = np.zeros(0)

    def gather(
        self,
        chunks: Iterable[ArrayLike],
        superpose_on: ArrayLike | None,
        weights: ArrayLike | None,
    ) -> Iterator[FloatArray]:
        """Take in chunks; yield rows (n, 3 n_atoms) whose squares add up to those about the mean.

        Of each chunk: √w (x − its mean), and one row for the distance of its mean from the mean so
        far.
        """
        given = None if weights is None else np.asarray(weights, dtype=np.float64)
        if given is not None:
            as_frame_weights(given, given.size)
        for chunk in chunks:
            x = as_frames(chunk)
            if self.n_frames and 3 * x.shape[1] != len(self.mean):
                expected = len(self.mean) // 3
                raise InputError(f"chunks must all be of {expected} atoms, got {x.shape[1]}")
            if superpose_on is not None:
                x = superpose(x, superpose_on)
            flat = x.reshape(len(x), -1)
            first, self.n_frames = self.n_frames, self.n_frames + len(x)
            w = np.ones(len(x)) if given is None else given[first : self.n_frames]
            if len(w) != len(x):
                raise InputError(f"weights must be one a frame, got {len(w) + first}")
            if not len(self.mean):
                self.mean = np.zeros(flat.shape[1])
            weight = float(w.sum())
            if weight == 0.0:
                continue
            mean = (w / weight) @ flat
            total = self.weight + weight
            step = mean - self.mean
            rows = np.sqrt(w)[:, None] * (flat - mean)
            yield np.concatenate([rows, np.sqrt(self.weight * weight / total) * step[None]])
            self.mean = self.mean + (weight / total) * step
            self.weight, self.weight_squares = total, self.weight_squares + float(w @ w)
        if given is not None and self.n_frames != len(given):
            raise InputError(f"weights must be {self.n_frames}, one a frame, got {len(given)}")

    def unbias(self) -> float:
        """1 / [Σw (1 − Σw²)], Σw² of weights that sum to 1."""
        share = 1.0 - self.weight_squares / self.weight**2 if self.weight else 0.0
        if share <= 0.0:
            raise InputError(f"frames must be at least 2 with weight, got {self.n_frames} in all")
        return 1.0 / (self.weight * share)


def _chosen(atoms: ArrayLike | None, n_atoms: int) -> IntArray:
    """Indices of the atoms that a mask or indices name."""
    every: IntArray = np.arange(n_atoms)
    if atoms is None:
        return every
    named = np.asarray(atoms)
    if not named.size:
        raise InputError(f"atoms must name some of the {n_atoms} atoms, got none")
    try:
        chosen: IntArray = every[named]
    except IndexError:
        raise InputError(
            f"atoms must be a mask or indices of the {n_atoms} atoms, got {named.dtype} "
            f"of shape {named.shape}, up to {named.max()}"
        ) from None
    return chosen


def _moved_onto(x: FloatArray, target: FloatArray, chosen: IntArray) -> FloatArray:
    turns, shifts = _rigid_motions(x, target, chosen)
    moved: FloatArray = x @ turns + shifts
    return moved


def _rigid_motions(
    x: FloatArray, target: FloatArray, chosen: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Rotations (n_frames, 3, 3), from the right, and shifts (n_frames, 1, 3) onto the target."""
    centres = x[:, chosen].mean(axis=1, keepdims=True)
    middle = target[chosen].mean(axis=0)
    products = (x[:, chosen] - centres).transpose(0, 2, 1) @ (target[chosen] - middle)
    u, _, wt = np.linalg.svd(products)
    # A reflection may fit better still: then the direction that matters least is turned back.
    u[:, :, 2] *= np.sign(np.linalg.det(u @ wt))[:, None]
    turns = u @ wt
    return turns, middle - centres @ turns
