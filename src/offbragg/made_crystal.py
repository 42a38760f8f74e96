"""A made peptide crystal and a made experiment: known truth for the demo, tests and benchmarks.

The peptide is an α-helix built from ideal geometry, packed in a monoclinic cell. The experiment
is a rotation series on two panels that measures nearly all of reciprocal space out to d_min.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from offbragg.conventions import FloatArray
from offbragg.crystal.cell import Cell, as_cell
from offbragg.crystal.peptide import build_helix
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.symmetry import space_group_operations
from offbragg.errors import InputError
from offbragg.reduction.experiment import (
    Beam,
    CrystalModel,
    Experiment,
    Goniometer,
    Panel,
    Scan,
)

DEFAULT_SEQUENCE = "GASVMLKADCAVSLMG"
SPACE_GROUP = "P 1 21 1"

_BETA = 100.0  # of the cell [degrees]
_TURNS = (-20.0, 0.0, 20.0)  # about y, x, z [degrees]: this peptide packs closest so
_EDGE_STEP = 0.5  # of the cell's edges while packing [Å]
_ORIENTATION = (40.0, 25.0, 60.0)  # of the crystal, about z, y, x [degrees]
_PIXEL_MM = 0.3
_GAP, _BEAM_OFFSET = 2, 4  # between the panels, and from its middle to the beam [pixels]


def make_peptide(
    sequence: str = DEFAULT_SEQUENCE,
    cell: object = None,
    u: ArrayLike = 0.2,
    min_contact: float = 3.4,
) -> AtomicStructure:
    """Build an α-helical L-peptide from ideal geometry and pack it in P 1 21 1.

    Atoms follow each other by bond length, angle and torsion; hydrogens are left out. The helix
    runs roughly along b, its centre at (1/4, 0, 1/4). Positions are rounded to 0.001 Å and U to
    0.0001 Å², so that a PDB file of the structure holds the same numbers.

    Parameters
    ----------
    sequence : str
        One-letter codes among G A S C V L M D K.
    cell : Cell or six numbers, optional
        Unit cell [Å, degrees], alpha = gamma = 90. None: β = 100°, and edges in steps of 0.5 Å,
        made as short as ``min_contact`` allows.
    u : float or array_like, shape (3, 3)
        Mean-square displacement of every atom [Å²], Cartesian; a number means ``u·1``.
    min_contact : float
        Shortest distance allowed between atoms of different copies [Å].

    Returns
    -------
    AtomicStructure
        One chain A, all occupancies 1.

    Raises
    ------
    InputError
        If a code is not known, U is no symmetric positive semi-definite 3×3 matrix, the cell is
        not monoclinic, or copies come closer than ``min_contact`` in it.

    Examples
    --------
    >>> peptide = make_peptide("GASM", cell=(16, 24, 18, 90, 100, 90))
    >>> peptide.n_atoms, sorted(set(peptide.elements.tolist()))
    (24, ['C', 'N', 'O', 'S'])
    """
    chain = build_helix(sequence)
    n_atoms = len(chain.names)
    structure = AtomicStructure(
        cell=None,
        space_group=SPACE_GROUP,
        positions=_along_b(chain.positions),
        elements=np.array([name[0] for name in chain.names]),  # no two-letter elements here
        occupancies=np.ones(n_atoms),
        u_aniso=np.tile(_checked_u(u), (n_atoms, 1, 1)),
        names=np.array(chain.names),
        residue_names=np.array(chain.residue_names),
        residue_numbers=np.array(chain.residue_numbers, dtype=np.int64),
        chains=np.full(n_atoms, "A"),
    )
    if cell is None:
        return _pack(structure, min_contact)
    given = as_cell(cell)
    if (given.alpha, given.gamma) != (90.0, 90.0):
        raise InputError(f"cell must have alpha = gamma = 90° in {SPACE_GROUP}, got {given}")
    placed = _place(structure, given)
    closest = nearest_contact(placed, 2.0 * min_contact)
    if closest < min_contact:
        raise InputError(
            f"cell must keep copies {min_contact:g} Å apart, got {closest:.2f} Å in {given}"
        )
    return placed


def nearest_contact(structure: AtomicStructure, cutoff: float = 10.0) -> float:
    """Shortest distance [Å] between atoms of different copies in the crystal.

    Copies are those by every operation of the space group, and their neighbours of up to two
    cells away. Infinite where none comes within ``cutoff`` [Å].

    Raises
    ------
    InputError
        If the structure has no unit cell.
    """
    cell = structure.require_cell()
    fractional = structure.positions @ cell.frac_matrix.T
    operations = space_group_operations(structure.space_group)
    steps = np.arange(-2.0, 3.0)
    shifts = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    tree = cKDTree(structure.positions)
    low = np.min(structure.positions, axis=0) - cutoff
    high = np.max(structure.positions, axis=0) + cutoff
    closest = np.inf
    for rotation, translation in zip(operations.rotations, operations.translations, strict=True):
        moved = fractional @ rotation.T + translation
        moved -= np.rint(moved.mean(axis=0) - fractional.mean(axis=0))
        is_identity = np.array_equal(rotation, np.eye(3)) and not translation.any()
        wanted = shifts[shifts.any(axis=1)] if is_identity else shifts
        copies = ((moved[None] + wanted[:, None]) @ cell.orth_matrix.T).reshape(-1, 3)
        near = np.all((copies >= low) & (copies <= high), axis=1)
        if near.any():
            distances = tree.query(copies[near], distance_upper_bound=cutoff)[0]
            closest = min(closest, float(np.min(distances)))
    return closest


def _along_b(positions: FloatArray) -> FloatArray:
    """Centre positions on 0 and turn the chain's direction to y, then by `_TURNS`."""
    centred = positions - positions.mean(axis=0)
    half = len(centred) // 2
    y = centred[half:].mean(axis=0) - centred[:half].mean(axis=0)
    y /= np.linalg.norm(y)
    x = centred[0] - (centred[0] @ y) * y
    x /= np.linalg.norm(x)
    turned = Rotation.from_euler("yxz", _TURNS, degrees=True)
    return turned.apply(centred @ np.array([x, y, np.cross(x, y)]).T)


