r"""Which pixels see Bragg peaks: those that come within a radius of a node of the lattice.

The distance is sqrt(Δᵀ G Δ) from the nearest node that the centring allows, Δ the difference in
hkl: G = 1 for a radius in reciprocal-lattice units, the reciprocal metric for one in Å⁻¹ (1/d,
without 2π). For an image of a rotation it is the distance from the whole path that the pixel's
centre takes during the exposure, not from its middle only: at h = 50 an image of ½° moves by
0.4 reciprocal-lattice units, and what it passes it records. Nodes that screw axes and glide
planes leave empty count as nodes; those that the centring leaves out do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray
from offbragg.crystal.cell import Cell
from offbragg.crystal.centring import allowed_nodes
from offbragg.errors import InputError

#: Radius where none is given [reciprocal-lattice units].
BRAGG_RADIUS = 0.25
#: Words for the unit of the radius.
RADIUS_UNITS = ("rlu", "1/angstrom")

# A path within this many cells of a node is found; larger radii leave nothing of a map.
_LARGEST_SPAN = 1
_LARGEST_MODULUS = 3  # more would not fit in the 64 bits that the compiled loop takes


@dataclass(frozen=True)
class BraggMask:
    """The nodes of a crystal, and how close to them a pixel may come.

    Attributes
    ----------
    cell : Cell
    space_group : str
        Only its centring matters.
    radius : float
        Pixels that come closer are excluded; 0 excludes none.
    unit : str
        ``"rlu"``, reciprocal-lattice units, or ``"1/angstrom"``, Å⁻¹ without 2π.
    is_inverted : bool
        Exclude the pixels that do *not* come so close: a map of the peaks.

    Raises
    ------
    InputError
        If the unit is another word, the radius is negative, or it reaches beyond the next node.
    """

    cell: Cell
    space_group: str
    radius: float
    unit: str = "rlu"
    is_inverted: bool = False

    def __post_init__(self) -> None:
        if self.unit not in RADIUS_UNITS:
            raise InputError(f"bragg_radius_unit must be one of {RADIUS_UNITS}, got {self.unit!r}")
        if not (np.isfinite(self.radius) and self.radius >= 0):
            raise InputError(f"bragg_radius must be >= 0, got {self.radius}")
        check_reach(self.index_reach, "bragg_radius", f"{self.radius} {self.unit}")

    @property
    def index_reach(self) -> float:
        """Largest difference in any one index within the radius."""
        return self.radius * (1.0 if self.unit == "rlu" else max(self.cell[:3]))

    @property
    def metric(self) -> FloatArray:
        """G (3, 3): squared distance per squared difference in hkl, in the square of the unit."""
        if self.unit == "rlu":
            return np.eye(3)
        return self.cell.frac_matrix @ self.cell.frac_matrix.T

    def kernel_arguments(self) -> tuple[object, ...]:
        """Give the numbers that the compiled loops take; see `_node_kernels.is_near_node`."""
        return kernel_numbers(
            self.radius, self.index_reach, self.metric, self.space_group, self.is_inverted
        )


def kernel_numbers(
    radius: float,
    reach: float,
    metric: FloatArray,
    space_group: object,
    is_inverted: bool,
    growth: tuple[object, ...] | None = None,
) -> tuple[object, ...]:
    """Give the numbers that the compiled loops take; see `_node_kernels.is_near_node`.

    Parameters
    ----------
    radius : float
        In the unit of the metric.
    reach : float
        Largest difference in any one index within the radius, of any node.
    metric : ndarray, shape (3, 3)
    space_group : str
    is_inverted : bool
        Whether pixels near nodes are those that are wanted.
    growth : tuple, optional
        How the metric changes with the node, see `_kernels.node_metric`; not at all if not given.
    """
    span = 0 if reach < 0.45 else _LARGEST_SPAN
    # A point of the path that is within reach of a node lies in the cube around it (of cubes
    # 2 span + 1 wide), and so do its surroundings up to 0.5 + span − reach either side.
    spacing = 2 * (0.5 + span - reach)
    safe = 1.0 - reach if span == 0 else 0.0
    nodes = allowed_nodes(space_group)
    if len(nodes) > _LARGEST_MODULUS:
        raise InputError(
            f"space group {space_group!r}: its centring has parts of 1/{len(nodes)}, too fine"
        )
    bits = sum(1 << int(bit) for bit in np.flatnonzero(nodes))
    six = six_numbers(metric)
    return (
        float(radius),
        float(safe),
        float(spacing),
        six,
        len(nodes),
        bits,
        span,
        is_inverted,
        growth or (0.0, 0.0, six, six, six),
    )


def six_numbers(matrix: FloatArray) -> tuple[float, ...]:
    """Give 00 11 22 01 02 12 of a symmetric matrix (3, 3)."""
    places = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    return tuple(float(matrix[place]) for place in places)


def check_reach(reach: float, name: str, given: str) -> None:
    """Check that what is excluded around a node ends before the node after the next.

    Raises
    ------
    InputError
        With the name of the option and what was given for it.
    """
    if reach >= 0.95 + _LARGEST_SPAN / 2:
        raise InputError(
            f"{name} must reach less than 1.45 reciprocal-lattice units along each axis, "
            f"got {given}, {reach:.2f} units"
        )


def bragg_distance(
    hkl: ArrayLike, space_group: object = "P 1", metric: FloatArray | None = None
) -> FloatArray:
    """Compute the distance of points from the nearest Bragg node.

    Parameters
    ----------
    hkl : array_like, shape (..., 3)
        Fractional Miller indices.
    space_group : str
        Its centring says which nodes there are.
    metric : ndarray, shape (3, 3), optional
        See `BraggMask.metric`; the identity by default.

    Returns
    -------
    ndarray, shape (...)
        In reciprocal-lattice units by default.

    Examples
    --------
    >>> bragg_distance([[1.0, 0.0, 0.25], [1.0, 0.0, 0.0]], "C 1 2 1").tolist()
    [1.0307764064044151, 1.0]
    """
    points = np.asarray(hkl, dtype=np.float64)
    nodes = allowed_nodes(space_group)
    near = np.rint(points)
    best = np.full(points.shape[:-1], np.inf)
    for step in np.ndindex(5, 5, 5):
        node = near + np.array(step) - 2
        delta = points - node
        square = np.einsum("...x,...x->...", delta, delta if metric is None else delta @ metric)
        index = node.astype(np.int64) % len(nodes)
        there = nodes[index[..., 0], index[..., 1], index[..., 2]]
        best = np.minimum(best, np.where(there, square, np.inf))
    distance: FloatArray = np.sqrt(best)
    return distance
