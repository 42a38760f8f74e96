"""Scale, bulk solvent and overall displacement that fit measured Bragg amplitudes best."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike, NDArray

from offbragg.conventions import TWO_PI, ComplexArray, FloatArray
from offbragg.crystal.cell import Cell, as_cell
from offbragg.crystal.solvent import checked_hkl, stol_squared
from offbragg.crystal.symmetry import as_space_group, space_group_operations
from offbragg.errors import InputError

_LARGEST_K_SOL, _LARGEST_B_SOL, _LARGEST_U = 1.5, 500.0, 5.0
# Where the fit starts from: it has local minima where the solvent is damped away.
_STARTS = ((0.35, 46.0), (0.3, 150.0), (0.6, 20.0))


@dataclass(frozen=True, eq=False)
class SolventFit:
    """Scale and bulk solvent that bring calculated amplitudes nearest to measured ones.

    Attributes
    ----------
    scale : float
        What ``|F_protein + F_solvent|`` was multiplied by.
    k_sol, b_sol : float
        Solvent [e/Å³, Å²]; 0 and 0 where there was no mask.
    u_aniso : ndarray, shape (3, 3), float64
        Overall mean-square displacement U [Å²], Cartesian, beyond what F_protein has, of the
        crystal's symmetry; it may be negative. It damps the protein and the solvent alike.
    r_factor : float
        ``Σ |F_obs − F_calc| / Σ F_obs``.
    f_calc : ndarray, shape (n,), complex128
        ``scale · exp(−½ qᵀUq) (F_protein + k_sol exp(−b_sol stol²) F_mask)``, on the data's scale.
    """

    scale: float
    k_sol: float
    b_sol: float
    u_aniso: FloatArray
    r_factor: float
    f_calc: ComplexArray


def fit_scale_and_solvent(
    f_obs: FloatArray,
    hkl: ArrayLike,
    cell: object,
    f_protein: ComplexArray,
    f_mask: ComplexArray | None = None,
    *,
    space_group: object = "P 1",
    anisotropic: bool = True,
) -> SolventFit:
    r"""Fit a scale, a bulk solvent and an overall U to measured amplitudes, by least squares.

    .. math:: \min \sum_{\mathbf h} \left[ F_{\mathrm{obs}} - k\, e^{-\frac12 \mathbf q^T U
              \mathbf q} \left| F_{\mathrm{protein}} + k_{\mathrm{sol}} e^{-B_{\mathrm{sol}}
              (\sin\theta/\lambda)^2} F_{\mathrm{mask}} \right| \right]^2

    Parameters
    ----------
    f_obs : ndarray, shape (n,), float64
        Measured amplitudes, √max(I, 0), on any scale; all count alike.
    hkl : array_like, shape (n, 3)
        Whole numbers.
    cell : Cell or anything that `as_cell` takes
        Of the structure: hkl decides, whatever cell the data came with.
    f_protein : ndarray, shape (n,), complex128
        Of all atoms of the cell, damped by their U [electrons].
    f_mask : ndarray, shape (n,), complex128, optional
        From `mask_structure_factors` [Å³]. None: no solvent.
    space_group : str, optional
        The overall U keeps to its symmetry.
    anisotropic : bool
        Fit an overall U; otherwise it is 0.

    Returns
    -------
    SolventFit

    Raises
    ------
    InputError
        If a shape does not match, a value is not finite, or an amplitude is negative or all are 0.

    Notes
    -----
    The scale is eliminated at every step. Some ten steps of O(n), from three starts of k_sol
    and b_sol.

    References
    ----------
    .. [1] Fokine & Urzhumtsev, Acta Cryst. D58, 1387 (2002).
    """
    indices, checked = checked_hkl(hkl), as_cell(cell)
    observed = np.asarray(f_obs, dtype=np.float64)
    mask = np.zeros(len(indices), dtype=np.complex128) if f_mask is None else np.asarray(f_mask)
    protein = np.asarray(f_protein)
    for name, values in (("f_obs", observed), ("f_protein", protein), ("f_mask", mask)):
        if values.shape != (len(indices),):
            raise InputError(f"{name} must be {(len(indices),)} as hkl is, got {values.shape}")
        if not np.all(np.isfinite(values)):
            raise InputError(f"{name} must be finite, got NaN or infinity")
    if np.any(observed < 0) or not observed.any():
        raise InputError("f_obs must be amplitudes >= 0 and not all 0: the roots of intensities")
    terms = _overall_terms(space_group, checked) if anisotropic else np.zeros((0, 3, 3))
    problem = _Problem(observed, protein, mask, indices, checked, terms)
    starts = [np.zeros(0)] if f_mask is None else [np.array(start) for start in _STARTS]
    _, best = min((problem.solve(start) for start in starts), key=itemgetter(0))
    return problem.result(best)


class _Problem:
    """Residuals of a fit; parameters are k_sol and b_sol (or none), then weights of U's terms."""

    def __init__(
        self,
        observed: FloatArray,
        protein: ComplexArray,
        mask: ComplexArray,
        hkl: NDArray[np.int64],
        cell: Cell,
        terms: FloatArray,
    ) -> None:
        self.observed, self.protein, self.mask, self.terms = observed, protein, mask, terms
        self.q = TWO_PI * hkl @ cell.frac_matrix
        self.stol2 = stol_squared(hkl, cell)

    def solve(self, start: FloatArray) -> tuple[float, FloatArray]:
        """Least squares from a start of k_sol and b_sol, or of nothing: cost and parameters."""
        n_solvent, n_terms = len(start), len(self.terms)
        if n_solvent + n_terms == 0:
            return 0.0, start
        limits = np.array([[0.0, 0.0], [_LARGEST_K_SOL, _LARGEST_B_SOL]])[:, :n_solvent]
        overall = np.full(n_terms, _LARGEST_U)
        found = scipy.optimize.least_squares(
            self.residuals,
            np.concatenate([start, np.zeros(n_terms)]),
            bounds=(np.append(limits[0], -overall), np.append(limits[1], overall)),
            x_scale=np.append([0.1, 20.0][:n_solvent], np.full(n_terms, 0.1)),
            xtol=1e-10,
            ftol=1e-12,
        )
        return float(found.cost), np.asarray(found.x, dtype=np.float64)

    def residuals(self, x: FloatArray) -> FloatArray:
        """Differences of measured and calculated amplitudes."""
        return self.observed - np.abs(self.scaled(x))

    def unscaled(self, x: FloatArray) -> ComplexArray:
        """Structure factors on the absolute scale."""
        n_solvent = len(x) - len(self.terms)
        k_sol, b_sol = x[:n_solvent] if n_solvent else (0.0, 0.0)
        u = self.u_aniso(x)
        damping = np.exp(-0.5 * np.einsum("qx,xy,qy->q", self.q, u, self.q, optimize=True))
        f_calc: ComplexArray = damping * (
            self.protein + k_sol * np.exp(-b_sol * self.stol2) * self.mask
        )
        return f_calc

    def scaled(self, x: FloatArray) -> ComplexArray:
        """Structure factors on the scale of the data, the best for these parameters."""
        f_calc = self.unscaled(x)
        return self.scale(f_calc) * f_calc

    def scale(self, f_calc: ComplexArray) -> float:
        amplitude = np.abs(f_calc)
        square = float(amplitude @ amplitude)
        return float(amplitude @ self.observed) / square if square > 0 else 0.0

    def u_aniso(self, x: FloatArray) -> FloatArray:
        weights = x[len(x) - len(self.terms) :]
        u: FloatArray = np.einsum("t,txy->xy", weights, self.terms)
        return u

    def result(self, x: FloatArray) -> SolventFit:
        """Put the parameters together with what they give."""
        f_calc = self.scaled(x)
        has_solvent = len(x) > len(self.terms)
        misfit = float(np.abs(self.observed - np.abs(f_calc)).sum())
        return SolventFit(
            scale=self.scale(self.unscaled(x)),
            k_sol=float(x[0]) if has_solvent else 0.0,
            b_sol=float(x[1]) if has_solvent else 0.0,
            u_aniso=self.u_aniso(x),
            r_factor=misfit / float(self.observed.sum()),
            f_calc=f_calc,
        )


def _overall_terms(space_group: object, cell: Cell) -> FloatArray:
    """Orthonormal basis (n, 3, 3) of the symmetric tensors that a space group leaves alone."""
    rotations = space_group_operations(as_space_group(space_group, cell)).rotations
    turns = cell.orth_matrix @ rotations @ cell.frac_matrix
    i, j = np.triu_indices(3)
    units = np.zeros((6, 3, 3))
    units[np.arange(6), i, j] = np.where(i == j, 1.0, np.sqrt(0.5))
    units = np.maximum(units, units.transpose(0, 2, 1))
    averaged = np.mean(turns @ units[:, None] @ turns.transpose(0, 2, 1), axis=1)
    projector = np.einsum("txy,sxy->ts", averaged, units)
    values, vectors = np.linalg.eigh((projector + projector.T) / 2)
    terms: FloatArray = np.einsum("ts,txy->sxy", vectors[:, values > 0.5], units)
    return terms
