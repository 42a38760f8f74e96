"""Flat bulk solvent: its mask, its share of Bragg structure factors, its fit to measured ones."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter

import gemmi
import numpy as np
import scipy.fft
import scipy.optimize
from numpy.typing import ArrayLike, NDArray

from offbragg.conventions import TWO_PI, BoolArray, ComplexArray, FloatArray
from offbragg.crystal.cell import Cell, as_cell
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.symmetry import as_space_group, space_group_operations
from offbragg.errors import InputError

#: What proteins have, near enough [e/Å³, Å²]: Fokine & Urzhumtsev (2002).
K_SOL, B_SOL = 0.35, 46.0

_RADII = {
    "cctbx": gemmi.AtomicRadiiSet.Cctbx,
    "refmac": gemmi.AtomicRadiiSet.Refmac,
    "van der waals": gemmi.AtomicRadiiSet.VanDerWaals,
}
_LARGEST_K_SOL, _LARGEST_B_SOL, _LARGEST_U = 1.5, 500.0, 5.0
# Where the fit starts from: it has local minima where the solvent is damped away.
_STARTS = ((0.35, 46.0), (0.3, 150.0), (0.6, 20.0))


def solvent_mask(
    structure: AtomicStructure, spacing: float = 0.5, radii: str = "cctbx"
) -> FloatArray:
    """Mark the places of the unit cell that no atom of any copy takes up.

    A point is solvent if it lies outside the atoms' radii widened by a probe, or within the
    shrinkage radius of such a point (Jiang & Brünger), by gemmi.

    Parameters
    ----------
    structure : AtomicStructure
        Waters that are in it are atoms like others: they keep the solvent out. Give
        ``structure.select("not water")`` to let the solvent fill their places; then leave them
        out of the structure factors too. Hydrogens and atoms of occupancy 0 are ignored, all
        others exclude the solvent wholly, whatever their occupancy.
    spacing : float
        Largest distance of grid points [Å]; a quarter of d_min is fine enough.
    radii : {"cctbx", "refmac", "van der waals"}
        Atomic radii, with the probe and shrinkage radii that belong to them: 1.1 and 0.9 Å,
        1.0 and 0.8, 1.0 and 1.1.

    Returns
    -------
    ndarray, shape (n_x, n_y, n_z), float64
        1 in the solvent, 0 elsewhere; axes along a, b, c, the first point at the origin.

    Raises
    ------
    InputError
        If the structure has no cell, the radii no such name, or the spacing is not above 0.

    Notes
    -----
    Time O(n_atoms) and O(points). The mask has the symmetry of the space group.

    References
    ----------
    .. [1] Jiang & Brünger, J. Mol. Biol. 243, 100 (1994).
    """
    cell = structure.require_cell()
    if radii not in _RADII:
        raise InputError(f"radii must be one of {', '.join(_RADII)}, got {radii!r}")
    if not 0 < spacing < np.inf:
        raise InputError(f"spacing must be > 0 Å, got {spacing}")
    grid = gemmi.FloatGrid()
    grid.spacegroup = as_space_group(structure.space_group, cell)
    grid.set_unit_cell(gemmi.UnitCell(*cell))
    grid.set_size_from_spacing(spacing, gemmi.GridSizeRounding.Up)
    masker = gemmi.SolventMasker(_RADII[radii])
    masker.put_mask_on_float_grid(grid, _as_model(structure))
    mask: FloatArray = np.array(grid.array, dtype=np.float64)
    return mask


def mask_structure_factors(mask: FloatArray, cell: object, hkl: ArrayLike) -> ComplexArray:
    r"""Transform a mask: the structure factors of a density of 1 e/Å³ in the solvent.

    .. math:: F_{\mathrm{mask}}(\mathbf h) = \frac{V}{N} \sum_{\mathbf x}
              m(\mathbf x)\, e^{+2\pi i\, \mathbf h \cdot \mathbf x}

    Parameters
    ----------
    mask : ndarray, shape (n_x, n_y, n_z), float64
        Of the whole cell, as `solvent_mask` gives it.
    cell : Cell or anything that `as_cell` takes
    hkl : array_like, shape (n, 3)
        Whole numbers.

    Returns
    -------
    ndarray, shape (n,), complex128
        [Å³] per cell.

    Raises
    ------
    InputError
        If indices are not whole, or beyond half the mask's points along an axis.

    Examples
    --------
    >>> half = np.repeat([1.0, 0.0], 4)[:, None, None]
    >>> cell = (10, 10, 10, 90, 90, 90)
    >>> abs(mask_structure_factors(half, cell, [[0, 0, 0], [2, 0, 0]])).round(6).tolist()
    [500.0, 0.0]
    """
    indices = _checked_hkl(hkl)
    sizes = np.array(mask.shape)
    if indices.size and np.any(2 * np.abs(indices).max(axis=0) >= np.maximum(sizes, 2)):
        raise InputError(
            f"hkl must be below half the mask's points {tuple(mask.shape)}, got up to "
            f"{np.abs(indices).max(axis=0).tolist()}: give a finer spacing"
        )
    half = scipy.fft.rfftn(mask)
    # The transform has −2πi and l ≥ 0 only: F(h) = conj(X(h)) = X(−h).
    sign = np.where(indices[:, 2] > 0, 1, -1)
    h, k, l = (indices * sign[:, None]).T  # noqa: E741
    values = half[h % sizes[0], k % sizes[1], np.abs(l)]
    f_mask: ComplexArray = np.where(sign > 0, values.conj(), values)
    return f_mask * (as_cell(cell).volume / mask.size)


def solvent_structure_factors(
    structure: AtomicStructure,
    hkl: ArrayLike,
    k_sol: float = K_SOL,
    b_sol: float = B_SOL,
    spacing: float | None = None,
    radii: str = "cctbx",
) -> ComplexArray:
    r"""Structure factors of a flat bulk solvent round a structure, to be added to the atoms'.

    .. math:: F_{\mathrm{sol}}(\mathbf h) = k_{\mathrm{sol}}\, e^{-B_{\mathrm{sol}}
              (\sin\theta/\lambda)^2} F_{\mathrm{mask}}(\mathbf h)

    Parameters
    ----------
    structure : AtomicStructure
        As for `solvent_mask`: what it says of waters and hydrogens.
    hkl : array_like, shape (n, 3)
        Whole numbers: the solvent is flat, so that it adds to the mean structure alone, and
        nothing to the diffuse intensity.
    k_sol : float
        Electron density of the solvent [e/Å³]; water has 0.334.
    b_sol : float
        Smearing of its surface [Å²], a B (8π²U).
    spacing : float, optional
        Of the mask [Å]. None: a quarter of the smallest d among ``hkl``, at most 0.6 Å.
    radii : {"cctbx", "refmac", "van der waals"}

    Returns
    -------
    ndarray, shape (n,), complex128
        [electrons] per cell, phases as of ``Σ f exp(+iq·r)``.

    Raises
    ------
    InputError
        As `solvent_mask` and `mask_structure_factors`, or if ``k_sol`` or ``b_sol`` is negative.
    """
    if not (0 <= k_sol < np.inf and 0 <= b_sol < np.inf):
        raise InputError(f"k_sol and b_sol must be >= 0, got {k_sol} e/Å³ and {b_sol} Å²")
    cell, indices = structure.require_cell(), _checked_hkl(hkl)
    stol2 = _stol2(indices, cell)
    if spacing is None:
        largest = float(np.max(stol2, initial=0.0))
        spacing = min(0.6, 0.125 / np.sqrt(largest)) if largest > 0 else 0.6
    f_mask = mask_structure_factors(solvent_mask(structure, spacing, radii), cell, indices)
    return k_sol * np.exp(-b_sol * stol2) * f_mask


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
    indices, checked = _checked_hkl(hkl), as_cell(cell)
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
        self.stol2 = _stol2(hkl, cell)

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


def _as_model(structure: AtomicStructure) -> gemmi.Model:
    """All atoms in one residue: the masker asks for elements, positions and occupancies only."""
    residue = gemmi.Residue()
    for element, position, occupancy in zip(
        structure.elements, structure.positions, structure.occupancies, strict=True
    ):
        atom = gemmi.Atom()
        atom.element = gemmi.Element(str(element))
        atom.pos = gemmi.Position(*position.tolist())
        atom.occ = float(occupancy)
        residue.add_atom(atom)
    chain = gemmi.Chain("A")
    chain.add_residue(residue)
    model = gemmi.Model(1)
    model.add_chain(chain)
    return model


def _checked_hkl(hkl: ArrayLike) -> NDArray[np.int64]:
    values = np.asarray(hkl, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != 3:
        raise InputError(f"hkl must be (n, 3), got {values.shape}")
    whole: BoolArray = values == np.rint(values)
    if not np.all(whole):
        raise InputError(f"hkl must be whole numbers, got {values[~whole.all(axis=1)][0].tolist()}")
    return values.astype(np.int64)


def _stol2(hkl: NDArray[np.int64], cell: Cell) -> FloatArray:
    """(sin θ/λ)² [Å⁻²], a quarter of 1/d²."""
    stol2: FloatArray = np.sum((hkl @ cell.frac_matrix) ** 2, axis=1) / 4.0
    return stol2
