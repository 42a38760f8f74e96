"""Image files that are still being written: which of them are there and whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from offbragg.reduction.images import (
    UnreadableImageError,
    frames_in_files,
    image_paths,
    read_single,
)
from offbragg.reduction.panel_arrays import Pixels
from offbragg.reduction.sweep import Experiment

_Stamp = tuple[int, int]  # bytes, and time of the last change [ns]


class GrowingFiles:
    """One file an image, of any number of sweeps; see `GrowingImages`.

    A file is taken when two looks in a row find it of one size and time, and it decodes. One that
    does not is left alone until it changes.
    """

    def __init__(self, experiments: Mapping[int, Experiment]) -> None:
        self._experiments = dict(experiments)
        self._paths = {number: image_paths(each) for number, each in experiments.items()}
        self._frames = {number: frames_in_files(each) for number, each in experiments.items()}
        # By folder, as one listing of it tells all.
        self._awaited: dict[Path, set[str]] = {}
        for path in {path for paths in self._paths.values() for path in paths}:
            self._awaited.setdefault(path.parent, set()).add(path.name)
        self._stamps: dict[Path, _Stamp] = {}
        self._damaged: dict[Path, tuple[_Stamp | None, str]] = {}
        self._settled: set[Path] = set()

    def look(self) -> bool:
        """See which files have come or changed since the last look; whether any has."""
        changed = False
        for folder, names in self._awaited.items():
            for path, stamp in _listed(folder, names).items():
                if self._stamps.get(path) != stamp:
                    self._stamps[path] = stamp
                    changed = True
                elif stamp[0] > 0 and self._damaged.get(path, (None,))[0] != stamp:
                    self._settled.add(path)
                    names.discard(path.name)
        return changed

    def is_there(self, sweep: int, image: int) -> bool:
        """Whether an image may be read."""
        return self._paths[sweep][image] in self._settled

    def why_not(self, sweep: int, image: int) -> str:
        """Say what an image lacks."""
        path = self._paths[sweep][image]
        if path in self._damaged:
            return self._damaged[path][1]
        return f"{path}: " + ("still being written" if path in self._stamps else "no such file")

    def read(self, sweep: int, image: int) -> tuple[Pixels, ...]:
        """Read an image; `UnreadableImageError` if it is not whole after all."""
        path = self._paths[sweep][image]
        panels = self._experiments[sweep].detector
        images = read_single(path, self._frames[sweep][image], panels, is_new=True)
        if _stamp(path) != self._stamps[path]:
            raise UnreadableImageError(f"{path}: expected an image, it is being written again")
        return images

    def put_back(self, sweep: int, image: int, reason: str) -> None:
        """Await an image again that could not be read."""
        path = self._paths[sweep][image]
        self._damaged[path] = self._stamps.get(path), reason
        self._settled.discard(path)
        self._awaited[path.parent].add(path.name)

    def close(self) -> None:
        """Nothing stays open."""


def _listed(folder: Path, names: set[str]) -> dict[Path, _Stamp]:
    """Those of some files that are in a folder, which need not be there itself yet."""
    if not names:
        return {}
    try:
        with os.scandir(folder) as entries:
            found = [folder / entry.name for entry in entries if entry.name in names]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    stamps = ((path, _stamp(path)) for path in found)
    return {path: stamp for path, stamp in stamps if stamp is not None}


def _stamp(path: Path) -> _Stamp | None:
    """Size and time of a file; None if it is gone, as temporary ones go."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns
