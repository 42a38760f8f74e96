"""Which frames of a growing HDF5 dataset are written, and their pixels; virtual ones, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import h5py
import numpy as np

from offbragg.errors import FormatError

#: Gives a dataset by the name of its file and its path in there; KeyError or OSError: not yet.
OpenDataset = Callable[[str, str], Any]


def has_frame(dataset: Any, index: int) -> bool:
    """Tell whether a frame of a dataset (n_frames, ...) is written, not one of fill values.

    Frames of a chunk each are, if all their chunks exist. Where that does not tell (several frames
    in a chunk, space allocated beforehand, no chunks), a frame of nothing but fill values counts
    as not written.
    """
    if not 0 <= index < len(dataset):
        return False
    told = False
    if dataset.chunks is not None:
        chunks = dataset.chunks
        rest = [range(0, n, step) for n, step in zip(dataset.shape[1:], chunks[1:], strict=True)]
        for corner in product((index - index % chunks[0],), *rest):
            if dataset.id.get_chunk_info_by_coord(corner).byte_offset is None:
                return False
        early = dataset.id.get_create_plist().get_alloc_time() == h5py.h5d.ALLOC_TIME_EARLY
        told = chunks[0] == 1 and not early
    return told or bool(np.any(dataset[index] != dataset.fillvalue))


class PlainFrames:
    """Frames of a dataset of its own."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def has(self, index: int) -> bool:
        """Whether a frame is written."""
        return has_frame(self.dataset, index)

    def read(self, index: int) -> Any:
        """Read a frame."""
        return np.asarray(self.dataset[index])


class VirtualFrames:
    """Frames of a virtual dataset, put together from their sources.

    HDF5 itself would fill in for a source that it cannot open, and say nothing.
    """

    def __init__(self, dataset: Any, what: str, open_dataset: OpenDataset) -> None:
        self.dataset, self._open = dataset, open_dataset
        plist = dataset.id.get_create_plist()
        self._pieces = [
            _Piece.of(plist, number, what, dataset.ndim)
            for number in range(plist.get_virtual_count())
        ]

    def __len__(self) -> int:
        return len(self.dataset)

    def has(self, index: int) -> bool:
        """Whether all of a frame is written."""
        found = [(piece, piece.source_index(index)) for piece in self._pieces]
        parts = [(piece, at) for piece, at in found if at is not None]
        return bool(parts) and all(
            has_frame(self._open(piece.file, piece.place), at) for piece, at in parts
        )

    def read(self, index: int) -> Any:
        """Read a frame."""
        frame = np.full(self.dataset.shape[1:], self.dataset.fillvalue, self.dataset.dtype)
        for piece in self._pieces:
            at = piece.source_index(index)
            if at is not None:
                frame[piece.target] = self._open(piece.file, piece.place)[(at, *piece.origin)]
        return frame


@dataclass(frozen=True)
class _Run:
    """What a selection takes along one axis: ``block`` elements every ``stride``."""

    start: int
    stride: int
    count: int | None  # None: without end
    block: int

    def rank_of(self, index: int) -> int | None:
        """How many elements come before one that is taken; None if it is not."""
        turn, within = divmod(index - self.start, self.stride)
        if turn < 0 or within >= self.block or (self.count is not None and turn >= self.count):
            return None
        return turn * self.block + within

    def element(self, rank: int) -> int:
        """Which element it is that has so many before it."""
        turn, within = divmod(rank, self.block)
        return self.start + turn * self.stride + within

    def as_slice(self) -> slice | None:
        """As a slice, if it is one piece."""
        if self.count == 1:
            return slice(self.start, self.start + self.block)
        if self.stride != self.block:
            return None
        end = None if self.count is None else self.start + self.count * self.block
        return slice(self.start, end)


@dataclass(frozen=True)
class _Piece:
    """One source of a virtual dataset, and where its frames and pixels go."""

    file: str
    place: str
    frames: _Run
    source_frames: _Run
    target: tuple[slice, ...]
    origin: tuple[slice, ...]

    @classmethod
    def of(cls, plist: Any, number: int, what: str, ndim: int) -> _Piece:
        """Piece ``number`` of a virtual dataset's creation properties."""
        file, place = plist.get_virtual_filename(number), plist.get_virtual_dsetname(number)
        runs = _runs(plist.get_virtual_vspace(number), ndim)
        source = _runs(plist.get_virtual_srcspace(number), ndim)
        target = [run.as_slice() for run in runs[1:]]
        origin = [run.as_slice() for run in source[1:]]
        is_known = len(runs) == len(source) == ndim and None not in target + origin
        if not is_known or "%" in file + place:
            raise FormatError(
                f"{what}: expected whole blocks of {file} {place} in the virtual dataset, which "
                "follow can wait for, found another selection"
            )
        return cls(
            file, place, runs[0], source[0],
            tuple(part for part in target if part is not None),
            tuple(part for part in origin if part is not None),
        )  # fmt: skip

    def source_index(self, index: int) -> int | None:
        """Frame of the source that a frame of the whole has a part of; None if it has none."""
        rank = self.frames.rank_of(index)
        return None if rank is None else self.source_frames.element(rank)


def _runs(space: Any, ndim: int) -> list[_Run]:
    """A selection, axis by axis; empty if it is not a regular one."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return [_Run(0, 1, None, 1)] * ndim  # of a source, all; its size is not kept
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return []
    parts = zip(*space.get_regular_hyperslab(), strict=True)
    return [_run(*(int(value) for value in part)) for part in parts]


def _run(start: int, stride: int, count: int, block: int) -> _Run:
    unlimited = int(h5py.h5s.UNLIMITED)
    if block == unlimited:
        return _Run(start, 1, None, 1)
    return _Run(start, stride, None if count == unlimited else count, block)
