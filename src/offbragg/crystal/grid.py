"""`HklGrid`: a regular grid of voxels in reciprocal space, index ↔ hkl ↔ q."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import TWO_PI, BoolArray, FloatArray, IntArray
from offbragg.crystal.cell import Cell, as_cell
from offbragg.errors import InputError

# Axes come from files and arithmetic: a step or a node this close to 1/n of an index is 1/n.
STEP_TOLERANCE = 1e-4
_LARGEST_SAMPLING = 1000


@dataclass(frozen=True, eq=False)
class HklGrid:
    """Voxels centred on the nodes of a sampled reciprocal lattice.

    Attributes
    ----------
    cell : Cell
        Unit cell [Å, degrees]; anything that `as_cell` takes.
    h, k, l : ndarray, shape (n_h,), (n_k,), (n_l,), float64
        Axes in reciprocal-lattice units: a step of 1/sampling, hkl = 0 a node of the lattice
        that they continue. They need be neither centred nor of odd length.
    sampling : tuple of 3 int
        Voxels per reciprocal-lattice unit; worked out from the axes where it is not given.
    d_min : float or None
        Resolution limit [Å]: voxels beyond it are not part of the map. None: all are.

    Raises
    ------
    InputError
        If an axis is not increasing in steps of 1/n through multiples of 1/n.

    Examples
    --------
    >>> grid = HklGrid((10, 10, 10, 90, 90, 90), [-0.5, 0, 0.5, 1], [0, 1], [3])
    >>> grid.shape, grid.sampling
    ((4, 2, 1), (2, 1, 1))
    """

    cell: Cell
    h: FloatArray
    k: FloatArray
    l: FloatArray  # noqa: E741 - the field's name for it
    sampling: tuple[int, int, int] = (0, 0, 0)
    d_min: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "cell", as_cell(self.cell))
        sampling = []
        for name, given in zip("hkl", self.sampling, strict=True):
            n, axis = _checked_axis(name, getattr(self, name), int(given))
            object.__setattr__(self, name, axis)
            sampling.append(n)
        object.__setattr__(self, "sampling", tuple(sampling))
        if self.d_min is not None and not self.d_min > 0:
            raise InputError(f"d_min must be > 0 Å, got {self.d_min}")

    @classmethod
    def from_resolution(
        cls, cell: object, d_min: float, sampling: ArrayLike = (1, 1, 1)
    ) -> HklGrid:
        """Build the origin-centred grid, of odd lengths, that holds all voxels with d ≥ d_min.

        Parameters
        ----------
        cell : Cell or anything that `as_cell` takes
        d_min : float
            Resolution limit [Å].
        sampling : 3 int, or one for all axes
            Voxels per reciprocal-lattice unit.

        Examples
        --------
        >>> HklGrid.from_resolution((10, 20, 30, 90, 90, 90), 5.0, (3, 1, 1)).shape
        (13, 9, 13)
        """
        checked = as_cell(cell)
        if not (np.isfinite(d_min) and d_min > 0):
            raise InputError(f"d_min must be > 0 Å, got {d_min}")
        n_h, n_k, n_l = as_sampling(sampling)
        axes = []
        for edge, n_axis in zip(checked[:3], (n_h, n_k, n_l), strict=True):
            # The largest h with |q| = 2π/d_min is a/d_min, in any cell.
            last = int(np.floor(edge / d_min * n_axis + 1e-9))
            axes.append(np.arange(-last, last + 1) / n_axis)
        h, k, l = axes  # noqa: E741
        return cls(checked, h, k, l, (n_h, n_k, n_l), float(d_min))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of voxels along h, k, l."""
        return len(self.h), len(self.k), len(self.l)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return len(self.h) * len(self.k) * len(self.l)

    @property
    def first_index(self) -> IntArray:
        """Position (3,) of voxel [0, 0, 0] on the sampled lattice: hkl of it times sampling."""
        first = np.array([self.h[0], self.k[0], self.l[0]])
        index: IntArray = np.rint(first * np.array(self.sampling)).astype(np.int64)
        return index

    def hkl(self) -> FloatArray:
        """Miller indices (n_h, n_k, n_l, 3) of the voxel centres, fractional between nodes."""
        return np.stack(np.meshgrid(self.h, self.k, self.l, indexing="ij"), axis=-1)

    def q(self) -> FloatArray:
        """Scattering vectors (n_h, n_k, n_l, 3) [Å⁻¹], 2π included, in the frame of positions."""
        return TWO_PI * self.hkl() @ self.cell.frac_matrix

    def inv_d(self) -> FloatArray:
        """1/d (n_h, n_k, n_l) [Å⁻¹], by the metric of the cell, without an array of vectors."""
        metric = self.cell.frac_matrix @ self.cell.frac_matrix.T
        h, k, l = self.h[:, None, None], self.k[None, :, None], self.l[None, None, :]  # noqa: E741
        square = metric[0, 0] * h * h + metric[1, 1] * k * k + metric[2, 2] * l * l
        square = square + 2 * (metric[0, 1] * h * k + metric[0, 2] * h * l + metric[1, 2] * k * l)
        inv_d: FloatArray = np.sqrt(np.maximum(square, 0.0))
        return inv_d

    def d(self) -> FloatArray:
        """Resolution d (n_h, n_k, n_l) [Å]; infinite at hkl = 0."""
        with np.errstate(divide="ignore"):
            return 1.0 / self.inv_d()

    def within(self, d_min: float | None = None, d_max: float | None = None) -> BoolArray:
        """Tell which voxels (n_h, n_k, n_l) lie within resolution limits [Å], both included.

        Raises
        ------
        InputError
            If a limit is not above 0.
        """
        for name, limit in (("d_min", d_min), ("d_max", d_max)):
            if limit is not None and not limit > 0:
                raise InputError(f"{name} must be > 0 Å, got {limit}")
        inv_d = self.inv_d()
        inside = np.ones(self.shape, dtype=bool)
        limits = [x for x in (d_min, self.d_min) if x is not None]
        if limits:
            inside &= inv_d <= (1 + 1e-9) / max(limits)
        if d_max is not None:
            inside &= inv_d >= (1 - 1e-9) / d_max
        return inside

    def is_node(self) -> BoolArray:
        """Tell which voxels (n_h, n_k, n_l) are centred on a Bragg node (integer hkl)."""
        on = [np.abs(axis - np.rint(axis)) < STEP_TOLERANCE for axis in (self.h, self.k, self.l)]
        return on[0][:, None, None] & on[1][None, :, None] & on[2][None, None, :]

    def index_of(self, hkl: ArrayLike) -> tuple[IntArray, BoolArray]:
        """Find the voxels that Miller indices fall in.

        Parameters
        ----------
        hkl : array_like, shape (..., 3)

        Returns
        -------
        index : ndarray, shape (..., 3), int64
            Index of the nearest voxel centre.
        inside : ndarray, shape (...), bool
            Whether that voxel is in the grid.
        """
        scaled = np.asarray(hkl, dtype=float) * np.array(self.sampling)
        index = np.rint(scaled).astype(np.int64) - self.first_index
        inside = np.all((index >= 0) & (index < np.array(self.shape)), axis=-1)
        return index, inside

    def same_voxels(self, other: HklGrid) -> bool:
        """Whether both grids have the same axes (their cells may differ)."""
        return (
            self.shape == other.shape
            and self.sampling == other.sampling
            and bool(np.all(self.first_index == other.first_index))
        )


