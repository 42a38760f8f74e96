"""HDF5 stacks that are still being written: files that come late, links that dangle, growth."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import h5py

from offbragg.errors import FormatError
from offbragg.reduction.growing_frames import PlainFrames, VirtualFrames
from offbragg.reduction.images import UnreadableImageError
from offbragg.reduction.panel_arrays import Pixels, split_panels
from offbragg.reduction.stacks import image_places, open_growing, stack_indices
from offbragg.reduction.sweep import Experiment

# What h5py lets out on a file that is not all written.
_NOT_YET = (OSError, RuntimeError, KeyError)
_MOST_LINKS = 20  # that lead from one to the next


class GrowingStacks:
    """Stacks of any number of sweeps; see `GrowingImages`.

    Files are opened again at each look, as HDF5 does not see another process's changes otherwise.
    """

    def __init__(self, experiments: Mapping[int, Experiment]) -> None:
        self._panels = {number: each.detector for number, each in experiments.items()}
        self._indices = {number: stack_indices(each) for number, each in experiments.items()}
        paths = {number: Path(each.template) for number, each in experiments.items()}
        self._files = OpenFiles()
        masters = {path: _Stack(path, self._files) for path in paths.values()}
        self._stacks = {number: masters[path] for number, path in paths.items()}
        for number, indices in self._indices.items():
            self._stacks[number].awaited.update(indices)
        self._lock = Lock()

    def look(self) -> bool:
        """See what has come since the last look; whether anything has."""
        with self._lock:
            self._files.close()
            news = [stack.look() for stack in dict.fromkeys(self._stacks.values())]
        return any(news)

    def is_there(self, sweep: int, image: int) -> bool:
        """Whether an image may be read."""
        return self._indices[sweep][image] in self._stacks[sweep].there

    def why_not(self, sweep: int, image: int) -> str:
        """Say what an image lacks."""
        stack = self._stacks[sweep]
        return stack.reason or f"{stack.path}: image {self._indices[sweep][image]} is not written"

    def read(self, sweep: int, image: int) -> tuple[Pixels, ...]:
        """Read an image; `UnreadableImageError` if it is not whole after all."""
        stack, number = self._stacks[sweep], self._indices[sweep][image]
        what = f"{stack.path}: image {number}"
        try:
            with self._lock:
                data = stack.read(number)
        except (*_NOT_YET, ValueError) as error:
            raise UnreadableImageError(f"{what}: cannot be read, {error}") from None
        return split_panels(data, self._panels[sweep], what)

    def put_back(self, sweep: int, image: int, reason: str) -> None:
        """Await an image again that could not be read."""
        stack, number = self._stacks[sweep], self._indices[sweep][image]
        stack.there.discard(number)
        stack.awaited.add(number)
        stack.reason = reason

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            self._files.close()


class OpenFiles:
    """Files open for reading, each once, so that their writers may go on."""

    def __init__(self) -> None:
        self._files: dict[Path, h5py.File] = {}

    def file(self, path: Path) -> h5py.File:
        """Open a file, or give the one that is open."""
        if path not in self._files:
            self._files[path] = open_growing(path)
        return self._files[path]

    def dataset(self, path: Path, place: str) -> Any:
        """A dataset of a file. Links to others are followed here: HDF5 may open those otherwise.

        Raises
        ------
        KeyError, OSError
            If it is not there.
        """
        for _ in range(_MOST_LINKS):
            file = self.file(path)
            folder, name = posixpath.split(posixpath.join("/", place))
            link = file[folder].get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                path, place = path.parent / link.filename, link.path
            elif isinstance(link, h5py.SoftLink):
                place = posixpath.normpath(posixpath.join(folder, link.path))
            else:
                return file[folder][name]
        raise FormatError(f"{path}: {place}: expected a dataset, found links without an end")

    def close(self) -> None:
        """Close them all."""
        while self._files:
            self._files.popitem()[1].close()


class _Stack:
    """Images that one file holds or links, by their index, from 0."""

    def __init__(self, path: Path, files: OpenFiles) -> None:
        self.path, self._files = path, files
        self.awaited: set[int] = set()
        self.there: set[int] = set()
        self.reason = ""
        self._parts: list[PlainFrames | VirtualFrames] = []
        self._lengths: list[int] = []  # of the parts, at the last look
        self._settled: list[int] = []  # of those that are followed by another

    def look(self) -> bool:
        """Open what there is and list the images in it."""
        before = (len(self.there), self._lengths)
        self.reason, self._parts = "", []
        try:
            self._open_parts()
        except _NOT_YET as error:
            self.reason = _in_words(self.path, error)
        self._settle()
        self._lengths = [len(part) for part in self._parts]
        for number in sorted(self.awaited):
            if self._has(number):
                self.there.add(number)
                self.awaited.discard(number)
        return before != (len(self.there), self._lengths)

    def read(self, number: int) -> Any:
        """Read the pixels of an image."""
        part, index = self._find(number)
        if part is None:
            raise KeyError(f"no image {number}")
        return part.read(index)

    def _open_parts(self) -> None:
        """Open the datasets of images, up to the first that is not there."""
        file = self._files.file(self.path)
        for group, names in image_places(file):
            for name in names:
                place = f"{group.name}/{name}"
                dataset = self._files.dataset(self.path, place)
                if not isinstance(dataset, h5py.Dataset) or dataset.ndim not in (3, 4):
                    break
                self._parts.append(self._frames(dataset))
            if self._parts:
                return
        self.reason = f"{self.path}: no images in /entry/data/data yet"

    def _frames(self, dataset: h5py.Dataset) -> PlainFrames | VirtualFrames:
        if not dataset.is_virtual:
            return PlainFrames(dataset)
        holder = Path(dataset.file.filename)
        return VirtualFrames(dataset, f"{holder}: {dataset.name}", partial(self._beside, holder))

    def _beside(self, holder: Path, name: str, place: str) -> Any:
        """A dataset of a file that another names."""
        return self._files.dataset(holder if name == "." else holder.parent / name, place)

    def _settle(self) -> None:
        """Drop parts that begin where the one before may still grow: their numbers are not known.

        A part ends where the next has begun, all of it is written and it grew no more since the
        last look.
        """
        for number, part in enumerate(self._parts[:-1]):
            n = len(part)
            if number < len(self._settled):
                if n != self._settled[number]:
                    raise FormatError(
                        f"{self.path}: part {number + 1}: expected {self._settled[number]} images, "
                        f"as another part has begun, found {n}"
                    )
            elif n and self._lengths[number : number + 1] == [n] and self._part_has(part, n - 1):
                self._settled.append(n)
            else:
                del self._parts[number + 1 :]
                return

    def _has(self, number: int) -> bool:
        part, index = self._find(number)
        return part is not None and self._part_has(part, index)

    def _part_has(self, part: PlainFrames | VirtualFrames, index: int) -> bool:
        """Whether a frame is written; what cannot be told is not."""
        try:
            return part.has(index)
        except _NOT_YET as error:
            self.reason = _in_words(self.path, error)
            return False

    def _find(self, number: int) -> tuple[PlainFrames | VirtualFrames | None, int]:
        """The part that an image is in, and where; the last, should it not be there yet."""
        if not self._parts:
            return None, 0
        for part in self._parts[:-1]:
            if number < len(part):
                return part, number
            number -= len(part)
        return self._parts[-1], number


def _in_words(path: Path, error: Exception) -> str:
    text = str(error)
    return text if str(path.parent) in text else f"{path}: {text}"
