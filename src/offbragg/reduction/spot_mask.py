r"""Which pixels see Bragg spots of a fitted shape: those within some standard deviations of a node.

As `bragg_mask`, with the distance sqrt(Δᵀ Σ(q)⁻¹ Δ) of the path of a pixel from a node, Σ(q) the
covariance of a spot at that node, see `spot_shape`. In hkl, with G the reciprocal metric and n the
indices of the node, it is

.. math:: \Sigma_{hkl} = \Sigma_{0,hkl} + m_t^2\,(n^T G n)\,G^{-1} + (m_r^2 - m_t^2)\, n n^T .
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.crystal.cell import Cell
from offbragg.reduction.bragg_mask import check_reach, kernel_numbers, six_numbers
from offbragg.reduction.spot_shape import SpotShape


@dataclass(frozen=True, eq=False)
class SpotMask:
    """The nodes of a crystal, the shape of its spots, and how much of them is excluded.

    Attributes
    ----------
    cell : Cell
    space_group : str
        Only its centring matters.
    shape : SpotShape
    n_sigma : float
        Pixels that come closer are excluded [standard deviations].
    d_min : float
        Resolution limit of the map [Å]: spots are broadest there.
    is_inverted : bool
        Exclude the pixels that do *not* come so close: a map of the peaks.

    Raises
    ------
    InputError
        If it reaches beyond the next node.
    """

    cell: Cell
    space_group: str
    shape: SpotShape
    n_sigma: float
    d_min: float
    is_inverted: bool = False

    def __post_init__(self) -> None:
        check_reach(self.index_reach, "bragg_sigmas", f"{self.n_sigma:g} of {self.shape}")

    @property
    def index_reach(self) -> float:
        """Largest difference in any one index within the cutoff, at any node within d_min."""
        to_hkl = np.linalg.inv(self.cell.frac_matrix)
        broadest = max(self.shape.mosaic, self.shape.spread) / self.d_min
        covariance = self.shape.covariance + broadest**2 * np.eye(3)
        return self.n_sigma * float(np.sqrt(np.diag(to_hkl.T @ covariance @ to_hkl).max()))

    def kernel_arguments(self) -> tuple[object, ...]:
        """Give the numbers that the compiled loops take; see `_node_kernels.is_near_node`."""
        to_q = self.cell.frac_matrix
        to_hkl = np.linalg.inv(to_q)
        own = to_hkl.T @ self.shape.covariance @ to_hkl
        across, along = self.shape.mosaic**2, self.shape.spread**2
        growth = (
            across,
            along - across,
            six_numbers(own),
            six_numbers(to_q @ to_q.T),
            six_numbers(to_hkl.T @ to_hkl),
        )
        return kernel_numbers(
            self.n_sigma, self.index_reach, np.linalg.inv(own), self.space_group,
            self.is_inverted, growth,
        )  # fmt: skip
