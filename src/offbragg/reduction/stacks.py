"""Images stacked in HDF5: NXmx and its relations, with links and virtual datasets."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the compression filters of detectors
import numpy as np

from offbragg.errors import FormatError, MissingFileError
from offbragg.reduction.panel_arrays import Pixels, split_panels
from offbragg.reduction.sweep import Experiment

#: Endings of the names of such files.
HDF5_SUFFIXES = (".h5", ".nxs", ".hdf5", ".hdf", ".nx5", ".cxi")


class StackedImages(AbstractContextManager["StackedImages"]):
    """Images in one HDF5 file, possibly linked from others."""

    def __init__(self, experiment: Experiment) -> None:
        self.path = Path(experiment.template)
        self.panels = experiment.detector
        if not self.path.is_file():
            raise MissingFileError(f"{self.path}: no such file")
        self._lock = threading.Lock()
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise FormatError(f"{self.path}: expected HDF5, {error}") from None
        try:
            self._datasets = image_datasets(self._file, self.path)
            self._ends = np.cumsum([len(dataset) for dataset in self._datasets])
            self.indices = stack_indices(experiment)
            self._check()
        except (FormatError, MissingFileError):
            self._file.close()
            raise

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.indices)

    def read(self, index: int) -> tuple[Pixels, ...]:
        """Read image ``index``, from 0: an array (slow, fast) for each panel."""
        number = self.indices[index]
        part = int(np.searchsorted(self._ends, number, side="right"))
        first = int(self._ends[part - 1]) if part else 0
        try:
            with self._lock:
                data = np.asarray(self._datasets[part][number - first])
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise FormatError(f"{self.path}: image {number}: cannot be read, {error}") from None
        return split_panels(data, self.panels, f"{self.path}: image {number}")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __exit__(self, *error: object) -> None:
        """Close at the end of a context."""
        self.close()

    def _check(self) -> None:
        low, high = min(self.indices), max(self.indices)
        total = int(self._ends[-1])
        if low < 0 or high >= total:
            raise FormatError(
                f"{self.path}: expected images {low} to {high} (from 0), found {total} images"
            )
        for dataset in self._datasets:
            split_panels(np.empty(dataset.shape[1:], dtype=np.uint8), self.panels, str(self.path))


def stack_indices(experiment: Experiment) -> tuple[int, ...]:
    """Where in its stack each image of a scan is, from 0."""
    if experiment.file_indices is not None:
        return experiment.file_indices
    return tuple(int(number) - 1 for number in experiment.image_numbers)


def image_datasets(file: h5py.File, path: Path) -> list[Any]:
    """Find the datasets of images of an open file, in order; the path is for messages."""
    for group, names in image_places(file):
        datasets = [_linked(group, name, path) for name in names]
        datasets = [d for d in datasets if isinstance(d, h5py.Dataset) and d.ndim in (3, 4)]
        if datasets:
            return datasets
    raise FormatError(f"{path}: expected images in /entry/data/data, found none")


def image_places(file: h5py.File) -> Iterator[tuple[h5py.Group, list[str]]]:
    """Groups of an open file that name images, and the names in order; links may dangle."""
    entries = [name for name in ("entry", *file) if isinstance(file.get(name), h5py.Group)]
    for entry in dict.fromkeys(entries):
        for place in ("data", "instrument/detector"):
            group = file[entry].get(place)
            if not isinstance(group, h5py.Group):
                continue
            # By the names, not by what they lead to.
            named = sorted(group)
            if "data" in named:
                yield group, ["data"]
            numbered = [name for name in named if re.fullmatch(r"data_?\d+", name)]
            if numbered:
                yield group, numbered


def _linked(group: h5py.Group, name: str, path: Path) -> Any:
    """Follow a link, or a virtual dataset, and say which file of it is missing."""
    link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink) and not (path.parent / link.filename).is_file():
        raise MissingFileError(f"{path.parent / link.filename}: no such file, named by {path}")
    item = group.get(name)
    if isinstance(item, h5py.Dataset) and item.is_virtual:
        # HDF5 would fill in zeros for what is missing, and say nothing.
        for source in item.virtual_sources():
            where = path if source.file_name == "." else path.parent / source.file_name
            if not where.is_file():
                raise MissingFileError(f"{where}: no such file, named by {path}")
    return item


def open_growing(path: Path) -> h5py.File:
    """Open an HDF5 file that may still be written: not if its writer keeps readers away.

    Raises
    ------
    MissingFileError
        If there is no such file.
    OSError
        If it cannot be opened, or not yet.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        # HDF5's lock tells if a writer has it. It is not kept, as it would keep the writer away.
        h5py.File(path, "r").close()
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        try:
            return h5py.File(path, "r", swmr=True, locking=False)
        except OSError:
            raise error from None
