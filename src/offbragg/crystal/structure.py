"""`AtomicStructure`: the atoms of an asymmetric unit as arrays, read from PDB or mmCIF by gemmi."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import BoolArray, FloatArray, u_from_b
from offbragg.crystal.cell import Cell, as_cell
from offbragg.crystal.selection import select_atoms
from offbragg.crystal.symmetry import as_space_group, space_group_operations
from offbragg.errors import FormatError, InputError, MissingFileError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class AtomicStructure:
    """Atoms of one asymmetric unit, every altloc an atom of its own.

    Attributes
    ----------
    cell : Cell or None
        Unit cell; None where the file has none (models without a crystal).
    space_group : str
        Hermann–Mauguin symbol.
    positions : ndarray, shape (n_atoms, 3), float64
        Cartesian [Å].
    elements : ndarray, shape (n_atoms,), str
        Element symbols.
    occupancies : ndarray, shape (n_atoms,), float64
    u_aniso : ndarray, shape (n_atoms, 3, 3), float64
        Mean-square displacements U [Å²], Cartesian; ``u_iso·1`` where the file has no ANISOU.
    names, residue_names, chains, altlocs : ndarray, shape (n_atoms,), str
    residue_numbers : ndarray, shape (n_atoms,), int64
    copies : ndarray, shape (n_atoms,), int64
        Number of the copy of the asymmetric unit that an atom is of, by the order of the group's
        operations, as `to_p1` sets it; 0 for all atoms of one asymmetric unit.
    """

    cell: Cell | None
    space_group: str
    positions: FloatArray
    elements: NDArray[np.str_]
    occupancies: FloatArray
    u_aniso: FloatArray
    names: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype=str))
    residue_names: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype=str))
    residue_numbers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    chains: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype=str))
    altlocs: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype=str))
    copies: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __post_init__(self) -> None:
        n = len(self.positions)
        defaults = {"names": "", "residue_names": "", "chains": "", "altlocs": ""}
        shapes = {"positions": (n, 3), "u_aniso": (n, 3, 3)}
        for name in _ATOM_ARRAYS:
            values = np.asarray(getattr(self, name))
            if name in defaults and values.size == 0:
                values = np.full(n, defaults[name])
            elif name in ("residue_numbers", "copies") and values.size == 0:
                values = np.zeros(n, dtype=np.int64)
            if values.shape != shapes.get(name, (n,)):
                expected = shapes.get(name, (n,))
                raise InputError(f"{name} must have shape {expected}, got {values.shape}")
            if name in ("positions", "occupancies", "u_aniso") and not np.all(np.isfinite(values)):
                raise InputError(f"{name} must be finite, got NaN or infinity")
            if name == "occupancies" and np.any(values < 0):
                raise InputError(f"occupancies must be at least 0, got {values.min():g}")
            object.__setattr__(self, name, values)
        if self.cell is not None:
            object.__setattr__(self, "cell", as_cell(self.cell))
        object.__setattr__(self, "space_group", as_space_group(self.space_group, self.cell).xhm())

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def n_atoms(self) -> int:
        """Number of atoms, altlocs counted each."""
        return len(self.positions)

    @property
    def u_iso(self) -> FloatArray:
        """Isotropic mean-square displacements (n_atoms,) [Å²]: a third of the trace of U."""
        u_iso: FloatArray = np.trace(self.u_aniso, axis1=1, axis2=2) / 3.0
        return u_iso

    def require_cell(self) -> Cell:
        """Return the unit cell.

        Raises
        ------
        InputError
            If the structure has none.
        """
        if self.cell is None:
            raise InputError("the structure has no unit cell: give one (cell=, --cell)")
        return self.cell

    def label(self, atom: int) -> str:
        """Name of an atom for people: chain, residue, atom name, altloc."""
        altloc = f" {self.altlocs[atom]}" if self.altlocs[atom] else ""
        residue = f"{self.residue_names[atom]} {self.residue_numbers[atom]}"
        return f"{self.chains[atom]} {residue} {self.names[atom]}{altloc} (index {atom})"

    def take(self, atoms: BoolArray | NDArray[np.int64]) -> AtomicStructure:
        """Return the atoms of a mask or of indices, in that order."""
        chosen: dict[str, object] = {name: getattr(self, name)[atoms] for name in _ATOM_ARRAYS}
        return replace(self, **chosen)  # type: ignore[arg-type]

    def select(self, selection: str) -> AtomicStructure:
        """Return the atoms that a selection names, such as ``"not water and chain A"``.

        The language is that of `offbragg.crystal.selection.select_atoms`.

        Raises
        ------
        InputError
            If the selection cannot be read, or names no atom.
        """
        mask = select_atoms(selection, {name: getattr(self, name) for name in _ATOM_ARRAYS})
        if not mask.any():
            raise InputError(f"selection {selection!r} names none of {self.n_atoms} atoms")
        return self.take(mask)

    def to_p1(self) -> AtomicStructure:
        """Write out all atoms of the unit cell, in space group P 1.

        Each operation is applied to the whole of the copy, which is then shifted by whole cells
        so that the mean of its positions lies in [0, 1) along each axis. Copies follow each other
        in the order of the group's operations; U turns with them, ``R U Rᵀ``. ``copies`` numbers
        them; a structure that is written out already keeps its numbers.
        """
        cell = self.require_cell()
        orth, frac = cell.orth_matrix, cell.frac_matrix
        operations = space_group_operations(self.space_group)
        positions, u_aniso = [], []
        for rotation, translation in zip(
            operations.rotations, operations.translations, strict=True
        ):
            moved = (self.positions @ frac.T) @ rotation.T + translation
            moved -= np.floor(moved.mean(axis=0))
            turn = orth @ rotation @ frac
            positions.append(moved @ orth.T)
            u_aniso.append(turn @ self.u_aniso @ turn.T)
        every = self.take(np.tile(np.arange(self.n_atoms), len(operations)))
        n_own = int(self.copies.max(initial=0)) + 1
        return replace(
            every,
            space_group="P 1",
            copies=every.copies + n_own * np.repeat(np.arange(len(operations)), self.n_atoms),
            positions=np.concatenate(positions),
            u_aniso=np.concatenate(u_aniso),
        )


_ATOM_ARRAYS = tuple(
    f.name for f in fields(AtomicStructure) if f.name not in ("cell", "space_group")
)


def read_structure(
    path: str | Path, cell: object = None, space_group: str | None = None
) -> AtomicStructure:
    """Read the first model of a PDB or mmCIF file, possibly gzipped.

    Altlocs are kept as separate atoms with their occupancies; ANISOU records give ``u_aniso``,
    B factors elsewhere. Waters, ligands and hydrogens are kept. Cell and space group come from
    CRYST1 or the mmCIF symmetry records; the arguments overrule them.

    Parameters
    ----------
    path : str or Path
    cell : Cell or six numbers, optional
        Unit cell [Å, degrees], where the file has none or another is meant.
    space_group : str, optional
        Hermann–Mauguin or Hall symbol; P 1 where neither file nor caller says.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is no structure, has no atoms, or its symmetry, an element, an occupancy or a
        displacement parameter cannot be right.
    """
    structure = read_gemmi_structure(Path(path))
    if len(structure) > 1:
        logger.warning("%s: %d models, the first is used", path, len(structure))
    chosen_cell = as_cell(cell) if cell is not None else cell_of_gemmi(path, structure)
    group = space_group_of_gemmi(path, structure, chosen_cell, space_group)
    try:
        return structure_from_gemmi(path, structure[0], chosen_cell, group)
    except UnicodeDecodeError:
        raise FormatError(f"{path}: not text: expected a PDB or mmCIF structure") from None


def read_gemmi_structure(path: Path) -> gemmi.Structure:
    """Read a PDB or mmCIF file, all its models, atoms in the order of the file.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is no structure, or its first model has no atoms.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        # Parts of a chain that lie apart stay apart: atoms keep the order of the file.
        structure = gemmi.read_structure(str(path), merge_chain_parts=False)
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0] if str(error) else "not readable"
        raise FormatError(f"{path}: not a PDB or mmCIF structure: {reason}") from None
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise FormatError(f"{path}: expected a PDB or mmCIF structure, found no atoms")
    return structure


