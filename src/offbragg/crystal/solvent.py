"""Flat bulk solvent: its mask, and its share of Bragg structure factors."""

from __future__ import annotations

import gemmi
import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from offbragg.conventions import BoolArray, ComplexArray, FloatArray
from offbragg.crystal.cell import Cell, as_cell
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.symmetry import as_space_group
from offbragg.errors import InputError

#: What proteins have, near enough [e/Å³, Å²]: Fokine & Urzhumtsev (2002).
K_SOL, B_SOL = 0.35, 46.0

_RADII = {
    "cctbx": gemmi.AtomicRadiiSet.Cctbx,
    "refmac": gemmi.AtomicRadiiSet.Refmac,
    "van der waals": gemmi.AtomicRadiiSet.VanDerWaals,
}


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
    indices = checked_hkl(hkl)
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
    cell, indices = structure.require_cell(), checked_hkl(hkl)
    stol2 = stol_squared(indices, cell)
    if spacing is None:
        largest = float(np.max(stol2, initial=0.0))
        spacing = min(0.6, 0.125 / np.sqrt(largest)) if largest > 0 else 0.6
    f_mask = mask_structure_factors(solvent_mask(structure, spacing, radii), cell, indices)
    return k_sol * np.exp(-b_sol * stol2) * f_mask


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


def checked_hkl(hkl: ArrayLike) -> NDArray[np.int64]:
    """Return indices (n, 3) as int64.

    Raises
    ------
    InputError
        If they have another shape, or are not whole.

    Examples
    --------
    >>> checked_hkl([[1.0, 0.0, -2.0]]).tolist()
    [[1, 0, -2]]
    """
    values = np.asarray(hkl, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != 3:
        raise InputError(f"hkl must be (n, 3), got {values.shape}")
    whole: BoolArray = values == np.rint(values)
    if not np.all(whole):
        raise InputError(f"hkl must be whole numbers, got {values[~whole.all(axis=1)][0].tolist()}")
    return values.astype(np.int64)


def stol_squared(hkl: NDArray[np.int64], cell: Cell) -> FloatArray:
    """Return (sin θ/λ)² [Å⁻²], a quarter of 1/d², of each of (n, 3) indices."""
    stol2: FloatArray = np.sum((hkl @ cell.frac_matrix) ** 2, axis=1) / 4.0
    return stol2
