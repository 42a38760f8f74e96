"""The pixels around some Bragg nodes of some images, as the fit of a spot's shape takes them.

Which nodes are looked at is drawn by their indices and the image alone, never by how bright they
are: on one image the bright ones are those that the image cuts through the middle, and a fit to
them would find spots too thin in the direction that the image does not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.centring import allowed_nodes
from offbragg.reduction._spot_kernels import draw_pixels
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.pixel_table import Float32Array, PixelTable
from offbragg.runtime import iter_chunks

_PIXELS_AT_ONCE = 500_000
_FEWEST_PIXELS = 12  # of a node on an image, within it and around
_LONGEST_PATH = 0.5  # of a pixel during an image, in any index: longer ones pass two nodes
_INDEX_RANGE = 1 << 20  # 3 × 21 bits


@dataclass(frozen=True, eq=False)
class SpotPixels:
    """Pixels, each of one spot: what a node's surroundings counted on an image.

    Attributes
    ----------
    offsets : ndarray, shape (n_pixels, 3), float32
        From the node, in the middle of the exposure [Å⁻¹], in the crystal's Cartesian frame.
    photons : ndarray, shape (n_pixels,), float32
    spot : ndarray, shape (n_pixels,), int64
        From 0.
    q : ndarray, shape (n_spots, 3), float64
        The nodes [Å⁻¹].
    paths : ndarray, shape (n_spots, 3), float64
        How far pixels move during the exposure [Å⁻¹].
    """

    offsets: Float32Array
    photons: Float32Array
    spot: IntArray
    q: FloatArray
    paths: FloatArray

    @classmethod
    def joined(cls, parts: Sequence[SpotPixels]) -> SpotPixels:
        """Put the spots of several images together, one image at least."""
        before = np.cumsum([0, *(len(part.q) for part in parts)])
        return cls(
            np.concatenate([part.offsets for part in parts]),
            np.concatenate([part.photons for part in parts]),
            np.concatenate([p.spot + n for p, n in zip(parts, before, strict=False)]),
            np.concatenate([part.q for part in parts]),
            np.concatenate([part.paths for part in parts]),
        )


def pixels_of_spots(
    tables: Sequence[PixelTable],
    photons: Sequence[Float32Array],
    experiment: Experiment,
    image_index: int,
    *,
    d_min: float,
    fraction: float = 1.0,
    stills: bool = False,
) -> SpotPixels:
    """Collect the pixels around a part of the nodes of an image.

    Nodes with an excluded pixel are left out (the middle of an overloaded spot is missing), as
    are those that pixels pass too fast.

    Parameters
    ----------
    tables : sequence of PixelTable
        One a panel.
    photons : sequence of ndarray, shape (slow, fast), float32
        One a panel; NaN = excluded.
    experiment : Experiment
    image_index : int
        From 0.
    d_min : float
        Nodes beyond this resolution are left out [Å].
    fraction : float
        Of the nodes that are taken.
    stills : bool
        Whether the crystal stood still.
    """
    to_q = experiment.crystal.cell.frac_matrix
    nodes_there = allowed_nodes(experiment.crystal.space_group)
    matrix, vector = experiment.hkl_transform(image_index)
    begin = experiment.hkl_transform(image_index, 0.5 if stills else 0.0)
    end = experiment.hkl_transform(image_index, 0.5 if stills else 1.0)
    found: list[tuple[NDArray[np.int64], FloatArray, FloatArray, Float32Array]] = []
    for table, image in zip(tables, photons, strict=True):
        counts = image.reshape(-1)
        drawn = _drawn(table, matrix, vector, image_index, fraction)
        for part in iter_chunks(len(drawn), _PIXELS_AT_ONCE):
            some = drawn[part]
            directions = table.directions[some].astype(np.float64)
            hkl = directions @ matrix.T - vector
            node = np.rint(hkl)
            inv_d = np.linalg.norm(node @ to_q, axis=1)
            index = tuple((node.astype(np.int64) % len(nodes_there)).T)
            kept = (inv_d > 0) & (inv_d < 1 / d_min) & nodes_there[index]
            path = directions[kept] @ (end[0] - begin[0]).T - (end[1] - begin[1])
            offset = (hkl - node)[kept]
            found.append((node[kept].astype(np.int64), offset, path, counts[some][kept]))
    node, offset, path = (np.concatenate([f[column] for f in found]) for column in range(3))
    values = np.concatenate([f[3] for f in found])
    return _grouped(node, offset @ to_q, path, values, to_q)


def _grouped(
    node: NDArray[np.int64], offset: FloatArray, path: FloatArray, values: Float32Array,
    to_q: FloatArray,
) -> SpotPixels:  # fmt: skip
    """Number the nodes that can be used, and keep their pixels."""
    code = node + _INDEX_RANGE // 2
    code = (code[:, 0] * _INDEX_RANGE + code[:, 1]) * _INDEX_RANGE + code[:, 2]
    _, first, spot, n = np.unique(code, return_index=True, return_inverse=True, return_counts=True)
    paths = path[first]
    is_broken = np.bincount(spot, ~np.isfinite(values), len(n)) > 0
    is_short = np.all(np.abs(paths) < _LONGEST_PATH, axis=1)
    good = ~is_broken & is_short & (n >= _FEWEST_PIXELS)
    number = np.cumsum(good) - 1
    kept = good[spot]
    return SpotPixels(
        offset[kept].astype(np.float32), values[kept], number[spot[kept]],
        node[first[good]] @ to_q, paths[good] @ to_q,
    )  # fmt: skip


def _drawn(
    table: PixelTable, matrix: FloatArray, vector: FloatArray, image_index: int, fraction: float
) -> IntArray:
    """Draw nodes of an image, and give the pixels (n,) that are nearest to them."""
    found = np.empty(len(table.directions), dtype=np.int64)
    limit = np.uint64(min(fraction, 1.0) * 2**32)
    n = draw_pixels(table.directions, matrix, vector, image_index, limit, found)
    return found[:n]
