"""Structure, disorder model and grid → computed map: disorder meets scattering and symmetry.

Copies of the coherent unit (the asymmetric unit unless the model says otherwise) scatter
independently: the intensity of one copy is made on a half lattice and summed over the operations
of the space group, ``I(h) = Σ_g I_copy(h R_g)``, centring included.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from offbragg.conventions import TWO_PI, ComplexArray, FloatArray, IntArray
from offbragg.crystal.cell import check_cells_agree
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.solvent import solvent_structure_factors
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
from offbragg.runtime import SILENT, Progress
from offbragg.scattering import _kernels
from offbragg.scattering.bragg import interference
from offbragg.scattering.compton import compton_intensity
from offbragg.scattering.displacements import Displacements, LowRank
from offbragg.scattering.engine import DEFAULT_MEMORY, DEFAULT_RTOL, Engine
from offbragg.scattering.form_factors import anomalous_form_factor
from offbragg.scattering.gaussian import diffuse_intensity
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.on_lattice import sampled_on_lattice
from offbragg.scattering.pair_splat import PairSplat
from offbragg.scattering.pair_terms import PairSum
from offbragg.scattering.scatterers import Scatterers
from offbragg.scattering.structure_factors import structure_factors_on_lattice

PARTS = ("diffuse", "bragg", "total", "compton")
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
    method: str = "auto"
    max_memory: float = DEFAULT_MEMORY
    wavelength: float | None = None
    altlocs: str = "together"
    n_samples: int = 1000
    seed: int = 0
    bulk_solvent: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise InputError(f"part must be one of {' '.join(PARTS)}, got {self.part!r}")
        size = self.crystal_size
        if size is not None and (np.shape(size) != (3,) or any(n < 1 or n != int(n) for n in size)):
            raise InputError(f"crystal_size must be three whole numbers >= 1, got {size}")
        if self.bulk_solvent is not None:
            if np.shape(self.bulk_solvent) != (2,) or not np.all(np.isfinite(self.bulk_solvent)):
                raise InputError(
                    f"bulk_solvent must be k_sol [e/Å³] and b_sol [Å²], got {self.bulk_solvent}"
                )
            if self.part not in ("bragg", "total") or size is not None:
                raise InputError(
                    "bulk_solvent is for part 'bragg' or 'total' of the infinite crystal"
                )
        if self.method == "sampled" and self.part == "total":
            raise InputError("method 'sampled' is for part 'diffuse': Bragg parts are not sampled")
        _ = self.engine

    @property
    def engine(self) -> Engine:
        """What the scattering engine is told."""
        return Engine(
            self.method, self.rtol, self.max_memory, self.wavelength, self.altlocs,
            self.n_samples, self.seed,
        )  # fmt: skip


def simulate(  # noqa: PLR0913 - one keyword an option, as users write them
    structure: AtomicStructure,
    model: DisorderModel,
    grid: HklGrid,
    part: str = "diffuse",
    adps: str = "model",
    *,
    crystal_size: tuple[int, int, int] | None = None,
    rtol: float = DEFAULT_RTOL,
    voxel_average: bool = False,
    method: str = "auto",
    max_memory: float = DEFAULT_MEMORY,
    wavelength: float | None = None,
    altlocs: str = "together",
    n_samples: int = 1000,
    seed: int = 0,
    bulk_solvent: tuple[float, float] | None = None,
    progress: Progress = SILENT,
) -> DiffuseMap:
    """Compute the map of a structure that moves as a disorder model says.

    Parameters
    ----------
    structure : AtomicStructure
        One asymmetric unit; its cell gives q, its space group the copies.
    model : DisorderModel
    grid : HklGrid
        Voxels to compute. Its hkl count: the result has the structure's cell.
    part : {"diffuse", "bragg", "total", "compton"}
        "bragg": of the infinite crystal, averaged over the voxel (``n_a n_b n_c |F|²`` at integer
        hkl, 0 elsewhere; n the sampling), or of a finite crystal where ``crystal_size`` is given.
        "total": Bragg + diffuse, the elastic part. "compton": the inelastic part of the atoms of
        the cell, whatever the model.
    adps : {"model", "file"}
        "model": V_ii from the model alone. "file": V_ii = the structure's U_i, the remainder
        moving uncorrelated. Bragg and diffuse part use the same.
    crystal_size : 3 int, optional
        Cells of a finite crystal along a, b, c, for the Bragg part.
    rtol : float
        Largest error wanted, as a fraction of the mean diffuse intensity; default 1e-4.
    voxel_average : bool
        Give the diffuse part as its mean over each voxel, as a map of averaged pixels has it,
        instead of its value at the voxel's centre. Twice the work.
    method : {"auto", "splat", "pair-nufft", "gemm", "one-phonon", "sampled", "direct"}
        How the diffuse part is computed: see `offbragg.scattering.Engine`. "auto" takes the
        fastest that is exact. With "sampled" the map's sigma is the standard error.
    max_memory : float
        Bytes that work arrays may take beside the result; default 2e9.
    wavelength : float, optional
        [Å]. Given: anomalous scattering f′ + if″; then I(q) ≠ I(−q).
    altlocs : {"together", "exclusive"}
        "exclusive": two altlocs of one residue never coexist, and the disorder of their
        occupation scatters.
    n_samples, seed : int
        Draws of "sampled".
    bulk_solvent : two float, optional
        k_sol [e/Å³] and b_sol [Å²] of a flat bulk solvent around the molecules, which adds to the
        Bragg part alone; proteins have about (0.35, 46). None: vacuum.
    progress : Progress, optional
        Told of each transform of the diffuse part.

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
    A model with correlations takes O(n_atoms²) time, otherwise O(n_atoms), plus a few FFTs. A few
    voxels are summed directly instead.
    """
    chosen = SimulationOptions(
        part, adps, crystal_size, rtol, voxel_average, method, max_memory, wavelength, altlocs,
        n_samples, seed, bulk_solvent,
    )  # fmt: skip
    if structure.n_atoms == 0:
        raise InputError("structure must have at least one atom, got none")
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
    sigma = None
    if part in ("diffuse", "total"):
        if chosen.method == "sampled":
            diffuse, sigma = _sampled(structure, model, own_grid, q_max, chosen, progress)
            sigma[~wanted] = np.nan
        else:
            diffuse = _diffuse(structure, model, own_grid, q_max, chosen, progress)
        intensity += diffuse
    if part in ("bragg", "total"):
        intensity += _bragg(structure, model, own_grid, q_max, chosen)
    if part == "compton":
        atoms = structure.to_p1()
        q_squared = (TWO_PI * own_grid.inv_d()) ** 2
        intensity += compton_intensity(q_squared, atoms.elements, atoms.occupancies)
    intensity[~wanted] = np.nan
    step = make_step("simulate", chosen, model=repr(model), n_atoms=structure.n_atoms)
    return DiffuseMap(own_grid, intensity, structure.space_group, sigma, provenance=(step,))


def _diffuse(
    structure: AtomicStructure,
    model: DisorderModel,
    grid: HklGrid,
    q_max: float,
    options: SimulationOptions,
    progress: Progress,
) -> FloatArray:
    """Diffuse intensity of a cell: one copy's, summed over the operations."""
    unit = model.coherent_unit(structure)
    rotations = lattice_matrices(space_group_operations(unit.space_group).rotations, grid.sampling)
    lattice = lattice_for(grid, rotations, q_max)
    if _is_direct_faster(unit, model, grid, lattice, len(rotations), options):
        moves = model.with_adps(unit, options.adps)
        if moves.pairs is None:
            return _diffuse_directly(unit, moves, grid, rotations, options)
    intensity = np.zeros(grid.shape)
    engine = replace(options.engine, progress=progress)
    averaged = options.voxel_average
    for voxel, alike in voxel_classes(unit.space_group, grid.sampling, averaged=averaged):
        part = replace(lattice, voxel=voxel)
        copy = model.diffuse_on_lattice(part, unit, options.adps, engine)
        intensity += gather(copy, part, grid, rotations[alike])
    return intensity


