"""Structures to PDB files, by gemmi."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import B_PER_U, FloatArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.errors import InputError

# Smaller differences from an isotropic U [Å²] are lost in an ANISOU record anyway.
_U_PRECISION = 5e-5


def write_pdb(path: str | Path, structure: AtomicStructure) -> None:
    """Write a structure as a PDB file: CRYST1 where it has a cell, ATOM and ANISOU records.

    Atoms keep their order as far as the format allows: those of one chain and residue stand
    together. ANISOU is written for the atoms whose U is not a multiple of 1. The format holds
    positions to 0.001 Å, B to 0.01 Å², ANISOU to 0.0001 Å².

    Parameters
    ----------
    path : str or Path
        Written under a temporary name, then renamed.
    structure : AtomicStructure
        Positions [Å], ``u_aniso`` [Å²].
    """
    _write(path, _as_gemmi(structure))


def write_models(path: str | Path, structure: AtomicStructure, frames: ArrayLike) -> None:
    """Write frames of a structure as the models of one PDB file, to be played as a film.

    Parameters
    ----------
    path : str or Path
        Written under a temporary name, then renamed.
    structure : AtomicStructure
    frames : array, shape (n_frames, n_atoms, 3)
        Positions [Å].

    Raises
    ------
    InputError
        If the frames are none, or of other atoms.
    """
    positions = np.asarray(frames, dtype=np.float64)
    if positions.ndim != 3 or not len(positions) or positions.shape[1:] != (len(structure), 3):
        raise InputError(f"frames must be (n, {len(structure)}, 3), got {positions.shape}")
    whole = _as_gemmi(replace(structure, positions=positions[0]))
    for number, frame in enumerate(positions[1:], start=2):
        model = _as_gemmi(replace(structure, positions=frame))[0]
        model.num = number
        whole.add_model(model)
    _write(path, whole)


def _write(path: str | Path, structure: gemmi.Structure) -> None:
    target = Path(path)
    temporary = target.with_name(f".{target.name}.part")
    temporary.write_text(structure.make_pdb_string())
    temporary.replace(target)


def _as_gemmi(structure: AtomicStructure) -> gemmi.Structure:
    """Rebuild chains and residues from the arrays."""
    model = gemmi.Model(1)
    for index in range(structure.n_atoms):
        name = str(structure.chains[index]) or "A"
        if model.find_chain(name) is None:
            model.add_chain(gemmi.Chain(name))
        chain = model.find_chain(name)
        residue = gemmi.Residue()
        residue.name = str(structure.residue_names[index]) or "UNL"
        residue.seqid = gemmi.SeqId(int(structure.residue_numbers[index]), " ")
        residue.het_flag = "A" if _is_polymer(residue.name) else "H"
        last = chain[-1] if len(chain) else None
        if last is None or (last.seqid, last.name) != (residue.seqid, residue.name):
            last = chain.add_residue(residue)
        last.add_atom(_atom(structure, index))
    result = gemmi.Structure()
    result.add_model(model)
    if structure.cell is not None:
        result.cell = gemmi.UnitCell(*structure.cell)
        result.spacegroup_hm = structure.space_group
    result.setup_entities()
    return result


def _is_polymer(residue_name: str) -> bool:
    """Whether a residue name is an amino acid or a nucleotide."""
    entry = gemmi.find_tabulated_residue(residue_name)
    return bool(entry.is_amino_acid() or entry.is_nucleic_acid())


def _atom(structure: AtomicStructure, index: int) -> gemmi.Atom:
    """One atom, with U where it is anisotropic and B always."""
    atom = gemmi.Atom()
    atom.name = str(structure.names[index]) or str(structure.elements[index])
    atom.element = gemmi.Element(str(structure.elements[index]))
    atom.altloc = str(structure.altlocs[index]) or "\0"
    atom.pos = gemmi.Position(*structure.positions[index].tolist())
    atom.occ = float(structure.occupancies[index])
    atom.b_iso = float(B_PER_U * structure.u_iso[index])
    u: FloatArray = structure.u_aniso[index]
    if np.abs(u - structure.u_iso[index] * np.eye(3)).max() > _U_PRECISION:
        atom.aniso = gemmi.SMat33f(u[0, 0], u[1, 1], u[2, 2], u[0, 1], u[0, 2], u[1, 2])
    return atom