def cell_of_gemmi(path: str | Path, structure: gemmi.Structure) -> Cell | None:
    """Return a file's cell; None where there is none, or the 1 × 1 × 1 Å that stands for none.

    Raises
    ------
    FormatError
        If it is no cell: names ``path``.
    """
    parameters = structure.cell.parameters
    if structure.cell == gemmi.UnitCell() or tuple(parameters[:3]) == (1.0, 1.0, 1.0):
        return None
    try:
        return as_cell(parameters)
    except InputError as error:
        raise FormatError(f"{path}: {error}") from None


def space_group_of_gemmi(
    path: str | Path, structure: gemmi.Structure, cell: Cell | None, given: str | None
) -> str:
    """Return the symbol of the given space group, or of a file's; P 1 where neither says.

    Raises
    ------
    InputError
        If the given one does not exist, or does not fit the cell.
    FormatError
        If the file's does not: names ``path``.
    """
    if given is not None:
        return as_space_group(given, cell).xhm()
    symbol = structure.spacegroup_hm
    if not symbol.strip():
        if structure.cell.is_crystal():
            logger.warning("%s: no space group given, P 1 is used", path)
        return "P 1"
    try:
        return as_space_group(symbol, cell).xhm()
    except InputError:
        raise FormatError(f"{path}: space group: no such symbol {symbol!r}") from None


