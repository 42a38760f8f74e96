"""`ViewedMap`: a map as the viewer sees it, its voxels read when they are looked at."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import h5py
import numpy as np

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.crystal.cell import Cell
from offbragg.crystal.centring import allowed_nodes
from offbragg.maps.map_file import DATASETS, reading
from offbragg.maps.radial import RadialProfile, average_shells
from offbragg.viewer.chunks import ArrayVoxels, ChunkedVoxels, Index, Values, Voxels

if TYPE_CHECKING:
    from offbragg.maps.patterson import DeltaPdf


@dataclass(eq=False)
class ViewedMap:
    """A map of reciprocal space, or a function of separations.

    Attributes
    ----------
    name : str
    space : {"reciprocal", "real"}
    axes : tuple of 3 str
        ``h k l``, or ``x y z`` in units of the cell's edges.
    first, step : ndarray, shape (3,), float64
        Coordinates of voxel [0, 0, 0], and from one voxel to the next.
    vectors : ndarray, shape (3, 3), float64
        ``coordinates @ vectors`` is Cartesian: 1/d [Å⁻¹], without 2π, or a separation [Å].
    arrays : mapping of str to Voxels
        ``intensity``, and ``sigma``, ``count``, ``half_1``, ``half_2`` where there are.
    cell : Cell
    space_group : str
    group : str
        Symmetry of the voxels: the Laue group, or the space group where it is not merged.
    d_min : float or None
        [Å]
    allowed : ndarray, shape (n, n, n), bool
        Nodes that the centring leaves, by hkl modulo n.
    path : Path or None
        File that it comes from.
    """

    name: str
    space: Literal["reciprocal", "real"]
    axes: tuple[str, str, str]
    first: FloatArray
    step: FloatArray
    vectors: FloatArray
    arrays: Mapping[str, Voxels]
    cell: Cell
    space_group: str = "P 1"
    group: str = "P 1"
    d_min: float | None = None
    allowed: BoolArray = field(default_factory=lambda: np.ones((1, 1, 1), dtype=bool), repr=False)
    path: Path | None = None
    _isotropic: Future[RadialProfile] | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def shape(self) -> Index:
        """Numbers of voxels along the axes."""
        return self.arrays["intensity"].shape

    def inv_d(self, coordinates: FloatArray) -> FloatArray:
        """Length of Cartesian vectors: 1/d [Å⁻¹], or a distance [Å]."""
        length: FloatArray = np.linalg.norm(coordinates @ self.vectors, axis=-1)
        return length

    def index_of(self, coordinates: FloatArray) -> tuple[IntArray, BoolArray]:
        """Nearest voxels to coordinates (n, 3), and which of them are in the map."""
        position = np.rint((coordinates - self.first) / self.step)
        inside = np.all((position >= 0) & (position < np.array(self.shape)), axis=-1)
        # What is far outside may be too large for a whole number.
        index = np.where(inside[..., None], position, 0.0).astype(np.int64)
        return index, inside

    def isotropic(self) -> RadialProfile:
        """Means of shells; worked out once, waiting where that is going on."""
        return self.start_isotropic().result()

    def start_isotropic(self) -> Future[RadialProfile]:
        """Begin to work out the means of shells, if that has not begun."""
        with self._lock:
            if self._isotropic is None:
                self._isotropic = Future()
                threading.Thread(target=self._work_out, daemon=True).start()
            return self._isotropic

    def _work_out(self) -> None:
        assert self._isotropic is not None
        try:
            self._isotropic.set_result(self._shells())
        except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
            self._isotropic.set_exception(error)

    def _shells(self) -> RadialProfile:
        corners = np.array(np.meshgrid(*([0, n - 1] for n in self.shape))).reshape(3, -1).T
        farthest = self.inv_d(self.first + corners * self.step).max(initial=0.0)
        blocks = (
            (values, self.block_inv_d(first, values.shape), None)
            for first, values in self.arrays["intensity"].blocks()
        )
        return average_shells(blocks, float(farthest))

    def block_inv_d(self, first: Index, shape: tuple[int, ...]) -> FloatArray:
        """1/d [Å⁻¹] of a block of voxels that begins at an index."""
        metric = self.vectors @ self.vectors.T
        axes = [
            f + s * (a + np.arange(n))
            for f, s, a, n in zip(self.first, self.step, first, shape, strict=True)
        ]
        x, y, z = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
        square = metric[0, 0] * x * x + metric[1, 1] * y * y + 2 * metric[0, 1] * x * y
        square = square + metric[2, 2] * z * z + 2 * (metric[0, 2] * x + metric[1, 2] * y) * z
        inv_d: FloatArray = np.sqrt(np.maximum(square, 0.0))
        return inv_d

    def less_isotropic(self, values: Values, inv_d: FloatArray) -> Values:
        """Values less the mean of their shells, as `anisotropic_part` takes it off."""
        return self.isotropic().varying(values, inv_d).astype(np.float32)


def open_map(path: Path, name: str, pool: ThreadPoolExecutor) -> ViewedMap:
    """Open a map file; voxels are read when they are asked for.

    Raises
    ------
    MissingFileError, FormatError
        As `read_map`.
    """
    with reading(path) as reader:
        reader.check_version()
        grid = reader.read_grid()
        space_group = reader.read_text("entry/sample/space_group")
        group = reader.read_text("entry/sample/laue_group", required=False)
        allowed = allowed_nodes(space_group)
        there = [x for x in DATASETS if reader.dataset(x, grid.shape) is not None]
    # Stays open as long as the program runs.
    file = h5py.File(path, "r")
    return ViewedMap(
        name=name,
        space="reciprocal",
        axes=("h", "k", "l"),
        first=np.array([grid.h[0], grid.k[0], grid.l[0]]),
        step=1.0 / np.array(grid.sampling),
        vectors=grid.cell.frac_matrix,
        arrays={x: ChunkedVoxels(file[f"entry/map/{DATASETS[x]}"], pool) for x in there},
        cell=grid.cell,
        space_group=space_group,
        group=group or space_group,
        d_min=grid.d_min,
        allowed=allowed,
        path=path,
    )


def view_delta_pdf(pdf: DeltaPdf, name: str, space_group: str) -> ViewedMap:
    """A 3D-ΔPDF as the viewer sees it."""
    axes = (pdf.x, pdf.y, pdf.z)
    return ViewedMap(
        name=name,
        space="real",
        axes=("x", "y", "z"),
        first=np.array([axis[0] for axis in axes]),
        step=np.array([axis[1] - axis[0] if len(axis) > 1 else 1.0 for axis in axes]),
        vectors=pdf.cell.orth_matrix.T,
        arrays={"intensity": ArrayVoxels(pdf.values)},
        cell=pdf.cell,
        space_group=space_group,
        group=space_group,
    )
