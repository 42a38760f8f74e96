"""Structure, disorder model and grid → computed map: disorder meets scattering and symmetry.

Copies of the coherent unit (the asymmetric unit unless the model says otherwise) scatter
independently: the intensity of one copy is made on a half lattice and summed over the operations
of the space group, ``I(h) = Σ_g I_copy(h R_g)``, centring included.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from offbragg.conventions import TWO_PI, FloatArray, IntArray
from offbragg.crystal.cell import check_cells_agree
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.symmetry import (
    check_group_fits_cell,
    lattice_matrices,
    space_group_operations,
)
from offbragg.disorder.base import DisorderModel
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.provenance import make_step
from offbragg.scattering import _kernels
from offbragg.scattering.bragg import interference
from offbragg.scattering.gaussian import DEFAULT_RTOL
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.structure_factors import structure_factors_on_lattice

PARTS = ("diffuse", "bragg", "total")
# Bragg intensities dwarf the diffuse ones on the same map: structure factors to this share of F(0).
_BRAGG_TOLERANCE = 1e-7


@dataclass(frozen=True)
class SimulationOptions:
    """What `simulate` is told beside structure, model and grid; see there."""

    part: str = "diffuse"
    adps: str = "model"
    crystal_size: tuple[int, int, int] | None = None
    rtol: float = DEFAULT_RTOL
    voxel_average: bool = False

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise InputError(f"part must be one of {' '.join(PARTS)}, got {self.part!r}")
        size = self.crystal_size
        if size is not None and (np.shape(size) != (3,) or any(n < 1 or n != int(n) for n in size)):
            raise InputError(f"crystal_size must be three whole numbers >= 1, got {size}")
        if not 0 < self.rtol < 1:
            raise InputError(f"rtol must be between 0 and 1, got {self.rtol}")


def simulate(
    structure: AtomicStructure,
    model: DisorderModel,
    grid: HklGrid,
    part: str = "diffuse",
    adps: str = "model",
    *,
    crystal_size: tuple[int, int, int] | None = None,
    rtol: float = DEFAULT_RTOL,
    voxel_average: bool = False,
) -> DiffuseMap:
    """Compute the map of a structure that moves as a disorder model says.

    Parameters
    ----------
    structure : AtomicStructure
        One asymmetric unit; its cell gives q, its space group the copies.
    model : DisorderModel
    grid : HklGrid
        Voxels to compute. Its hkl count: the result has the structure's cell.
    part : {"diffuse", "bragg", "total"}
        "bragg": of the infinite crystal, averaged over the voxel (``n_a n_b n_c |F|²`` at integer
        hkl, 0 elsewhere; n the sampling), or of a finite crystal where ``crystal_size`` is given.
    adps : {"model", "file"}
        "model": V_ii from the model alone. "file": V_ii = the structure's U_i, the remainder
        moving uncorrelated. Bragg and diffuse part use the same.
    crystal_size : 3 int, optional
        Cells of a finite crystal along a, b, c, for the Bragg part.
    rtol : float
        Largest error wanted, as a fraction of the mean diffuse intensity.
    voxel_average : bool
        Give the diffuse part as its mean over each voxel, as a map of averaged pixels has it,
        instead of its value at the voxel's centre. Twice the work.

    Returns
    -------
    DiffuseMap
        e² per unit cell; NaN beyond ``grid.d_min``.

    Raises
    ------
    InputError
        If the structure has no cell or one more than 3 % off the grid's, if the sampling differs
        on axes that the space group mixes, or an option is none of the above.

    Notes
    -----
    A model with correlations takes O(n_atoms²) time, otherwise O(n_atoms), plus a few FFTs.
    """
    options = SimulationOptions(part, adps, crystal_size, rtol, voxel_average)
    cell = structure.require_cell()
    check_cells_agree(cell, grid.cell, "structure and grid")
    rotations = space_group_operations(structure.space_group).rotations
    check_group_fits_cell(cell, rotations, f"space group {structure.space_group}")
    own_grid = replace(grid, cell=cell)
    wanted = grid.within()
    q_max = TWO_PI * float(np.max(own_grid.inv_d()[wanted], initial=0.0))
    if q_max == 0.0:
        raise InputError("grid must hold a voxel other than hkl = 0 within d_min")
    intensity = np.zeros(grid.shape)
    if part in ("diffuse", "total"):
        intensity += _diffuse(structure, model, own_grid, q_max, options)
    if part in ("bragg", "total"):
        intensity += _bragg(structure, model, own_grid, q_max, options)
    intensity[~wanted] = np.nan
    step = make_step("simulate", options, model=repr(model), n_atoms=structure.n_atoms)
    return DiffuseMap(own_grid, intensity, structure.space_group, provenance=(step,))


def _diffuse(
    structure: AtomicStructure,
    model: DisorderModel,
    grid: HklGrid,
    q_max: float,
    options: SimulationOptions,
) -> FloatArray:
    """Diffuse intensity of a cell: one copy's, summed over the operations."""
    unit = model.coherent_unit(structure)
    rotations = lattice_matrices(space_group_operations(unit.space_group).rotations, grid.sampling)
    lattice = lattice_for(grid, rotations, q_max)
    intensity = np.zeros(grid.shape)
    for voxel, alike in _voxels(unit.space_group, grid.sampling, averaged=options.voxel_average):
        part = replace(lattice, voxel=voxel)
        copy = model.diffuse_on_lattice(part, unit, options.adps, options.rtol)
        intensity += gather(copy, part, grid, rotations[alike])
    return intensity