def structure_from_gemmi(
    path: str | Path, model: gemmi.Model, cell: Cell | None, space_group: str
) -> AtomicStructure:
    """Turn a model of a file into arrays, its atoms in their order.

    Raises
    ------
    FormatError
        If an element, a position, an occupancy or a displacement parameter cannot be right: names
        ``path`` and the atom.
    """
    sites = list(model.all())
    u_aniso = np.empty((len(sites), 3, 3))
    for u, site in zip(u_aniso, sites, strict=True):
        atom = site.atom
        if atom.aniso.nonzero():
            u[:] = atom.aniso.as_mat33().tolist()
        else:
            u[:] = u_from_b(float(atom.b_iso)) * np.eye(3)
    occupancies = np.array([site.atom.occ for site in sites], dtype=np.float64)
    positions = np.array([site.atom.pos.tolist() for site in sites], dtype=np.float64)
    for what, bad in (
        ("position: expected finite numbers", ~np.isfinite(positions).all(axis=1)),
        ("occupancy: expected >= 0", ~(occupancies >= 0)),
        ("B or U: expected >= 0", ~(np.trace(u_aniso, axis1=1, axis2=2) >= 0)),
        ("element: not known", np.array([site.atom.element.name == "X" for site in sites])),
    ):
        if bad.any():
            site = sites[int(np.argmax(bad))]
            raise FormatError(f"{path}: atom {site}: {what}")
    return AtomicStructure(
        cell=cell,
        space_group=space_group,
        positions=positions,
        elements=np.array([site.atom.element.name for site in sites]),
        occupancies=occupancies,
        u_aniso=u_aniso,
        names=np.array([site.atom.name for site in sites]),
        residue_names=np.array([site.residue.name for site in sites]),
        residue_numbers=np.array([site.residue.seqid.num or 0 for site in sites], dtype=np.int64),
        chains=np.array([site.chain.name for site in sites]),
        altlocs=np.array([site.atom.altloc.replace("\0", "") for site in sites]),
    )
