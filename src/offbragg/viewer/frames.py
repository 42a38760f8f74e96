"""`FrameSeries`: rotation images as the viewer sees them, with what the map makes of them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import BoolArray, FloatArray
from offbragg.crystal.centring import allowed_nodes
from offbragg.crystal.grid import HklGrid
from offbragg.errors import InputError
from offbragg.reduction.corrections import mean_solid_angle
from offbragg.reduction.detector_mask import static_mask
from offbragg.reduction.images import open_images
from offbragg.reduction.options import MapOptions
from offbragg.reduction.panel_arrays import Pixels
from offbragg.reduction.photons import make_tables, untrusted_pixels
from offbragg.reduction.sweep import Experiment

#: Values of `FrameSeries.mask`.
USED, EXCLUDED, UNTRUSTED = 0, 1, 2

_MOST_NODES = 1e7  # that are kept to be predicted
_LARGEST_EDGE = 1200  # pixels along an edge of what is sent; larger panels are averaged


@dataclass(frozen=True)
class Node:
    """A Bragg node that crosses the Ewald sphere while an image is taken.

    Attributes
    ----------
    hkl : tuple of 3 int
    fast, slow : float
        Where it meets the panel, in pixels; pixel (i, j) covers [i, i+1) × [j, j+1).
    """

    hkl: tuple[int, int, int]
    fast: float
    slow: float


class FrameSeries:
    """Images of an experiment, read when they are looked at.

    Parameters
    ----------
    name : str
    experiment : Experiment
    d_min : float
        Resolution limit of the nodes that are predicted [Å].
    """

    def __init__(self, name: str, experiment: Experiment, d_min: float) -> None:
        self.name, self.experiment = name, experiment
        self.options = MapOptions(d_min=d_min)
        self._source = open_images(experiment)
        self._lock = threading.Lock()
        self._read = lru_cache(maxsize=2)(self._source.read)
        # The mouse reads pixel after pixel of one image.
        self._untrusted = lru_cache(maxsize=2)(self._find_untrusted)
        self._corrected = lru_cache(maxsize=2)(self._correct)
        self._tables: tuple[Any, ...] | None = None
        self._nodes = _all_nodes(name, experiment, d_min)

    @property
    def n_images(self) -> int:
        """Number of images."""
        return self.experiment.n_images

    def shrinkage(self, panel: int) -> int:
        """Pixels along an edge that are averaged to one, so that a panel can be sent."""
        return max(1, -(-max(self.experiment.detector[panel].shape) // _LARGEST_EDGE))

    def raw(self, image: int, panel: int) -> NDArray[np.float32]:
        """Values as they are in the file [ADU], averaged over blocks of pixels."""
        return _shrink(self._image(image, panel).astype(np.float32), self.shrinkage(panel))

    def corrected(self, image: int, panel: int) -> NDArray[np.float32]:
        """Photons with the corrections of pixels, NaN where a pixel is not used; averaged."""
        return _shrink(self._corrected(image, panel), self.shrinkage(panel))

    def mask(self, image: int, panel: int) -> NDArray[np.float32]:
        """USED, EXCLUDED on every image, or UNTRUSTED on this one; the largest of a block."""
        values = np.full(self.experiment.detector[panel].shape, USED, dtype=np.float32)
        values[self._untrusted(image, panel)] = UNTRUSTED
        values[self._table(panel).excluded] = EXCLUDED
        n = self.shrinkage(panel)
        return values if n == 1 else _blocks(values, n, float(USED)).max(axis=(1, 3))

    def nodes(self, image: int, panel: int) -> list[Node]:
        """Bragg nodes that are on the Ewald sphere at some moment of an image."""
        self._check(image, panel)
        experiment = self.experiment
        s0 = experiment.beam.s0
        ends = [experiment.lattice_matrix(image, fraction) for fraction in (0.0, 1.0)]
        before, after = (_off_the_sphere(self._nodes @ a.T, s0) for a in ends)
        crossing = np.sign(before) != np.sign(after)
        share = before[crossing] / (before[crossing] - after[crossing])
        start, end = (self._nodes[crossing] @ a.T for a in ends)
        rays = s0 + start + share[:, None] * (end - start)
        fast, slow, hits = _meet_panel(rays, experiment.detector[panel])
        return [
            Node((int(h[0]), int(h[1]), int(h[2])), float(x), float(y))
            for h, x, y in zip(self._nodes[crossing][hits], fast[hits], slow[hits], strict=True)
        ]

    def pixel(self, image: int, panel: int, fast: int, slow: int) -> dict[str, Any]:
        """What is known of one pixel: raw value, corrected photons or None, hkl, d [Å]."""
        raw = self._image(image, panel)
        if not (0 <= slow < raw.shape[0] and 0 <= fast < raw.shape[1]):
            raise InputError(f"pixel must be in a panel of {raw.shape[::-1]}, got {fast}, {slow}")
        rows = slice(slow, slow + 1)
        position = self.experiment.detector[panel].pixel_positions(rows=rows)[0, fast]
        hkl = self.experiment.hkl_of(position, image)
        corrected = float(self._corrected(image, panel)[slow, fast])
        inv_d = float(np.linalg.norm(hkl @ self.experiment.crystal.cell.frac_matrix))
        return {
            "raw": float(raw[slow, fast]),
            "corrected": corrected if np.isfinite(corrected) else None,
            "hkl": hkl.tolist(),
            "d": 1 / inv_d if inv_d > 0 else None,
        }

    def _check(self, image: int, panel: int) -> None:
        if not 0 <= image < self.n_images:
            raise InputError(f"image must be 0 to {self.n_images - 1}, got {image}")
        if not 0 <= panel < len(self.experiment.detector):
            raise InputError(f"panel must be 0 to {len(self.experiment.detector) - 1}, got {panel}")

    def _image(self, image: int, panel: int) -> Pixels:
        self._check(image, panel)
        with self._lock:
            return self._read(image)[panel]

    def _find_untrusted(self, image: int, panel: int) -> BoolArray:
        panels = self.experiment.detector[panel : panel + 1]
        return untrusted_pixels([self._image(image, panel)], panels, self.options)[0]

    def _correct(self, image: int, panel: int) -> NDArray[np.float32]:
        table = self._table(panel)
        photons = table.photons(self._image(image, panel), self._untrusted(image, panel))
        values: NDArray[np.float32] = photons * table.factors.reshape(photons.shape)
        return values

    def _table(self, panel: int) -> Any:
        with self._lock:
            if self._tables is None:
                reference = mean_solid_angle(self.experiment.detector)
                mask = static_mask(self.experiment, self.options)
                self._tables = make_tables(self.experiment, self.options, reference, mask)
            return self._tables[panel]


def _all_nodes(name: str, experiment: Experiment, d_min: float) -> FloatArray:
    """Miller indices (n, 3) of the nodes that the centring allows, to a resolution."""
    cell = experiment.crystal.cell
    expected = 4 / 3 * np.pi * cell.volume / d_min**3
    if expected > _MOST_NODES:
        raise InputError(
            f"{name}: about {expected:.1e} Bragg nodes to {d_min:g} Å are more than "
            f"{_MOST_NODES:.0e}, give a larger --d-min"
        )
    grid = HklGrid.from_resolution(cell, d_min)
    hkl = np.rint(grid.hkl()[grid.within()])
    allowed = allowed_nodes(experiment.crystal.space_group)
    index = hkl.astype(np.int64) % len(allowed)
    nodes: FloatArray = hkl[
        allowed[index[:, 0], index[:, 1], index[:, 2]] & np.any(hkl != 0, axis=1)
    ]
    return nodes


def _off_the_sphere(nodes: FloatArray, s0: FloatArray) -> FloatArray:
    """|s₀ + s|² − |s₀|² of reciprocal vectors (n, 3): 0 on the Ewald sphere."""
    difference: FloatArray = np.einsum("ij,ij->i", nodes, nodes) + 2 * nodes @ s0
    return difference


def _meet_panel(rays: FloatArray, panel: Any) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Where rays (n, 3) from the crystal meet a panel [pixels], and which of them do."""
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (panel.origin @ panel.normal) / (rays @ panel.normal)
        points = distance[:, None] * rays - panel.origin
        fast = points @ panel.fast_axis / panel.pixel_size[0]
        slow = points @ panel.slow_axis / panel.pixel_size[1]
        hits = (distance > 0) & (fast >= 0) & (slow >= 0)
        hits &= (fast < panel.image_size[0]) & (slow < panel.image_size[1])
    return fast, slow, hits


def _blocks(values: NDArray[np.float32], n: int, beyond: float) -> NDArray[np.float32]:
    """Values in blocks of n × n, shape (n_slow, n, n_fast, n), filled up at the far ends."""
    rows, columns = (-(-size // n) * n for size in values.shape)
    whole = np.full((rows, columns), beyond, dtype=np.float32)
    whole[: values.shape[0], : values.shape[1]] = values
    return whole.reshape(rows // n, n, columns // n, n)


def _shrink(values: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Means of the finite values of blocks of n × n, NaN where there are none."""
    if n == 1:
        return values
    blocks = _blocks(values, n, np.nan)
    finite = np.isfinite(blocks)
    count = finite.sum(axis=(1, 3))
    total = np.where(finite, blocks, 0).sum(axis=(1, 3))
    means = np.full(total.shape, np.nan, dtype=np.float32)
    np.divide(total, count, out=means, where=count > 0)
    return means