def _voxels(
    space_group: str, sampling: tuple[int, int, int], *, averaged: bool
) -> list[tuple[FloatArray | None, IntArray]]:
    """Voxels that a copy's intensity is averaged over, and the operations that take each.

    Copy g takes the mean over the voxel turned by its operation, edges ``e R_g``. Operations that
    only permute and reverse the edges share one; those of hexagonal axes shear the voxel.
    """
    rotations = space_group_operations(space_group).rotations
    if not averaged:
        return [(None, np.arange(len(rotations)))]
    edges = rotations / np.array(sampling, dtype=np.float64)[None, :, None]
    classes: dict[tuple[tuple[float, ...], ...], list[int]] = {}
    for number, turned in enumerate(edges):
        # An edge and its reverse are the same; so is any order of the three.
        kept = [max(tuple(edge + 0.0), tuple(0.0 - edge)) for edge in turned.round(9)]
        classes.setdefault(tuple(sorted(kept)), []).append(number)
    return [(np.array(key), np.array(members)) for key, members in classes.items()]


def _bragg(
    structure: AtomicStructure,
    model: DisorderModel,
    grid: HklGrid,
    q_max: float,
    options: SimulationOptions,
) -> FloatArray:
    """Bragg intensity of a cell, from all of its atoms damped by the model's V_ii."""
    unit = model.coherent_unit(structure)
    u_aniso = model.with_adps(unit, options.adps).u_aniso(unit.n_atoms)
    atoms = replace(unit, u_aniso=u_aniso).to_p1()
    identity = np.eye(3, dtype=np.int64)[None]
    lattice = lattice_for(grid, identity, q_max)
    f_cell = structure_factors_on_lattice(
        lattice, atoms.positions, atoms.elements, atoms.occupancies, atoms.u_aniso,
        _BRAGG_TOLERANCE,
    )  # fmt: skip
    intensity = gather(f_cell.real**2 + f_cell.imag**2, lattice, grid, identity)
    if options.crystal_size is None:
        return np.where(grid.is_node(), float(np.prod(grid.sampling)) * intensity, 0.0)
    axes = (grid.h[:, None, None], grid.k[None, :, None], grid.l[None, None, :])
    for axis, n_cells in zip(axes, options.crystal_size, strict=True):
        intensity = intensity * interference(axis, n_cells)
    return intensity


def lattice_for(grid: HklGrid, rotations: IntArray, q_max: float) -> HalfLattice:
    """Return the half lattice that holds the images of a grid's voxels within q_max."""
    first = grid.first_index
    ends = np.stack([first, first + np.array(grid.shape) - 1], axis=1)
    corners = np.array(list(itertools.product(*ends)))
    images = np.max(np.abs(np.einsum("ci,gij->gcj", corners, rotations)), axis=(0, 1))
    edges = np.array(grid.cell[:3]) * np.array(grid.sampling)
    sphere = np.floor(q_max * edges / TWO_PI * (1 + 1e-9)).astype(np.int64)
    m_x, m_y, m_z = (int(x) for x in np.minimum(images, sphere))
    return HalfLattice(grid.cell, grid.sampling, (m_x, m_y, m_z), q_max)


def gather(
    half: FloatArray, lattice: HalfLattice, grid: HklGrid, rotations: IntArray
) -> FloatArray:
    """Sum a half lattice's values over the images of each voxel, shape ``grid.shape``."""
    out = np.empty(grid.shape)
    extent = np.array(lattice.extent)
    _kernels.gather_orbit(half, extent, grid.first_index, rotations, out)
    return out
