r"""Diffuse intensity at scattered q of one copy of a set of atoms, for any covariance.

.. math:: I(\mathbf q) = \sum_{ij} a_i^* a_j \left[e^{\mathbf q^T V_{ij} \mathbf q} - 1\right],
          \quad a_i = f_i e^{i \mathbf q \cdot \mathbf r_i - \frac12 \mathbf q^T V_{ii} \mathbf q}

With ``D_ij = V_ii + V_jj − V_ij − V_ji``, the covariance of the relative displacement, this is the
transform of a Patterson function of one Gaussian per pair, less the Bragg part:

.. math:: I = \sum_{ij} f_i f_j \cos(\mathbf q \cdot \mathbf r_{ij})
          e^{-\frac12 \mathbf q^T D_{ij} \mathbf q} - |F|^2

One function, several methods. Arrays in, arrays out: no files, no symmetry.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray
from offbragg.errors import InputError
from offbragg.scattering import _kernels
from offbragg.scattering.arguments import as_scattered_atoms
from offbragg.scattering.displacements import check_covariance
from offbragg.scattering.engine import DEFAULT_MEMORY, METHODS
from offbragg.scattering.gemm import diffuse_gemm
from offbragg.scattering.one_phonon import one_phonon_intensity
from offbragg.scattering.sampling import sampled_intensity
from offbragg.scattering.scattered import pair_nufft_at, splat_at

_NO_ISOTROPIC, _NO_ANISOTROPIC = np.empty((0, 0)), np.empty((0, 0, 0, 0))
# Terms of the double sum from which matrix products are faster, and the q that they need for it.
_GEMM_TERMS, _GEMM_Q = 1e8, 200


def diffuse_intensity(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray,
    method: str = "auto",
    rtol: float = 1e-6,
    max_memory: float = DEFAULT_MEMORY,
    n_samples: int = 1000,
    rng: np.random.Generator | None = None,
) -> FloatArray:
    r"""Diffuse intensity at scattered q for a covariance, exact in the Gaussian approximation.

    .. math:: I(\mathbf q) = \sum_{ij} a_i^* a_j [e^{\mathbf q^T V_{ij} \mathbf q} - 1]

    Parameters
    ----------
    q : ndarray, shape (n_q, 3), float64
        Scattering vectors, Cartesian [Å⁻¹], 2π included.
    positions : ndarray, shape (n_atoms, 3), float64
        Cartesian [Å].
    form_factors : ndarray, shape (n_q, n_atoms), float64 or complex128
        At ``q``, occupancies included [electrons]; complex with anomalous scattering.
    covariance : ndarray, shape (n_atoms, n_atoms) or (n_atoms, n_atoms, 3, 3), float64
        ``V_ij`` [Å²]; the first form is isotropic, the covariance per Cartesian axis.
    method : {"auto", "direct", "gemm", "splat", "pair-nufft", "one-phonon", "sampled"}
        "direct": the double sum over atoms, O(n_q n_atoms²), about 5 ns a term and core. "gemm":
        matrix products, isotropic V, ten times faster for many q. "splat": one Gaussian a pair
        and a NUFFT from their grid; "pair-nufft": NUFFTs from the pairs, isotropic V; both for
        very many q and few kinds of atoms. "one-phonon": first order in V, an approximation.
        "sampled": mean over random draws. "auto": "gemm" or "direct", whichever is faster.
    rtol : float
        Relative error asked for, of the mean intensity; the direct sum is exact to rounding.
    max_memory : float
        Bytes that the work arrays may take.
    n_samples : int
        Draws of "sampled"; its standard error is what `offbragg.scattering.sampled_intensity`
        also returns.
    rng : numpy.random.Generator, optional
        Needed by "sampled".

    Returns
    -------
    ndarray, shape (n_q,), float64
        [e²], of this one copy.

    Raises
    ------
    InputError
        If a shape does not match, the covariance is not symmetric, or the method is unknown or
        cannot do what is asked.

    Examples
    --------
    One atom, U = 0.1 Å²: f² (1 − exp(−q² U)).

    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> diffuse_intensity(q, np.zeros((1, 3)), np.array([[6.0]]), one).round(4)
    array([3.4259])
    """
    atoms = _checked(q, positions, form_factors, covariance)
    q, positions, form_factors, v = atoms
    if method not in METHODS:
        raise InputError(f"method must be one of {' '.join(METHODS)}, got {method!r}")
    if not 0 < rtol < 1:
        raise InputError(f"rtol must be between 0 and 1, got {rtol}")
    if method in ("gemm", "pair-nufft") and v.ndim != 2:
        raise InputError(f"method {method!r} needs an isotropic covariance (n, n), got {v.shape}")
    if method == "auto":
        method = _fastest(len(q), v)
    if method == "sampled":
        if rng is None:
            raise InputError("method 'sampled' needs rng, a numpy.random.Generator")
        return sampled_intensity(*atoms, n_samples, rng, max_memory)[0]
    if method == "direct":
        return _direct(*atoms)
    chosen = {
        "gemm": diffuse_gemm,
        "splat": splat_at,
        "pair-nufft": pair_nufft_at,
        "one-phonon": one_phonon_intensity,
    }[method]
    return chosen(*atoms, rtol, max_memory)


def _checked(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray,
) -> tuple[FloatArray, FloatArray, NDArray[np.inexact], FloatArray]:
    """The arguments as arrays that fit each other."""
    q, positions, form_factors = as_scattered_atoms(q, positions, form_factors)
    return q, positions, form_factors, check_covariance(covariance, len(positions))


def _fastest(n_q: int, v: FloatArray) -> str:
    """The faster of the methods that keep any rtol."""
    work = float(n_q) * len(v) ** 2
    return "gemm" if v.ndim == 2 and work > _GEMM_TERMS and n_q > _GEMM_Q else "direct"


def _direct(
    q: FloatArray, positions: FloatArray, form_factors: NDArray[np.inexact], v: FloatArray
) -> FloatArray:
    """The double sum over atoms."""
    intensity = np.empty(len(q))
    # Of one layout, whatever was given: the loop is compiled for each anew.
    real = np.require(form_factors.real, np.float64, ["C", "W"])
    imaginary = np.require(form_factors.imag, np.float64, ["C", "W"])
    isotropic = v if v.ndim == 2 else _NO_ISOTROPIC
    anisotropic = v if v.ndim == 4 else _NO_ANISOTROPIC
    _kernels.diffuse_direct(q, positions, real, imaginary, isotropic, anisotropic, intensity)
    return intensity
