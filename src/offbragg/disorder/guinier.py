r"""Guinier averages of frames and their errors, from the frames' structure factors F_k.

.. math:: I(\mathbf q) = \frac{\sum_k w_k |F_k|^2 - |\sum_k w_k F_k|^2}{1 - \sum_k w_k^2},
          \quad \sum_k w_k = 1

divided so because the mean ⟨F⟩ comes from the same frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import ComplexArray, FloatArray
from offbragg.crystal.frames import as_frame_weights, as_frames
from offbragg.errors import InputError
from offbragg.runtime import iter_chunks
from offbragg.scattering.structure_factors import compute_structure_factors

# Phases in memory at once at scattered q: 16 MB.
_PHASES_AT_ONCE = 1 << 20

# Gives the structure factors of all frames, one after the other, each time it is called.
Amplitudes = Callable[[], Iterator[ComplexArray]]


def guinier_intensity(
    q: FloatArray,
    frames: ArrayLike,
    form_factors: FloatArray,
    weights: ArrayLike | None = None,
) -> FloatArray:
    r"""Diffuse intensity of frames at scattered q, by their structure factors F_k.

    .. math:: I = \frac{\sum_k w_k |F_k|^2 - |\sum_k w_k F_k|^2}{1 - \sum_k w_k^2}

    Parameters
    ----------
    q : ndarray, shape (n_q, 3), float64
        Scattering vectors, Cartesian [Å⁻¹], 2π included.
    frames : array, shape (n_frames, n_atoms, 3)
        Cartesian [Å].
    form_factors : ndarray, shape (n_q, n_atoms), float64 or complex128
        At ``q``, occupancies included [electrons]; the same for every frame.
    weights : array, shape (n_frames,), optional
        Made to sum to 1. None: all alike.

    Returns
    -------
    ndarray, shape (n_q,), float64
        [e²], of this one copy; never negative; unbiased for independent frames.

    Raises
    ------
    InputError
        If a shape does not match, or fewer than two frames have weight.

    Notes
    -----
    Time O(n_frames n_q n_atoms), about 30 ns a term; memory for a few arrays (n_q,).

    References
    ----------
    .. [1] Guinier, X-ray Diffraction in Crystals, Imperfect Crystals, and Amorphous Bodies (1963).

    Examples
    --------
    One atom at two places d apart: f² (1 − cos q·d).

    >>> q, frames = np.array([[1.0, 0.0, 0.0]]), [[[0.0, 0.0, 0.0]], [[np.pi, 0.0, 0.0]]]
    >>> guinier_intensity(q, frames, np.array([[6.0]])).round(6).tolist()
    [72.0]
    """
    x, shares = checked_frames(frames, weights)
    _, spread = mean_and_spread(amplitudes_at_points(q, x, form_factors), shares)
    return unbiasing_factor(shares) * spread


def guinier_error(
    q: FloatArray,
    frames: ArrayLike,
    form_factors: FloatArray,
    weights: ArrayLike | None = None,
    block_size: int = 1,
) -> FloatArray:
    r"""Standard error of `guinier_intensity`, by leaving out blocks of frames in turn (jackknife).

    .. math:: \sigma^2 = \frac{n-1}{n} \sum_{b=1}^{n} (I_{-b} - \overline{I_{-b}})^2

    Parameters
    ----------
    q, frames, form_factors, weights
        As for `guinier_intensity`.
    block_size : int
        Consecutive frames in a block; the last may have fewer. For a trajectory, longer than its
        frames are correlated: the error grows with the block until then.

    Returns
    -------
    ndarray, shape (n_q,), float64
        [e²]; with n blocks itself uncertain by some 1/√(2n) of it.

    Raises
    ------
    InputError
        As `guinier_intensity`, or if a block leaves fewer than two frames of weight.

    Notes
    -----
    Twice the time of `guinier_intensity`.

    References
    ----------
    .. [1] Künsch, Ann. Stat. 17, 1217 (1989).

    Examples
    --------
    >>> q, frames = np.array([[1.0, 0.0, 0.0]]), np.zeros((4, 1, 3))
    >>> guinier_error(q, frames, np.array([[6.0]])).tolist()
    [0.0]
    """
    x, shares = checked_frames(frames, weights)
    return jackknife_error(
        amplitudes_at_points(q, x, form_factors), shares, blocks_of_frames(shares, block_size)
    )


def checked_frames(frames: ArrayLike, weights: ArrayLike | None) -> tuple[FloatArray, FloatArray]:
    """Return frames as an array, and weights that sum to 1.

    Raises
    ------
    InputError
        As `as_frames` and `as_frame_weights`, or if fewer than two frames have weight.
    """
    x = as_frames(frames)
    shares = as_frame_weights(weights, len(x))
    n_weighty = np.count_nonzero(shares)
    if n_weighty < 2:
        raise InputError(f"frames must be at least 2 with weight, got {n_weighty} of {len(x)}")
    return x, shares


def unbiasing_factor(shares: FloatArray) -> float:
    """Return ``1 / (1 − Σw²)``, which makes the spread of weighted frames unbiased."""
    return float(1.0 / (1.0 - shares @ shares))


def amplitudes_at_points(q: FloatArray, frames: FloatArray, form_factors: FloatArray) -> Amplitudes:
    """Return a function that gives F [electrons] of each frame in turn at scattered q.

    Parameters are those of `guinier_intensity`, and so is its complaint about their shapes.
    """
    q = np.asarray(q, dtype=np.float64)
    expected = (len(q), frames.shape[1])
    if form_factors.shape != expected:
        raise InputError(f"form_factors must be {expected}, got {form_factors.shape}")
    chunks = list(iter_chunks(len(q), max(1, _PHASES_AT_ONCE // frames.shape[1])))

    def every() -> Iterator[ComplexArray]:
        for frame in frames:
            parts = [compute_structure_factors(q[c], frame, form_factors[c]) for c in chunks]
            yield np.concatenate(parts)

    return every


def mean_and_spread(amplitudes: Amplitudes, shares: FloatArray) -> tuple[ComplexArray, FloatArray]:
    """Gather ⟨F⟩ and ⟨|F − ⟨F⟩|²⟩, frame by frame, so that nothing cancels (West 1979).

    Parameters
    ----------
    amplitudes : function
        Gives F of every frame.
    shares : ndarray, shape (n_frames,), float64
        Weights that sum to 1.

    Returns
    -------
    mean : ndarray of the shape of F, complex128
    spread : ndarray of the shape of F, float64
    """
    total = 0.0
    mean: ComplexArray = np.zeros(1, dtype=np.complex128)
    spread: FloatArray = np.zeros(1)
    for share, f in zip(shares, amplitudes(), strict=True):
        if share == 0.0:
            continue
        total += share
        step = f - mean
        mean = mean + (share / total) * step
        left = f - mean
        spread = spread + share * (step.real * left.real + step.imag * left.imag)
    return mean, spread


def blocks_of_frames(shares: FloatArray, block_size: int) -> list[slice]:
    """Cut frames into blocks of consecutive ones.

    Raises
    ------
    InputError
        If ``block_size`` is below 1, or a block leaves fewer than two frames of weight.
    """
    if block_size < 1:
        raise InputError(f"block_size must be >= 1, got {block_size}")
    blocks = list(iter_chunks(len(shares), block_size))
    weighty = shares != 0
    if any(np.count_nonzero(weighty) - np.count_nonzero(weighty[b]) < 2 for b in blocks):
        raise InputError(
            "block_size must leave at least 2 frames of weight, "
            f"got {block_size} of {len(shares)} frames"
        )
    return blocks


def averages_left_out(
    amplitudes: Amplitudes,
    shares: FloatArray,
    mean: ComplexArray,
    spread: FloatArray,
    blocks: list[slice],
) -> Iterator[FloatArray]:
    """Yield Guinier averages without each block in turn, from ⟨F⟩ and spread of all frames.

    Parameters
    ----------
    amplitudes, shares, mean, spread
        What `mean_and_spread` takes and gives.
    blocks : list of slice
        From `blocks_of_frames`: every frame is in one, in order.
    """
    frames = amplitudes()
    for block in blocks:
        squares, moved = np.zeros(spread.shape), np.zeros(mean.shape, dtype=np.complex128)
        for share in shares[block]:
            f = next(frames) - mean
            squares += share * (f.real**2 + f.imag**2)
            moved += share * f
        rest = 1.0 - shares[block].sum()
        rest_squares = shares @ shares - shares[block] @ shares[block]
        squares += (moved.real**2 + moved.imag**2) / rest
        yield (spread - squares) / (rest - rest_squares / rest)


def jackknife_error(amplitudes: Amplitudes, shares: FloatArray, blocks: list[slice]) -> FloatArray:
    """Return the standard error of the Guinier average, of the shape of F: see `guinier_error`."""
    mean, spread = mean_and_spread(amplitudes, shares)
    whole = unbiasing_factor(shares) * spread
    total, squares = np.zeros(spread.shape), np.zeros(spread.shape)
    for rest in averages_left_out(amplitudes, shares, mean, spread, blocks):
        total += rest - whole
        squares += (rest - whole) ** 2
    n = len(blocks)
    error: FloatArray = np.sqrt((n - 1) / n * np.maximum(squares - total**2 / n, 0.0))
    return error
