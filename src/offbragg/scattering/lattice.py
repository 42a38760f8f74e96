"""`HalfLattice`: the nodes of a sampled reciprocal lattice with l ≥ 0, where intensities are made.

An intensity without anomalous scattering is the same at q and −q, so half of a centred grid is
enough; `HklGrid` voxels of any range take their values from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.conventions import TWO_PI, FloatArray, IntArray
from offbragg.crystal.cell import Cell


@dataclass(frozen=True, eq=False)
class HalfLattice:
    r"""Nodes m / sampling with \|m_x\| ≤ extent_x and m_z ≥ 0.

    Attributes
    ----------
    cell : Cell
    sampling : tuple of 3 int
        Nodes per reciprocal-lattice unit: the box of the transforms is sampling × cell.
    extent : tuple of 3 int
        Largest index along each axis.
    q_max : float
        Largest \|q\| [Å⁻¹] at which values are wanted.
    voxel : ndarray, shape (3, 3), or None
        Where values are to be means over voxels around the nodes, as a map of averaged pixels has
        them: the rows, in hkl, are the edges of the voxel. None: values at the nodes.
    """

    cell: Cell
    sampling: tuple[int, int, int]
    extent: tuple[int, int, int]
    q_max: float
    voxel: FloatArray | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an array over the nodes; node (0, 0, 0) is at index (extent_x, extent_y, 0)."""
        return 2 * self.extent[0] + 1, 2 * self.extent[1] + 1, self.extent[2] + 1

    @property
    def reciprocal_vectors(self) -> FloatArray:
        """Rows (3, 3) [Å⁻¹]: 2π a*/n_a, 2π b*/n_b, 2π c*/n_c."""
        n = np.array(self.sampling, dtype=np.float64)
        vectors: FloatArray = TWO_PI * self.cell.frac_matrix / n[:, None]
        return vectors

    def indices(self) -> tuple[IntArray, IntArray, IntArray]:
        """Indices m along each axis, shaped to broadcast to ``shape``."""
        m_x, m_y, m_z = self.extent
        return (
            np.arange(-m_x, m_x + 1)[:, None, None],
            np.arange(-m_y, m_y + 1)[None, :, None],
            np.arange(m_z + 1)[None, None, :],
        )

    def quadratic_form(self, matrix: FloatArray) -> FloatArray:
        """Evaluate qᵀ M q at every node, for a symmetric matrix (3, 3); shape ``shape``."""
        g = self.reciprocal_vectors @ matrix @ self.reciprocal_vectors.T
        x, y, z = (m.astype(float) for m in self.indices())
        in_plane = g[0, 0] * x * x + 2 * g[0, 1] * x * y + g[1, 1] * y * y
        form: FloatArray = in_plane + (2 * g[0, 2] * x + 2 * g[1, 2] * y) * z + g[2, 2] * z * z
        return form

    def q_squared(self) -> FloatArray:
        r"""\|q\|² [Å⁻²] at every node, shape ``shape``."""
        return np.maximum(self.quadratic_form(np.eye(3)), 0.0)
