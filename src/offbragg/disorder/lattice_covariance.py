"""Covariances between atoms of different unit cells, as given."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import DisorderModel
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements, as_blocks
from offbragg.scattering.pairs import PairBlock, Pairs

CellOffset = tuple[int, int, int]

# V(−R) may differ from V(R)ᵀ by this fraction of the largest element.
_MIRROR_TOLERANCE = 1e-8
# An eigenvalue may be below zero by this fraction of the largest diagonal element.
_PSD_TOLERANCE = 1e-6
# Points of the k grid along an axis on which R occurs; more where R is longer than 2 cells.
_N_K, _N_K_PER_CELL = 8, 4
_PAIRS_AT_ONCE = 300_000


@dataclass(frozen=True, eq=False)
class LatticeCovariance(DisorderModel):
    r"""Covariance of atoms with those of other cells, the same from every cell.

    .. math:: V_{ij}(R) = ⟨δ_{i,0}\, δ_{j,R}^T⟩

    for atoms i and j of ``structure.to_p1()``, j taken R cells further on. What is not given is
    uncorrelated.

    Attributes
    ----------
    covariances : mapping of (int, int, int) to ndarray, shape (n, n) or (n, n, 3, 3)
        V(R) [Å²] by R in cells along a, b, c; the first form is isotropic, per Cartesian axis.
        (0, 0, 0) must be there. ``V(−R) = V(R)ᵀ``: one of the two is enough.

    Raises
    ------
    InputError
        If a shape does not match, V(−R) is not V(R)ᵀ, or no crystal can move like this:
        ``Σ_R V(R) e^{ik·R}`` must be positive semi-definite; the message names k.

    Notes
    -----
    The test on k takes up to 8 points along each axis on which R occurs, k and −k once:
    O(n_k n³), with n_k up to 260; 9 s on one core for 200 atoms with 3×3 blocks and three axes.

    Examples
    --------
    One atom a cell that moves with its neighbours along a.

    >>> model = LatticeCovariance({(0, 0, 0): [[0.3]], (1, 0, 0): [[0.1]]})
    >>> sorted(model.covariances), model.n_atoms
    ([(-1, 0, 0), (0, 0, 0), (1, 0, 0)], 1)
    """

    covariances: Mapping[CellOffset, FloatArray]

    def __post_init__(self) -> None:
        given = _as_arrays(self.covariances)
        complete = dict(given)
        for offset, v in given.items():
            opposite = _opposite(offset)
            if opposite not in given:
                complete[opposite] = _mirrored(v)
            elif np.max(np.abs(given[opposite] - _mirrored(v)), initial=0.0) > (
                _MIRROR_TOLERANCE * np.max(np.abs(v), initial=0.0)
            ):
                raise InputError(f"V{opposite} must be the transpose of V{offset}")
        _check_waves(complete)
        object.__setattr__(self, "covariances", complete)

    @property
    def n_atoms(self) -> int:
        """Number of atoms of the cell."""
        return len(self.covariances[0, 0, 0])

    def coherent_unit(self, structure: AtomicStructure) -> AtomicStructure:
        """Return all atoms of the cell."""
        return structure.to_p1()

    def displacements(self, structure: AtomicStructure) -> Displacements:
        """Return V_ii [Å²], and every pair whose covariance is not zero.

        Raises
        ------
        InputError
            If the structure, all copies written out, has another number of atoms.
        """
        if structure.n_atoms != self.n_atoms:
            raise InputError(
                f"covariances must be for the cell's {structure.n_atoms} atoms, got {self.n_atoms}"
            )
        own = self.covariances[0, 0, 0]
        diagonal = own[np.arange(len(own)), np.arange(len(own))]
        if diagonal.ndim == 1:
            diagonal = diagonal[:, None, None] * np.eye(3)
        vectors = structure.require_cell().orth_matrix
        return Displacements(
            independent=diagonal,
            pairs=LatticePairs(structure.positions, vectors, self.covariances),
        )


@dataclass(frozen=True, eq=False)
class LatticePairs(Pairs):
    """Pairs of an atom of the cell at 0 with atoms of all cells, cell by cell.

    Attributes
    ----------
    positions : ndarray, shape (n, 3)
        Of the atoms of the cell, Cartesian [Å].
    vectors : ndarray, shape (3, 3)
        Columns a, b, c [Å].
    covariances : mapping of (int, int, int) to ndarray, shape (n, n) or (n, n, 3, 3)
        V(R) [Å²] for every R that there is, −R included.
    """

    positions: FloatArray
    vectors: FloatArray
    covariances: Mapping[CellOffset, FloatArray]

    @property
    def is_isotropic(self) -> bool:
        """Whether covariances are (n, n)."""
        return all(v.ndim == 2 for v in self.covariances.values())

    def blocks(self) -> Iterator[PairBlock]:
        """Yield the pairs of non-zero covariance, cells in the order of R, at most 300 000 at once.

        The partner of ``second`` is at ``r_second + R``, so the separation is
        ``r_first − r_second − R``.
        """
        for offset in sorted(self.covariances):
            v = self.covariances[offset]
            present = v != 0.0 if v.ndim == 2 else np.any(v != 0.0, axis=(2, 3))
            if offset == (0, 0, 0):
                present = present & ~np.eye(len(v), dtype=bool)
            first, second = np.nonzero(present)
            shift = self.vectors @ np.array(offset, dtype=np.float64)
            for start in range(0, len(first), _PAIRS_AT_ONCE):
                i = first[start : start + _PAIRS_AT_ONCE]
                j = second[start : start + _PAIRS_AT_ONCE]
                yield PairBlock(
                    first=i,
                    second=j,
                    operation=np.zeros(len(i), dtype=np.int64),
                    separation=self.positions[i] - self.positions[j] - shift,
                    covariance=v[i, j],
                )


def _as_arrays(given: Mapping[CellOffset, ArrayLike]) -> dict[CellOffset, FloatArray]:
    """Arrays of one shape by offsets of three whole numbers."""
    if (0, 0, 0) not in given:
        raise InputError("covariances must have (0, 0, 0), those within a cell")
    arrays: dict[CellOffset, FloatArray] = {}
    for offset, value in given.items():
        key = tuple(int(x) for x in offset)
        if len(key) != 3 or key != tuple(offset):
            raise InputError(f"covariances must be named by three whole numbers, got {offset!r}")
        arrays[key] = np.asarray(value, dtype=np.float64)
    n = len(arrays[0, 0, 0]) if arrays[0, 0, 0].ndim else 0
    for key, v in arrays.items():
        if v.shape not in ((n, n), (n, n, 3, 3)):
            raise InputError(f"V{key} must be {(n, n)} or {(n, n, 3, 3)}, got {v.shape}")
        if not np.all(np.isfinite(v)):
            raise InputError(f"V{key} must be finite, got NaN or infinity")
    if len({v.ndim for v in arrays.values()}) > 1:
        return {key: as_blocks(v) if v.ndim == 2 else v for key, v in arrays.items()}
    return arrays


def _opposite(offset: CellOffset) -> CellOffset:
    return -offset[0], -offset[1], -offset[2]


def _mirrored(v: FloatArray) -> FloatArray:
    """V_jiᵀ at (i, j)."""
    return v.T if v.ndim == 2 else v.transpose(1, 0, 3, 2)


def _check_waves(covariances: Mapping[CellOffset, FloatArray]) -> None:
    """Check that Σ_R V(R) e^{ik·R} is positive semi-definite on a grid of k."""
    flat = {
        offset: v if v.ndim == 2 else v.transpose(0, 2, 1, 3).reshape(3 * len(v), 3 * len(v))
        for offset, v in covariances.items()
    }
    size = len(flat[0, 0, 0])
    largest = float(np.max(np.diag(flat[0, 0, 0]), initial=0.0))
    furthest = [max(abs(offset[axis]) for offset in flat) for axis in range(3)]
    counts = [max(_N_K, _N_K_PER_CELL * reach) if reach else 1 for reach in furthest]
    floor = _PSD_TOLERANCE * max(largest, 1e-12)
    for index in itertools.product(*(range(count) for count in counts)):
        # −k gives the complex conjugate, which has the same eigenvalues.
        if index > tuple(-i % count for i, count in zip(index, counts, strict=True)):
            continue
        fractions = np.array(index) / counts
        wave = np.zeros((size, size), dtype=np.complex128)
        for offset, v in flat.items():
            wave += np.exp(2j * np.pi * (fractions @ offset)) * v
        try:
            np.linalg.cholesky(wave + floor * np.eye(size))
        except np.linalg.LinAlgError:
            lowest = float(np.linalg.eigvalsh(wave)[0])
            at = ", ".join(f"{x:g}" for x in fractions)
            raise InputError(
                "covariances must be positive semi-definite as waves, got an eigenvalue of "
                f"{lowest:.3g} Å² at k = 2π ({at}) in reciprocal cells"
            ) from None
