"""Many conformers of one molecule: frames of multi-model files and of trajectories, as arrays.

Frames are read chunk by chunk, superposed all at once, and their mean and covariance are gathered
in memory that does not grow with their number.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import gemmi
import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.cell import as_cell
from offbragg.crystal.selection import select_atoms
from offbragg.crystal.structure import (
    AtomicStructure,
    _as_arrays,
    _cell_of,
    _read_gemmi,
    _space_group_of,
    read_structure,
)
from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.runtime import iter_chunks

logger = logging.getLogger(__name__)

MODEL_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")
ANGSTROM_PER_NM = 10.0
# A mean that moves by less than this [Å] is found; sets of conformers need some ten rounds.
MEAN_TOLERANCE = 1e-9
MEAN_ROUNDS = 500


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


def superpose(
    frames: ArrayLike,
    reference: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    atoms: ArrayLike | None = None,
) -> FloatArray:
    r"""Move every frame as a rigid body onto a reference, or all onto their common mean.

    Rotation Q and shift minimise ``Σ_i |(x_i − x̄) Q + ȳ − y_i|²``: with the singular values of
    ``Σ_i (x_i − x̄)ᵀ (y_i − ȳ) = U S Wᵀ`` it is ``Q = U diag(1, 1, ±1) Wᵀ``, the sign such that Q
    is a proper rotation.

    Parameters
    ----------
    frames : array, shape (n_frames, n_atoms, 3)
        Cartesian [Å].
    reference : array, shape (n_atoms, 3), optional
        Where to move them. None: onto their mean, which is found by repeating (the mean of
        superposed frames is the next reference) and lies on the first frame.
    weights : array, shape (n_frames,), optional
        Of the frames in that mean. None: all alike.
    atoms : mask or indices of atoms, optional
        Atoms that decide rotation and shift; all atoms move. None: all.

    Returns
    -------
    ndarray, shape (n_frames, n_atoms, 3), float64
        [Å]

    Raises
    ------
    InputError
        If a shape does not match or ``atoms`` names none.

    References
    ----------
    .. [1] Kabsch, Acta Cryst. A34, 827 (1978).

    Examples
    --------
    >>> frame = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    >>> turned = frame @ np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) + 5.0
    >>> bool(np.allclose(superpose([frame, turned])[1], frame))
    True
    """
    x = as_frames(frames)
    chosen = _chosen(atoms, x.shape[1])
    if reference is not None:
        target = np.asarray(reference, dtype=np.float64)
        if target.shape != x.shape[1:]:
            raise InputError(f"reference must have shape {x.shape[1:]}, got {target.shape}")
        return _moved_onto(x, target, chosen)
    shares = as_frame_weights(weights, len(x))
    mean = x[0]
    for _ in range(MEAN_ROUNDS):
        x = _moved_onto(x, mean, chosen)
        previous, mean = mean, np.tensordot(shares, x, axes=1)
        if np.max(np.abs(mean - previous)) < MEAN_TOLERANCE:
            break
    else:
        logger.warning("superpose: the mean still moves after %d rounds", MEAN_ROUNDS)
    turns, shifts = _rigid_motions(mean[None], as_frames(frames)[0], chosen)
    placed: FloatArray = x @ turns + shifts
    return placed


@dataclass(frozen=True, eq=False)
class FrameMoments:
    """Mean and covariance of frames.

    Attributes
    ----------
    mean : ndarray, shape (n_atoms, 3), float64
        [Å]
    covariance : ndarray, shape (n_atoms, n_atoms, 3, 3), float64
        ``V_ij = ⟨δ_i δ_jᵀ⟩`` [Å²], unbiased: the weighted mean divided by 1 − Σw².
    n_frames : int
    """

    mean: FloatArray
    covariance: FloatArray
    n_frames: int


@dataclass(frozen=True, eq=False)
class FrameFactor:
    """Mean of frames and the largest principal components of their covariance.

    Attributes
    ----------
    mean : ndarray, shape (n_atoms, 3), float64
        [Å]
    factor : ndarray, shape (n_atoms, 3, rank), float64
        P [Å] of ``V ≈ P Pᵀ``, unbiased as in `FrameMoments`, largest component first.
    left_out : float
        Trace of what P Pᵀ lacks of the covariance [Å²], exact.
    n_frames : int
    """

    mean: FloatArray
    factor: FloatArray
    left_out: float
    n_frames: int


def streamed_moments(
    chunks: Iterable[ArrayLike],
    superpose_on: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> FrameMoments:
    """Gather mean and covariance of frames in one pass, whatever their number.

    Parameters
    ----------
    chunks : iterable of arrays, shape (n_chunk, n_atoms, 3)
        Cartesian [Å], as from `iter_frames`.
    superpose_on : array, shape (n_atoms, 3), optional
        Superpose every frame on this first.
    weights : array, shape (n_frames,), optional
        Of all frames in their order; None: all alike.

    Returns
    -------
    FrameMoments

    Raises
    ------
    InputError
        If there are fewer than two frames of weight, or shapes or numbers do not match.

    Notes
    -----
    Memory 9 n_atoms² numbers and a chunk; time 9 n_atoms² a frame. Chunks are joined by the
    formula for the sums of squares of two samples, so that nothing cancels.

    References
    ----------
    .. [1] Chan, Golub & LeVeque, Am. Stat. 37, 242 (1983).

    Examples
    --------
    >>> moments = streamed_moments([[[[0.0, 0.0, 0.0]]], [[[0.2, 0.0, 0.0]]]])
    >>> moments.mean.tolist(), float(moments.covariance[0, 0, 0, 0].round(6))
    ([[0.1, 0.0, 0.0]], 0.02)
    """
    sums = _Sums()
    squares = np.zeros((0, 0))
    for deviations in sums.gather(chunks, superpose_on, weights):
        if not len(squares):
            squares = np.zeros((deviations.shape[1],) * 2)
        squares += deviations.T @ deviations
    n = len(squares) // 3
    covariance = (sums.unbias() * squares).reshape(n, 3, n, 3).transpose(0, 2, 1, 3)
    return FrameMoments(sums.mean.reshape(n, 3), np.ascontiguousarray(covariance), sums.n_frames)


def streamed_factor(
    chunks: Iterable[ArrayLike],
    rank: int,
    superpose_on: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> FrameFactor:
    """Gather the mean and the ``rank`` largest principal components of frames in one pass.

    Parameters
    ----------
    chunks, superpose_on, weights
        As for `streamed_moments`.
    rank : int
        Components kept. With ``rank`` ≥ the number of frames, or 3 n_atoms, nothing is lost;
        otherwise what is cut after each chunk is counted in ``left_out``.

    Returns
    -------
    FrameFactor

    Raises
    ------
    InputError
        As `streamed_moments`, or if ``rank`` is below 1.

    Notes
    -----
    Memory 3 n_atoms (rank + n_chunk) numbers: for molecules whose whole covariance is too large.
    Time O(n_atoms (rank + n_chunk)²) a chunk.

    References
    ----------
    .. [1] Brand, Linear Algebra Appl. 415, 20 (2006).
    """
    if rank < 1:
        raise InputError(f"rank must be >= 1, got {rank}")
    sums = _Sums()
    factor, lost = np.zeros((0, 0)), 0.0
    for deviations in sums.gather(chunks, superpose_on, weights):
        rows = np.concatenate([factor, deviations]) if len(factor) else deviations
        _, sizes, directions = np.linalg.svd(rows, full_matrices=False)
        lost += float(np.sum(sizes[rank:] ** 2))
        factor = sizes[:rank, None] * directions[:rank]
    scale = sums.unbias()
    components = np.sqrt(scale) * factor.T
    return FrameFactor(
        sums.mean.reshape(-1, 3),
        np.ascontiguousarray(components.reshape(-1, 3, components.shape[1])),
        scale * lost,
        sums.n_frames,
    )


def as_frames(frames: ArrayLike) -> FloatArray:
    """Return frames as an array (n_frames, n_atoms, 3), float64, after checking them.

    Raises
    ------
    InputError
        If they have another shape, are none, or are not finite.
    """
    x = np.asarray(frames, dtype=np.float64)
    if x.ndim != 3 or x.shape[2] != 3 or not x.size:
        raise InputError(f"frames must be (n_frames, n_atoms, 3), none of them 0, got {x.shape}")
    if not np.all(np.isfinite(x)):
        raise InputError("frames must be finite, got NaN or infinity")
    return x


def as_frame_weights(weights: ArrayLike | None, n_frames: int) -> FloatArray:
    """Return weights of frames that sum to 1; None: all alike.

    Raises
    ------
    InputError
        If there is another number of them, one is negative or not finite, or all are 0.

    Examples
    --------
    >>> as_frame_weights([1, 3], 2).tolist(), as_frame_weights(None, 2).tolist()
    ([0.25, 0.75], [0.5, 0.5])
    """
    w = np.ones(n_frames) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (n_frames,):
        raise InputError(f"weights must be ({n_frames},), one a frame, got {w.shape}")
    if not np.all(np.isfinite(w)) or np.any(w < 0) or not np.any(w > 0):
        raise InputError("weights must be finite, >= 0 and not all 0")
    shares: FloatArray = w / w.sum()
    return shares


class _Sums:
    """Weight, mean and number of the frames seen so far."""

    def __init__(self) -> None:
        self.n_frames = 0
        self.weight = self.weight_squares = 0.0
        self.mean: FloatArray = np.zeros(0)

    def gather(
        self,
        chunks: Iterable[ArrayLike],
        superpose_on: ArrayLike | None,
        weights: ArrayLike | None,
    ) -> Iterator[FloatArray]:
        """Take in chunks; yield rows (n, 3 n_atoms) whose squares add up to those about the mean.

        Of each chunk: √w (x − its mean), and one row for the distance of its mean from the mean so
        far.
        """
        given = None if weights is None else np.asarray(weights, dtype=np.float64)
        if given is not None:
            as_frame_weights(given, given.size)
        for chunk in chunks:
            x = as_frames(chunk)
            if self.n_frames and 3 * x.shape[1] != len(self.mean):
                expected = len(self.mean) // 3
                raise InputError(f"chunks must all be of {expected} atoms, got {x.shape[1]}")
            if superpose_on is not None:
                x = superpose(x, superpose_on)
            flat = x.reshape(len(x), -1)
            first, self.n_frames = self.n_frames, self.n_frames + len(x)
            w = np.ones(len(x)) if given is None else given[first : self.n_frames]
            if len(w) != len(x):
                raise InputError(f"weights must be one a frame, got {len(w) + first}")
            if not len(self.mean):
                self.mean = np.zeros(flat.shape[1])
            weight = float(w.sum())
            if weight == 0.0:
                continue
            mean = (w / weight) @ flat
            total = self.weight + weight
            step = mean - self.mean
            rows = np.sqrt(w)[:, None] * (flat - mean)
            yield np.concatenate([rows, np.sqrt(self.weight * weight / total) * step[None]])
            self.mean = self.mean + (weight / total) * step
            self.weight, self.weight_squares = total, self.weight_squares + float(w @ w)
        if given is not None and self.n_frames != len(given):
            raise InputError(f"weights must be {self.n_frames}, one a frame, got {len(given)}")

    def unbias(self) -> float:
        """1 / [Σw (1 − Σw²)], Σw² of weights that sum to 1."""
        share = 1.0 - self.weight_squares / self.weight**2 if self.weight else 0.0
        if share <= 0.0:
            raise InputError(f"frames must be at least 2 with weight, got {self.n_frames} in all")
        return 1.0 / (self.weight * share)


def _chosen(atoms: ArrayLike | None, n_atoms: int) -> IntArray:
    """Indices of the atoms that a mask or indices name."""
    every: IntArray = np.arange(n_atoms)
    if atoms is None:
        return every
    named = np.asarray(atoms)
    if not named.size:
        raise InputError(f"atoms must name some of the {n_atoms} atoms, got none")
    try:
        chosen: IntArray = every[named]
    except IndexError:
        raise InputError(
            f"atoms must be a mask or indices of the {n_atoms} atoms, got {named.dtype} "
            f"of shape {named.shape}, up to {named.max()}"
        ) from None
    return chosen


def _moved_onto(x: FloatArray, target: FloatArray, chosen: IntArray) -> FloatArray:
    turns, shifts = _rigid_motions(x, target, chosen)
    moved: FloatArray = x @ turns + shifts
    return moved


def _rigid_motions(
    x: FloatArray, target: FloatArray, chosen: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Rotations (n_frames, 3, 3), from the right, and shifts (n_frames, 1, 3) onto the target."""
    centres = x[:, chosen].mean(axis=1, keepdims=True)
    middle = target[chosen].mean(axis=0)
    products = (x[:, chosen] - centres).transpose(0, 2, 1) @ (target[chosen] - middle)
    u, _, wt = np.linalg.svd(products)
    # A reflection may fit better still: then the direction that matters least is turned back.
    u[:, :, 2] *= np.sign(np.linalg.det(u @ wt))[:, None]
    turns = u @ wt
    return turns, middle - centres @ turns


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
        models = _read_gemmi(path)
        names = _names_of_atoms(path, models[0])
        own_cell = as_cell(cell) if cell is not None else _cell_of(path, models)
        group = _space_group_of(path, models, own_cell, space_group)
        structure = _as_arrays(path, models[0], own_cell, group)
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