def _checked_u(u: ArrayLike) -> FloatArray:
    """U (3, 3) [Å²], rounded to what an ANISOU record holds."""
    given = np.asarray(u, dtype=np.float64)
    matrix = given * np.eye(3) if given.ndim == 0 else given
    ok = matrix.shape == (3, 3) and bool(np.all(np.isfinite(matrix)))
    if not (ok and np.allclose(matrix, matrix.T) and np.linalg.eigvalsh(matrix)[0] >= 0):
        raise InputError(f"u must be >= 0 Å² or a positive 3×3 matrix, got {given.tolist()}")
    return np.round(matrix, 4)


def _place(structure: AtomicStructure, cell: Cell) -> AtomicStructure:
    """Put centred positions at (1/4, 0, 1/4) of a cell, rounded to 0.001 Å."""
    centre = cell.orth_matrix @ np.array([0.25, 0.0, 0.25])
    return replace(structure, cell=cell, positions=np.round(structure.positions + centre, 3))


def _pack(structure: AtomicStructure, min_contact: float) -> AtomicStructure:
    """Shorten the edges of a generous cell, b first, for as long as copies keep their distance."""
    extents = np.ptp(structure.positions, axis=0) + min_contact
    edges = np.ceil(2.0 * extents / _EDGE_STEP) * _EDGE_STEP
    packed = _place(structure, as_cell([*edges, 90.0, _BETA, 90.0]))
    for axis in (1, 2, 0):
        while True:
            edges[axis] -= _EDGE_STEP
            trial = _place(structure, as_cell([*edges, 90.0, _BETA, 90.0]))
            if nearest_contact(trial, 2.0 * min_contact) < min_contact:
                edges[axis] += _EDGE_STEP
                break
            packed = trial
    return packed