def _sampled(
    structure: AtomicStructure,
    model: DisorderModel,
    grid: HklGrid,
    q_max: float,
    options: SimulationOptions,
    progress: Progress,
) -> tuple[FloatArray, FloatArray]:
    """Sampled diffuse intensity of a cell and its standard error."""
    if options.voxel_average or model.is_truncated or model.has_closed_form:
        raise InputError(
            "method 'sampled' needs a covariance within one unit, and values at voxel centres"
        )
    unit = model.coherent_unit(structure)
    rotations = lattice_matrices(space_group_operations(unit.space_group).rotations, grid.sampling)
    lattice = lattice_for(grid, rotations, q_max)
    scatterers = Scatterers(unit.positions, unit.elements, unit.occupancies)
    copy, error = sampled_on_lattice(
        lattice,
        scatterers,
        model.with_adps(unit, options.adps),
        replace(options.engine, progress=progress),
    )
    # Equivalents of one node come from the same draws: their errors add.
    return gather(copy, lattice, grid, rotations), gather(error, lattice, grid, rotations)


def _is_direct_faster(
    unit: AtomicStructure,
    model: DisorderModel,
    grid: HklGrid,
    lattice: HalfLattice,
    n_operations: int,
    options: SimulationOptions,
) -> bool:
    """Whether so few voxels are wanted that a double sum at each beats a whole lattice."""
    is_plain = (
        options.method == "auto"
        and options.altlocs == "together"
        and not options.voxel_average
        and not model.is_truncated
        and not model.has_closed_form
    )
    n_wanted = int(np.count_nonzero(grid.within())) * n_operations
    direct = n_wanted * float(unit.n_atoms) ** 2
    pairs = 1000.0 * float(unit.n_atoms) ** 2
    return is_plain and direct < 0.3 * (pairs + 200.0 * float(np.prod(lattice.shape)))


