"""Many conformers of one molecule: frames of multi-model files and of trajectories, as arrays.

Frames are read chunk by chunk; `offbragg.crystal.frames` superposes them and gathers their mean and
covariance.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import gemmi
import numpy as np

from offbragg.conventions import FloatArray
from offbragg.crystal.cell import as_cell
from offbragg.crystal.selection import select_atoms
from offbragg.crystal.structure import (
    AtomicStructure,
    cell_of_gemmi,
    read_gemmi_structure,
    read_structure,
    space_group_of_gemmi,
    structure_from_gemmi,
)
from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.runtime import iter_chunks

MODEL_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")
ANGSTROM_PER_NM = 10.0


def iter_frames(
    path: str | Path,
    topology: str | Path | None = None,
    chunk_size: int = 100,
    stride: int = 1,
) -> Iterator[FloatArray]:
    """Read the frames of a multi-model file or of a trajectory, a chunk at a time.

    Parameters
    ----------
    path : str or Path
        PDB or mmCIF, possibly gzipped, one model a frame; or a trajectory that MDTraj reads (xtc,
        trr, dcd, nc, h5, …). A trajectory is taken as it stands: molecules that its box cuts
        apart must have been made whole before.
    topology : str or Path, optional
        PDB or mmCIF of the same atoms in the same order; trajectories need one.
    chunk_size : int
        Most frames in a chunk. A trajectory is never held whole; a multi-model file is.
    stride : int
        Take every ``stride``-th frame, from the first on.

    Returns
    -------
    iterator of ndarray, shape (n_chunk, n_atoms, 3), float64
        Cartesian [Å]; every chunk has at least one frame.

    Raises
    ------
    MissingFileError
        If a file is not there.
    FormatError
        If a file cannot be read, a model has other atoms than the first (both are named), or a
        trajectory has another number of atoms than its topology.
    InputError
        If a trajectory comes without topology, MDTraj is not installed, or a number is below 1.
    """
    return _open(path, topology, chunk_size, stride)[1]


def read_ensemble(
    path: str | Path,
    topology: str | Path | None = None,
    cell: object = None,
    space_group: str | None = None,
    select: str | None = None,
    stride: int = 1,
) -> tuple[AtomicStructure, FloatArray]:
    """Read all frames of a multi-model file or of a trajectory, and the structure they share.

    Parameters
    ----------
    path, topology, stride
        As for `iter_frames`.
    cell : Cell or six numbers, optional
        Unit cell [Å, degrees], where the file (for a trajectory: the topology) has none or
        another is meant. The box of a simulation is not taken for a unit cell.
    space_group : str, optional
        Hermann–Mauguin or Hall symbol.
    select : str, optional
        Atoms to keep, in the words of `AtomicStructure.select`.

    Returns
    -------
    structure : AtomicStructure
        The first model, or the topology, with the positions of the first frame.
    frames : ndarray, shape (n_frames, n_atoms, 3), float64
        Cartesian [Å].

    Raises
    ------
    MissingFileError, FormatError, InputError
        As `iter_frames` and `read_structure`; also if the selection names no atom.
    """
    structure, chunks = _open(path, topology, 1000, stride, cell, space_group)
    mask = np.ones(structure.n_atoms, dtype=bool)
    if select is not None:
        mask = select_atoms(select, vars(structure))
        structure = structure.select(select)
    frames = np.concatenate([chunk[:, mask] for chunk in chunks])
    return replace(structure, positions=frames[0].copy()), frames


def _open(
    path: str | Path,
    topology: str | Path | None,
    chunk_size: int,
    stride: int,
    cell: object = None,
    space_group: str | None = None,
) -> tuple[AtomicStructure, Iterator[FloatArray]]:
    """The structure that the frames of a file are of, and its frames in chunks."""
    for name, value in (("chunk_size", chunk_size), ("stride", stride)):
        if value < 1:
            raise InputError(f"{name} must be >= 1, got {value}")
    path = Path(path)
    if path.name.lower().removesuffix(".gz").endswith(MODEL_SUFFIXES):
        if topology is not None:
            raise InputError(f"topology is for trajectories: {path} names its own atoms")
        models = read_gemmi_structure(path)
        names = _names_of_atoms(path, models[0])
        own_cell = as_cell(cell) if cell is not None else cell_of_gemmi(path, models)
        group = space_group_of_gemmi(path, models, own_cell, space_group)
        structure = structure_from_gemmi(path, models[0], own_cell, group)
        return structure, _iter_models(path, models, names, chunk_size, stride)
    if topology is None:
        raise InputError(
            f"topology must be a PDB or mmCIF file of the atoms of {path}, got none: "
            "a trajectory holds positions only"
        )
    if not path.exists():
        raise MissingFileError(f"{path}: no such file")
    structure = read_structure(topology, cell, space_group)
    try:
        mdtraj = importlib.import_module("mdtraj")
    except ImportError:
        raise InputError(
            "trajectories need MDTraj, which is not installed: pip install offbragg[md]"
        ) from None
    return structure, _iter_trajectory(path, mdtraj, structure.n_atoms, chunk_size, stride)


_Name = tuple[str, str, str, str, str, str]


def _iter_models(
    path: Path, models: gemmi.Structure, names: list[_Name], chunk_size: int, stride: int
) -> Iterator[FloatArray]:
    taken = range(0, len(models), stride)
    for chunk in iter_chunks(len(taken), chunk_size):
        frames = np.empty((chunk.stop - chunk.start, len(names), 3))
        for frame, number in zip(frames, taken[chunk], strict=True):
            model = models[number]
            _check_names(path, model.num, names, _names_of_atoms(path, model))
            frame[:] = [site.atom.pos.tolist() for site in model.all()]
            if not np.all(np.isfinite(frame)):
                raise FormatError(f"{path}: model {model.num}: expected finite positions")
        yield frames


def _names_of_atoms(path: Path, model: gemmi.Model) -> list[_Name]:
    """Chain, residue number and name, atom, altloc and element of every atom of a model."""
    try:
        return [
            (
                site.chain.name, str(site.residue.seqid), site.residue.name,
                site.atom.name, site.atom.altloc.replace("\0", ""), site.atom.element.name,
            )
            for site in model.all()
        ]  # fmt: skip
    except UnicodeDecodeError:
        raise FormatError(f"{path}: not text: expected a PDB or mmCIF structure") from None


def _check_names(path: Path, number: int, expected: list[_Name], found: list[_Name]) -> None:
    if found == expected:
        return
    pairs = zip(expected, found, strict=False)
    both = min(len(expected), len(found))
    place = next((i for i, (one, other) in enumerate(pairs) if one != other), both)
    words = [
        " ".join(filter(None, names[place])) if place < len(names) else "no atom"
        for names in (expected, found)
    ]
    raise FormatError(
        f"{path}: model {number}: atom {place + 1}: expected {words[0]} as in the first model, "
        f"found {words[1]} ({len(found)} atoms, expected {len(expected)})"
    )


def _iter_trajectory(
    path: Path, mdtraj: ModuleType, n_atoms: int, chunk_size: int, stride: int
) -> Iterator[FloatArray]:
    # Nameless atoms: what they are is in the structure, MDTraj only counts them.
    topology = mdtraj.Topology()
    residue = topology.add_residue("UNK", topology.add_chain())
    for _ in range(n_atoms):
        topology.add_atom("X", mdtraj.element.virtual, residue)
    n_read = 0
    expected = f"{path}: expected a trajectory of the {n_atoms} atoms of the topology, found"
    try:
        for part in mdtraj.iterload(str(path), chunk=chunk_size, top=topology):
            x = ANGSTROM_PER_NM * part.xyz.astype(np.float64)
            if x.shape[1] != n_atoms or not np.all(np.isfinite(x)):
                raise FormatError(f"{expected} {x.shape[1]}, or positions that are not finite")
            frames = x[-n_read % stride :: stride]
            n_read += len(x)
            if len(frames):
                yield frames
    except FormatError:
        raise
    except ImportError as error:
        raise InputError(f"{path}: MDTraj cannot read it: {_in_a_line(error)}") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise FormatError(f"{expected}: {_in_a_line(error)}") from None
    if n_read == 0:
        raise FormatError(f"{expected} no frames")


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