def make_experiment(
    cell: object,
    space_group: str = SPACE_GROUP,
    *,
    d_min: float = 2.0,
    wavelength: float = 0.9763,
    n_images: int = 180,
    oscillation_deg: float = 1.0,
    n_pixels: int = 256,
) -> Experiment:
    """Make a rotation experiment on two panels that measures nearly all of a sphere.

    Half a turn about a horizontal axis, the crystal in a general orientation. The panels stand
    side by side, tilted towards each other like an open book, at the distance where the edges of
    the detector reach ``d_min``; the beam meets the right one beside the gap. Beam, axis and
    panels are all a little off the ideal, as real ones are.

    Parameters
    ----------
    cell : Cell or six numbers
        [Å, degrees].
    space_group : str
    d_min : float
        Resolution [Å] at the middle of the detector's edges.
    wavelength : float
        [Å].
    n_images : int
    oscillation_deg : float
        Rotation during an image [degrees].
    n_pixels : int
        Pixels along each edge of the whole detector, even.

    Returns
    -------
    Experiment
        Without images; `offbragg.reduction.expose` makes them.

    Raises
    ------
    InputError
        If the wavelength does not reach ``d_min`` at a flat detector, or a number is out of range.
    """
    if n_pixels < 32 or n_pixels % 2:
        raise InputError(f"n_pixels must be even and >= 32, got {n_pixels}")
    if not (d_min > 0 and 0 < wavelength < np.sqrt(2.0) * d_min):
        raise InputError(
            f"d_min must be > wavelength / √2 = {wavelength / np.sqrt(2.0):.3f} Å, got {d_min}"
        )
    beam = Beam(
        wavelength=wavelength,
        direction=np.array([0.002, -0.001, -1.0]),
        polarization_normal=np.array([0.01, 1.0, 0.0]),
        polarization_fraction=0.98,
    )
    start = np.arange(n_images) * oscillation_deg
    scan = Scan(
        image_range=(1, n_images),
        oscillation_start=np.radians(start),
        oscillation_width=np.full(n_images, np.radians(oscillation_deg)),
        exposure_times=np.ones(n_images),
    )
    orientation = Rotation.from_euler("zyx", _ORIENTATION, degrees=True).as_matrix()
    return Experiment(
        beam=beam,
        detector=_two_panels(n_pixels, 2.0 * float(np.arcsin(wavelength / (2.0 * d_min)))),
        goniometer=Goniometer(np.array([1.0, 0.003, -0.002]), np.eye(3), np.eye(3)),
        scan=scan,
        crystal=CrystalModel(orientation @ as_cell(cell).frac_matrix.T, space_group=space_group),
    )


def _two_panels(n_pixels: int, two_theta: float) -> tuple[Panel, Panel]:
    """Two panels, side by side, whose edges are at the angle 2θ [radians] or more."""
    distance = (n_pixels // 2 - _GAP - _BEAM_OFFSET) * _PIXEL_MM / np.tan(two_theta)
    across, down = n_pixels // 2, n_pixels
    panels = []
    for name, tilt_deg, twist_deg in (("left", -3.0, 0.0), ("right", 4.0, 0.4)):
        # z is towards the source: outer edges come forward.
        turn = Rotation.from_euler("zy", [twist_deg, -tilt_deg], degrees=True)
        fast, slow = turn.apply(np.eye(3)[0]), turn.apply(-np.eye(3)[1])
        side = -0.5 if name == "left" else 0.5
        inner = np.array([(side * _GAP - _BEAM_OFFSET) * _PIXEL_MM, 0.0, -distance])
        corner = inner - 0.5 * down * _PIXEL_MM * slow
        panels.append(
            Panel(
                name=name,
                origin=corner - (across * _PIXEL_MM * fast if name == "left" else 0.0),
                fast_axis=fast,
                slow_axis=slow,
                pixel_size=(_PIXEL_MM, _PIXEL_MM),
                image_size=(across, down),
                thickness=0.45,
                mu=3.9,  # silicon near 0.976 Å [mm⁻¹]
            )
        )
    return panels[0], panels[1]
