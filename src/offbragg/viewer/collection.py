"""`Collection`: the maps and images that one viewer shows, and what is worked out of them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offbragg.errors import InputError
from offbragg.maps.io import read_map
from offbragg.viewer.chunks import Values
from offbragg.viewer.planes import cartesian_volume
from offbragg.viewer.viewed import ViewedMap, open_map, view_delta_pdf

if TYPE_CHECKING:
    from offbragg.viewer.frames import FrameSeries

# Cells of the ΔPDF that are shown: beyond one the crystal repeats itself.
_EXTENT = 1.0
_VOLUMES = 8  # that are kept


class Collection:
    """Maps and series of images under numbers; maps that are worked out join the others.

    Parameters
    ----------
    maps : sequence of Path
        Map files.
    frames : sequence of FrameSeries
    """

    def __init__(self, maps: Sequence[Path], frames: Sequence[FrameSeries] = ()) -> None:
        # More threads than processors would only take turns at unpacking.
        self.pool = ThreadPoolExecutor(2, thread_name_prefix="chunks")
        self.maps = [open_map(path, _label(path, maps), self.pool) for path in maps]
        self.frames = list(frames)
        self._lock = threading.Lock()
        self._pdf: dict[int, int] = {}
        self._volumes: dict[tuple[int, str, int], tuple[Values, float]] = {}
        self._comparisons: dict[tuple[int, int], dict[str, Any]] = {}

    def warm_up(self) -> None:
        """Begin with what a page asks for first, while a browser opens."""
        self.pool.submit(import_module, "matplotlib")
        for viewed in self.maps[:1]:
            middle = round(-viewed.first[2] / viewed.step[2])
            if 0 <= middle < viewed.shape[2]:
                voxels = viewed.arrays["intensity"]
                threading.Thread(target=voxels.section, args=(2, middle), daemon=True).start()

    def map(self, number: int) -> ViewedMap:
        """A map by its number."""
        if not 0 <= number < len(self.maps):
            raise InputError(f"map must be 0 to {len(self.maps) - 1}, got {number}")
        return self.maps[number]

    def series(self, number: int) -> FrameSeries:
        """A series of images by its number."""
        if not 0 <= number < len(self.frames):
            raise InputError(f"series must be 0 to {len(self.frames) - 1}, got {number}")
        return self.frames[number]

    def delta_pdf(self, number: int) -> int:
        """Number of the map that holds the 3D-ΔPDF of a map; worked out when first asked for."""
        # Its transforms are imported here: a map that is opened does not wait for them.
        from offbragg.maps.patterson import DeltaPdfOptions, compute_delta_pdf

        source = self.map(number)
        if source.path is None:
            raise InputError(f"{source.name}: only a map of reciprocal space has a 3D-ΔPDF")
        with self._lock:
            if number not in self._pdf:
                options = DeltaPdfOptions(holes="neighbours", subtract_mean=True, extent=_EXTENT)
                pdf = compute_delta_pdf(read_map(source.path), options)
                self.maps.append(view_delta_pdf(pdf, f"ΔPDF of {source.name}", source.space_group))
                self._pdf[number] = len(self.maps) - 1
            return self._pdf[number]

    def volume(self, number: int, array: str, edge: int) -> tuple[Values, float]:
        """See `cartesian_volume`; kept."""
        viewed = self.map(number)
        with self._lock:
            key = (number, array, edge)
            if key not in self._volumes:
                self._volumes[key] = cartesian_volume(viewed, array, edge)
                if len(self._volumes) > _VOLUMES:
                    self._volumes.pop(next(iter(self._volumes)))
            return self._volumes[key]

    def comparison(self, a: int, b: int) -> dict[str, Any]:
        """See `compare`, as plain values; kept."""
        from offbragg.maps.comparison import compare

        paths = [self.map(number).path for number in (a, b)]
        if paths[0] is None or paths[1] is None:
            raise InputError("compare: expected two maps of reciprocal space")
        with self._lock:
            if (a, b) not in self._comparisons:
                table = compare(read_map(paths[0]), read_map(paths[1]))
                self._comparisons[a, b] = dataclasses.asdict(table)
            return self._comparisons[a, b]


def _label(path: Path, paths: Sequence[Path]) -> str:
    """Name of a file, with its folder where others have the same name."""
    alike = sum(other.name == path.name for other in paths)
    return path.name if alike == 1 else f"{path.parent.name}/{path.name}"
