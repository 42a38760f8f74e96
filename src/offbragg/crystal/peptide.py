"""Peptides from ideal geometry: atoms placed one after another by bond, angle and torsion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import InputError

# Torsions of an α-helix [degrees]: Barlow & Thornton (1988) J. Mol. Biol. 201, 601; ω is ideal.
_PHI, _PSI, _OMEGA = -62.0, -41.0, 180.0
# N, C and CB around CA: this torsion C-N-CA-CB gives C-CA-CB = 110.1° and the L hand.
_CB_TORSION = -122.6


class _Placement(NamedTuple):
    """An atom from three others: its bond to the last [Å], angle and torsion [degrees]."""

    name: str
    parents: tuple[str, str, str]
    bond: float
    angle: float
    torsion: float


# Bonds and angles: Engh & Huber (1991) Acta Cryst. A47, 392. Torsions: common helix rotamers.
_CB = _Placement("CB", ("C", "N", "CA"), 1.530, 110.5, _CB_TORSION)
_RESIDUES: dict[str, tuple[str, tuple[_Placement, ...]]] = {
    "G": ("GLY", ()),
    "A": ("ALA", (_CB,)),
    "S": ("SER", (_CB, _Placement("OG", ("N", "CA", "CB"), 1.417, 111.1, -65.0))),
    "C": ("CYS", (_CB, _Placement("SG", ("N", "CA", "CB"), 1.808, 114.4, -65.0))),
    "V": (
        "VAL",
        (
            _CB,
            _Placement("CG1", ("N", "CA", "CB"), 1.521, 110.5, 175.0),
            _Placement("CG2", ("N", "CA", "CB"), 1.521, 110.5, -63.0),
        ),
    ),
    "L": (
        "LEU",
        (
            _CB,
            _Placement("CG", ("N", "CA", "CB"), 1.530, 116.3, -65.0),
            _Placement("CD1", ("CA", "CB", "CG"), 1.521, 110.7, 175.0),
            _Placement("CD2", ("CA", "CB", "CG"), 1.521, 110.7, -63.0),
        ),
    ),
    "M": (
        "MET",
        (
            _CB,
            _Placement("CG", ("N", "CA", "CB"), 1.520, 114.1, -65.0),
            _Placement("SD", ("CA", "CB", "CG"), 1.803, 112.7, -60.0),
            _Placement("CE", ("CB", "CG", "SD"), 1.791, 100.9, -70.0),
        ),
    ),
    "D": (
        "ASP",
        (
            _CB,
            _Placement("CG", ("N", "CA", "CB"), 1.516, 112.6, -70.0),
            _Placement("OD1", ("CA", "CB", "CG"), 1.249, 118.4, -15.0),
            _Placement("OD2", ("CA", "CB", "CG"), 1.249, 118.4, 165.0),
        ),
    ),
    "K": (
        "LYS",
        (
            _CB,
            _Placement("CG", ("N", "CA", "CB"), 1.520, 114.1, -67.0),
            _Placement("CD", ("CA", "CB", "CG"), 1.520, 111.3, 180.0),
            _Placement("CE", ("CB", "CG", "CD"), 1.520, 111.3, 180.0),
            _Placement("NZ", ("CG", "CD", "CE"), 1.489, 111.9, 180.0),
        ),
    ),
}


class Chain(NamedTuple):
    """The atoms of a chain, in the order of PDB files.

    Attributes
    ----------
    names, residue_names : list of str, one an atom
    residue_numbers : list of int
        From 1.
    positions : ndarray, shape (n_atoms, 3), float64
        Cartesian [Å].
    """

    names: list[str]
    residue_names: list[str]
    residue_numbers: list[int]
    positions: FloatArray


def build_helix(sequence: str) -> Chain:
    """Build an α-helix of L-amino acids, without hydrogens.

    Parameters
    ----------
    sequence : str
        One-letter codes among G A S C V L M D K.

    Raises
    ------
    InputError
        If a code is not among them, or there is none.

    Examples
    --------
    >>> build_helix("GA").names
    ['N', 'CA', 'C', 'O', 'N', 'CA', 'C', 'O', 'CB', 'OXT']
    """
    if not sequence or set(sequence) - set(_RESIDUES):
        raise InputError(f"sequence must be made of {' '.join(_RESIDUES)}, got {sequence!r}")
    chain = Chain([], [], [], np.empty((0, 3)))
    positions: list[FloatArray] = []
    atoms = _first_residue()
    for number, code in enumerate(sequence, start=1):
        residue_name, side_chain = _RESIDUES[code]
        following = _following_residue(atoms)
        atoms["O"] = _placed((following["CA"], following["N"], atoms["C"]), 1.231, 123.0, 0.0)
        for step in side_chain:
            first, second, third = (atoms[name] for name in step.parents)
            atoms[step.name] = _placed((first, second, third), step.bond, step.angle, step.torsion)
        if number == len(sequence):
            atoms["OXT"] = _placed((atoms["N"], atoms["CA"], atoms["C"]), 1.231, 116.2, _PSI)
        chain.names.extend(atoms)
        chain.residue_names.extend([residue_name] * len(atoms))
        chain.residue_numbers.extend([number] * len(atoms))
        positions.extend(atoms.values())
        atoms = following
    return chain._replace(positions=np.array(positions))


def _first_residue() -> dict[str, FloatArray]:
    """N, CA and C of the first residue, in a plane."""
    bend = np.radians(111.2)
    n, ca = np.array([1.458, 0.0, 0.0]), np.zeros(3)
    return {"N": n, "CA": ca, "C": 1.525 * np.array([np.cos(bend), np.sin(bend), 0.0])}


def _following_residue(atoms: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """N, CA and C of the residue after the one given."""
    n = _placed((atoms["N"], atoms["CA"], atoms["C"]), 1.329, 116.2, _PSI)
    ca = _placed((atoms["CA"], atoms["C"], n), 1.458, 121.7, _OMEGA)
    c = _placed((atoms["C"], n, ca), 1.525, 111.2, _PHI)
    return {"N": n, "CA": ca, "C": c}


def _placed(parents: Sequence[FloatArray], bond: float, angle: float, torsion: float) -> FloatArray:
    """Position of an atom bonded to the last of three: bond [Å], angle and torsion [degrees]."""
    first, second, third = parents
    along = (third - second) / np.linalg.norm(third - second)
    normal = np.cross(second - first, along)
    normal /= np.linalg.norm(normal)
    bend, turn = np.radians(angle), np.radians(torsion)
    position: FloatArray = third + bond * (
        -np.cos(bend) * along
        + np.sin(bend) * np.cos(turn) * np.cross(normal, along)
        + np.sin(bend) * np.sin(turn) * normal
    )
    return position
