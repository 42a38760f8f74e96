"""Rigid bodies of a structure: groups of atoms, and how they move with their body."""

from __future__ import annotations

from collections.abc import Sequence

import gemmi
import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.selection import select_atoms
from offbragg.crystal.structure import AtomicStructure
from offbragg.errors import InputError

KINDS_OF_BODIES = ("chain", "molecule")


def bodies_of(
    structure: AtomicStructure, by: str | Sequence[str] = "chain"
) -> tuple[IntArray, ...]:
    """Group the atoms of a structure into bodies.

    Parameters
    ----------
    structure : AtomicStructure
    by : {"chain", "molecule"} or sequence of str
        "chain": all atoms of one chain name are a body, waters and ligands included. "molecule":
        the amino acids and nucleotides of one chain name are a body, every other residue but
        water is one, waters are in none. Else selections, one a body, in the language of
        `offbragg.crystal.selection.select_atoms`.

    Returns
    -------
    tuple of ndarray, int64
        Atom indices of each body, ascending.

    Raises
    ------
    InputError
        If ``by`` is neither, a selection cannot be read or names no atom, or bodies share atoms.

    Examples
    --------
    >>> from offbragg.crystal.structure import AtomicStructure
    >>> atoms = AtomicStructure(None, "P 1", np.zeros((3, 3)), np.array(["C"] * 3), np.ones(3),
    ...                         np.zeros((3, 3, 3)), chains=np.array(["A", "B", "A"]))
    >>> [body.tolist() for body in bodies_of(atoms)]
    [[0, 2], [1]]
    """
    if isinstance(by, str):
        if by not in KINDS_OF_BODIES:
            raise InputError(f"by must be 'chain', 'molecule' or a list of selections, got {by!r}")
        return _grouped(_labels(structure, whole_chains=by == "chain"))
    arrays = {
        name: getattr(structure, name)
        for name in (
            "positions", "names", "residue_names", "residue_numbers", "chains", "altlocs",
            "elements",
        )
    }  # fmt: skip
    bodies = []
    for selection in by:
        atoms = np.flatnonzero(select_atoms(selection, arrays))
        if not len(atoms):
            raise InputError(f"selection {selection!r} names none of {structure.n_atoms} atoms")
        bodies.append(atoms)
    return as_bodies(bodies)


def _labels(structure: AtomicStructure, *, whole_chains: bool) -> list[tuple[str, ...]]:
    """What each atom belongs to: its chain, its ligand, or (of water) nothing, an empty tuple."""
    kinds = {str(n): gemmi.find_tabulated_residue(str(n)) for n in set(structure.residue_names)}
    labels: list[tuple[str, ...]] = []
    residues = zip(
        structure.chains, structure.residue_numbers, structure.residue_names, strict=True
    )
    for chain, number, name in residues:
        kind = kinds[str(name)]
        if whole_chains or kind.is_amino_acid() or kind.is_nucleic_acid():
            labels.append((str(chain),))
        else:
            labels.append(() if kind.is_water() else (str(chain), str(number), str(name)))
    return labels


def _grouped(labels: Sequence[tuple[str, ...]]) -> tuple[IntArray, ...]:
    """Indices of each label that is not empty, in the order in which labels first occur."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, label in enumerate(labels):
        if label:
            groups.setdefault(label, []).append(index)
    return tuple(np.array(group, dtype=np.int64) for group in groups.values())


def tls_basis(
    structure: AtomicStructure,
    bodies: Sequence[ArrayLike],
    origins: ArrayLike | None = None,
) -> FloatArray:
    """Displacements of atoms per translation and rotation of rigid bodies.

    Parameters
    ----------
    structure : AtomicStructure
    bodies : sequence of arrays of atom indices, or of masks
        Atoms in none stand still.
    origins : array, shape (n_bodies, 3), optional
        What each body turns about [Å]; the mean of its positions where not given.

    Returns
    -------
    ndarray, shape (n_atoms, 3, 6 n_bodies)
        In the order (t_x, t_y, t_z, λ_x, λ_y, λ_z) per body; t in Å, λ in rad.

    Raises
    ------
    InputError
        If bodies share atoms, hold atoms that are not there, or have another number of origins.
    """
    groups = as_bodies(bodies)
    check_atoms_of(groups, structure.n_atoms)
    centres = as_origins(origins, len(groups))
    basis = np.zeros((structure.n_atoms, 3, 6 * len(groups)))
    for number, body in enumerate(groups):
        positions = structure.positions[body]
        if len(positions):
            origin = positions.mean(axis=0) if centres is None else centres[number]
            basis[body, :, 6 * number : 6 * number + 6] = lever_arms(positions - origin)
    return basis


def lever_arms(offsets: FloatArray) -> FloatArray:
    """Matrices B_i = [1 | −[r_i − r_0]×], shape (n, 3, 6), that turn (t, λ) into displacements.

    >>> lever_arms(np.array([[0.0, 0.0, 2.0]]))[0, :, 3:].tolist()
    [[0.0, 2.0, -0.0], [-2.0, 0.0, 0.0], [0.0, -0.0, 0.0]]
    """
    arms = np.zeros((len(offsets), 3, 6))
    arms[:, :, :3] = np.eye(3)
    x, y, z = offsets.T
    arms[:, 0, 4], arms[:, 0, 5] = z, -y
    arms[:, 1, 3], arms[:, 1, 5] = -z, x
    arms[:, 2, 3], arms[:, 2, 4] = y, -x
    return arms


def as_bodies(bodies: Sequence[ArrayLike]) -> tuple[IntArray, ...]:
    """Return groups of atoms, given by indices or masks, as arrays of indices.

    Raises
    ------
    InputError
        If one is neither, or two share an atom.
    """
    groups = []
    for number, body in enumerate(bodies):
        atoms = np.asarray(body)
        if atoms.size == 0:
            atoms = np.empty(0, dtype=np.int64)
        elif atoms.dtype == bool:
            atoms = np.flatnonzero(atoms)
        if atoms.ndim != 1 or atoms.dtype.kind not in "iu":
            raise InputError(f"bodies[{number}] must be a list of atom indices or a mask")
        groups.append(atoms.astype(np.int64))
    members = np.concatenate(groups) if groups else np.empty(0, dtype=np.int64)
    if len(np.unique(members)) != len(members):
        raise InputError("bodies must not share atoms")
    return tuple(groups)


def as_origins(origins: ArrayLike | None, n_bodies: int) -> FloatArray | None:
    """Return origins [Å] as an array (n_bodies, 3), or None as it is.

    Raises
    ------
    InputError
        If they are of another shape or not finite.
    """
    if origins is None:
        return None
    centres = np.asarray(origins, dtype=np.float64)
    if centres.shape != (n_bodies, 3) or not np.all(np.isfinite(centres)):
        raise InputError(f"origins must be {(n_bodies, 3)} finite numbers, got {centres.shape}")
    return centres


def check_atoms_of(bodies: Sequence[IntArray], n_atoms: int) -> None:
    """Check that bodies hold indices of atoms that are there.

    Raises
    ------
    InputError
        If one does not.
    """
    for number, body in enumerate(bodies):
        if len(body) and not (0 <= body.min() and body.max() < n_atoms):
            raise InputError(
                f"bodies[{number}] must hold atom indices 0..{n_atoms - 1}, "
                f"got {body.min()}..{body.max()}"
            )
