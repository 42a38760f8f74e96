"""The pixels around some Bragg nodes of some images, as the fit of a spot's shape takes them.

Which nodes are looked at is drawn by their indices and the image alone, never by how bright they
are: on one image the bright ones are those that the image cuts through the middle, and a fit to
them would find spots too thin in the direction that the image does not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.centring import allowed_nodes
from offbragg.reduction._spot_kernels import CODE_BITS, HALF, draw_pixels
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.pixel_table import Float32Array, PixelTable
from offbragg.runtime import iter_chunks

_PIXELS_AT_ONCE = 500_000
_FEWEST_PIXELS = 12  # of a node on an image, within it and around
_LONGEST_PATH = 0.5  # of a pixel during an image, in any index: longer ones pass two nodes


@dataclass(frozen=True, eq=False)
class SpotPixels:
    """Pixels, each of one spot: what a node's surroundings counted on an image.

    Attributes
    ----------
    offsets : ndarray, shape (n_pixels, 3), float32
        From the node, in the middle of the exposure [Å⁻¹], in the crystal's Cartesian frame.
    photons : ndarray, shape (n_pixels,), float32
    spot : ndarray, shape (n_pixels,), int64
        From 0, in order.
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

    @cached_property
    def begins(self) -> IntArray:
        """The first pixel of each spot, and of one more, (n_spots + 1,)."""
        return np.searchsorted(self.spot, np.arange(len(self.q) + 1))

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
    reach = (to_q, d_min**-2, allowed_nodes(experiment.crystal.space_group))
    draw = (image_index, np.uint64(min(fraction, 1.0) * 2**32))
    transform = experiment.hkl_transform(image_index)
    begin = experiment.hkl_transform(image_index, 0.5 if stills else 0.0)
    end = experiment.hkl_transform(image_index, 0.5 if stills else 1.0)
    found: list[tuple[IntArray, Float32Array, Float32Array, Float32Array]] = []
    for table, image in zip(tables, photons, strict=True):
        for part in iter_chunks(len(table.directions), _PIXELS_AT_ONCE):
            rays = table.directions[part]
            pixels, codes = np.empty((2, len(rays)), dtype=np.int64)
            offsets = np.empty_like(rays)
            n = draw_pixels(rays, transform, reach, draw, pixels, codes, offsets)
            drawn = pixels[:n]
            values = image.reshape(-1)[part][drawn]
            # Copies: a view would keep what every pixel has room for.
            found.append((codes[:n].copy(), offsets[:n].copy(), values, rays[drawn]))
    code, offset, value, ray = (np.concatenate([f[column] for f in found]) for column in range(4))
    order = np.argsort(code, kind="stable")
    first, n = _groups(code[order])
    nodes = _decoded(code[order[first]])
    some = ray[order[first]].astype(np.float64)
    paths = some @ (end[0] - begin[0]).T - (end[1] - begin[1])
    value = value[order]
    is_broken = np.logical_or.reduceat(~np.isfinite(value), first) if len(first) else first > 0
    is_short = np.all(np.abs(paths) < _LONGEST_PATH, axis=1)
    good = ~is_broken & is_short & (n >= _FEWEST_PIXELS)
    kept = np.repeat(good, n)
    spot = np.repeat(np.arange(np.count_nonzero(good)), n[good])
    return SpotPixels(
        offset[order[kept]], value[kept], spot, nodes[good] @ to_q, paths[good] @ to_q
    )


def _groups(codes: IntArray) -> tuple[IntArray, IntArray]:
    """Where runs of equal numbers begin, and how long they are."""
    first = np.flatnonzero(np.diff(codes, prepend=-1))
    return first, np.diff(first, append=len(codes))


def _decoded(codes: IntArray) -> IntArray:
    """Indices (n, 3) of nodes from their numbers."""
    shifts = np.array([2 * CODE_BITS, CODE_BITS, 0])
    found: IntArray = (codes[:, None] >> shifts) % (2 * HALF) - HALF
    return found