def as_sampling(sampling: ArrayLike) -> tuple[int, int, int]:
    """Three voxels per reciprocal-lattice unit, from three whole numbers or one for all axes.

    Raises
    ------
    InputError
        If they are not whole numbers >= 1.
    """
    try:
        values = np.broadcast_to(np.asarray(sampling, dtype=float), (3,))
        h, k, l = (int(x) for x in values)  # noqa: E741
    except (TypeError, ValueError, OverflowError):
        h = k = l = 0  # noqa: E741
        values = np.zeros(3)
    if np.any(values != (h, k, l)) or min(h, k, l) < 1:
        raise InputError(f"sampling must be three whole numbers >= 1, got {sampling!r}")
    return h, k, l


def _checked_axis(name: str, values: ArrayLike, sampling: int) -> tuple[int, FloatArray]:
    axis = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if axis.ndim != 1 or axis.size == 0 or not np.all(np.isfinite(axis)):
        raise InputError(f"axis {name} must be finite numbers in one dimension, got {values!r}")
    if sampling < 0:
        raise InputError(f"sampling along {name} must be >= 1, got {sampling}")
    if sampling == 0:
        sampling = _sampling_of(axis)
    nodes = np.rint(axis * sampling)
    on_lattice = sampling > 0 and np.all(
        np.abs(axis * sampling - nodes) < STEP_TOLERANCE * sampling
    )
    if not on_lattice or np.any(np.diff(nodes) != 1):
        raise InputError(
            f"axis {name} must rise in equal steps of 1/n through 0 or multiples of 1/n, got "
            f"{np.array2string(axis, threshold=6, edgeitems=2, precision=4)}"
        )
    return sampling, nodes / sampling


def _sampling_of(axis: FloatArray) -> int:
    if len(axis) > 1:
        step = (axis[-1] - axis[0]) / (len(axis) - 1)
        return int(np.rint(1 / step)) if step > 1 / (_LARGEST_SAMPLING + 1) else 0
    for n in range(1, _LARGEST_SAMPLING + 1):
        if abs(axis[0] * n - np.rint(axis[0] * n)) < STEP_TOLERANCE * n:
            return n
    return 0