def _diffuse_directly(
    unit: AtomicStructure,
    displacements: Displacements,
    grid: HklGrid,
    rotations: IntArray,
    options: SimulationOptions,
) -> FloatArray:
    """Diffuse intensity of a cell by the double sum at each wanted voxel and its images."""
    covariance = displacements.dense(unit.n_atoms)
    wanted = grid.within()
    index = np.argwhere(wanted) + grid.first_index
    scatterers = Scatterers(unit.positions, unit.elements, unit.occupancies, options.wavelength)
    vectors = TWO_PI * grid.cell.frac_matrix / np.array(grid.sampling, np.float64)[:, None]
    total = np.zeros(len(index))
    for rotation in rotations:
        q = (index @ rotation) @ vectors
        table = scatterers.form_factors(np.einsum("qx,qx->q", q, q))[scatterers.index]
        f = (table * unit.occupancies[:, None]).T
        total += diffuse_intensity(
            q, unit.positions, f if options.wavelength is not None else f.real, covariance,
            rtol=options.rtol,
        )  # fmt: skip
    intensity = np.zeros(grid.shape)
    intensity[wanted] = total
    return intensity


def voxel_classes(
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
    if options.bulk_solvent is not None:
        _add_bulk_solvent(f_cell, lattice, structure, *options.bulk_solvent)
    squares: FloatArray | ComplexArray = f_cell.real**2 + f_cell.imag**2
    if options.wavelength is not None:
        squares = _anomalous_squares(f_cell, lattice, atoms, options.wavelength)
    intensity = gather(squares, lattice, grid, identity)
    if options.crystal_size is None:
        return np.where(grid.is_node(), float(np.prod(grid.sampling)) * intensity, 0.0)
    axes = (grid.h[:, None, None], grid.k[None, :, None], grid.l[None, None, :])
    for axis, n_cells in zip(axes, options.crystal_size, strict=True):
        intensity = intensity * interference(axis, n_cells)
    return intensity


def _add_bulk_solvent(
    f_cell: ComplexArray,
    lattice: HalfLattice,
    structure: AtomicStructure,
    k_sol: float,
    b_sol: float,
) -> None:
    """Add the structure factors of flat solvent at whole hkl, where alone the Bragg part counts."""
    nodes = np.argwhere(lattice.q_squared() <= lattice.q_max**2 * (1 + 1e-9))
    index = nodes - np.array([lattice.extent[0], lattice.extent[1], 0])
    is_whole = np.all(index % np.array(lattice.sampling) == 0, axis=1)
    hkl = index[is_whole] // np.array(lattice.sampling)
    f_solvent = solvent_structure_factors(structure, hkl, k_sol, b_sol)
    f_cell[tuple(nodes[is_whole].T)] += f_solvent


def _anomalous_squares(
    f_cell: ComplexArray, lattice: HalfLattice, atoms: AtomicStructure, wavelength: float
) -> ComplexArray:
    """|F|² with f′ + if″: even part + i × odd part in q."""
    scatterers = Scatterers(atoms.positions, atoms.elements, atoms.occupancies)
    still = Displacements(LowRank(np.zeros((atoms.n_atoms, 1))), atoms.u_aniso)
    sums = PairSplat(PairSum(lattice, scatterers, still), Engine()).amplitudes()
    normal, shifted = f_cell.copy(), np.zeros_like(f_cell)
    for name, row in zip(scatterers.names, sums, strict=True):
        anomalous = anomalous_form_factor(name, wavelength)
        normal += anomalous.real * row
        shifted += anomalous.imag * row
    # With real sums conjugate at −q: F(q) = N + iS, F(−q) = N* + iS*.
    plus, minus = np.abs(normal + 1j * shifted) ** 2, np.abs(normal - 1j * shifted) ** 2
    squares: ComplexArray = 0.5 * (plus + minus) + 0.5j * (plus - minus)
    return squares


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
    half: FloatArray | ComplexArray, lattice: HalfLattice, grid: HklGrid, rotations: IntArray
) -> FloatArray:
    """Sum a half lattice's values over the images of each voxel, shape ``grid.shape``.

    Complex values are an even part and i times an odd part in q.
    """
    out = np.empty(grid.shape)
    odd = np.ascontiguousarray(half.imag) if np.iscomplexobj(half) else np.empty((0, 0, 0))
    _kernels.gather_orbit(
        np.ascontiguousarray(half.real), odd, np.array(lattice.extent), grid.first_index,
        rotations, out,
    )  # fmt: skip
    return out
