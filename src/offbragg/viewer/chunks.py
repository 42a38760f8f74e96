"""Voxels of a map read as they are asked for: chunks of an HDF5 dataset, the last ones kept.

HDF5 itself unpacks one chunk at a time under one lock. Chunks as `write_map` writes them (gzip of
shuffled bytes) are unpacked here, several at a time, so that a section of a large map appears
while a person waits for it; all others are left to HDF5.
"""

from __future__ import annotations

import itertools
import math
import threading
import zlib
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import IntArray
from offbragg.errors import FormatError

Values = NDArray[np.float32]
Index = tuple[int, int, int]

_SHUFFLE, _GZIP = 2, 1  # HDF5's numbers of filters
_DIRECT = [_SHUFFLE, _GZIP]
_AHEAD = 8  # sections, or chunks: so many further on are unpacked while one is looked at


class Voxels(Protocol):
    """A three-dimensional array of numbers, however it is kept."""

    shape: Index

    def section(self, axis: int, index: int) -> Values:
        """The plane where one index is constant, float32."""
        ...

    def at(self, index: IntArray) -> Values:
        """The values at indices (n, 3) within the array, float32 (n,)."""
        ...

    def blocks(self) -> Iterator[tuple[Index, Values]]:
        """All values in blocks, each with the index of its first one."""
        ...


class ArrayVoxels:
    """`Voxels` of an array in memory."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values
        self.shape: Index = values.shape[0], values.shape[1], values.shape[2]

    def section(self, axis: int, index: int) -> Values:
        """A plane."""
        return np.ascontiguousarray(np.take(self.values, index, axis), dtype=np.float32)

    def at(self, index: IntArray) -> Values:
        """Values at indices."""
        found: Values = self.values[tuple(index.T)].astype(np.float32)
        return found

    def blocks(self) -> Iterator[tuple[Index, Values]]:
        """Planes."""
        for i, plane in enumerate(self.values):
            yield (i, 0, 0), plane[None].astype(np.float32)


class ChunkedVoxels:
    """`Voxels` of a dataset in a file that stays open.

    Parameters
    ----------
    dataset : h5py.Dataset
        Three-dimensional.
    pool : ThreadPoolExecutor
        Unpacks chunks.
    budget : int
        Bytes of unpacked chunks that are kept; those asked for last stay.
    """

    def __init__(self, dataset: Any, pool: ThreadPoolExecutor, budget: int = 1 << 28) -> None:
        self._dataset, self._pool = dataset, pool
        self.shape: Index = tuple(dataset.shape)
        # A dataset in one piece is read in pieces all the same.
        self._edges: Index = tuple(dataset.chunks or (min(n, 32) for n in self.shape))
        self._direct = dataset.chunks is not None and _filters(dataset) == _DIRECT
        self._most = max(1, budget // (4 * math.prod(self._edges)))
        self._kept: OrderedDict[Index, Future[Values]] = OrderedDict()
        self._lock = threading.Lock()
        self._last = [0, 0, 0]

    def section(self, axis: int, index: int) -> Values:
        """A plane, from the chunks that it crosses; those that turning on will cross come next."""
        across = [i for i in range(3) if i != axis]
        plane = np.empty([self.shape[i] for i in across], dtype=np.float32)
        number, within = divmod(index, self._edges[axis])
        for chunk, values in self._chunks(self._slab(axis, number)):
            part: Values = np.take(values, [within], axis).squeeze(axis)
            a, b = (chunk[i] * self._edges[i] for i in across)
            plane[a : a + part.shape[0], b : b + part.shape[1]] = part
        by, self._last[axis] = index - self._last[axis], index
        ahead = index + _AHEAD * int(np.sign(by))
        # After a leap nobody knows which way it goes on.
        if abs(by) <= _AHEAD and 0 <= ahead < self.shape[axis]:
            for name in self._slab(axis, ahead // self._edges[axis]):
                self._future(name)
        return plane

    def _slab(self, axis: int, number: int) -> list[Index]:
        """Chunks of one number along an axis."""
        ranges: list[Any] = self._ranges()
        ranges[axis] = [number]
        return list(itertools.product(*ranges))

    def at(self, index: IntArray) -> Values:
        """Values at indices, from the chunks that they lie in."""
        found = np.empty(len(index), dtype=np.float32)
        if not len(index):  # a plane that passes the map by
            return found
        edges = np.array(self._edges)
        chunk, within = np.divmod(index, edges)
        counts = [len(x) for x in self._ranges()]
        flat = np.ravel_multi_index(tuple(chunk.T), counts)
        order = np.argsort(flat, kind="stable")
        used, starts = np.unique(flat[order], return_index=True)
        groups = np.split(order, starts[1:])
        places = np.stack(np.unravel_index(used, counts), axis=1).tolist()
        names = [(i, j, k) for i, j, k in places]
        for (_, values), group in zip(self._chunks(names), groups, strict=True):
            found[group] = values[tuple(within[group].T)]
        return found

    def blocks(self) -> Iterator[tuple[Index, Values]]:
        """All chunks, none of them kept."""
        coming: deque[tuple[Index, Future[Values]]] = deque()
        for i, j, k in itertools.product(*self._ranges()):
            first = (i * self._edges[0], j * self._edges[1], k * self._edges[2])
            coming.append((first, self._pool.submit(self._read, (i, j, k))))
            if len(coming) > _AHEAD:
                start, block = coming.popleft()
                yield start, block.result()
        for start, block in coming:
            yield start, block.result()

    def _ranges(self) -> list[range]:
        """Numbers of the chunks along each axis."""
        return [range(-(-n // e)) for n, e in zip(self.shape, self._edges, strict=True)]

    def _chunks(self, names: Sequence[Index]) -> Iterator[tuple[Index, Values]]:
        """Chunks in the order of their names, several unpacked at a time."""
        for name, coming in [(name, self._future(name)) for name in names]:
            try:
                yield name, coming.result()
            except (FormatError, OSError):
                with self._lock:
                    self._kept.pop(name, None)
                raise

    def _future(self, name: Index) -> Future[Values]:
        """A chunk that is there, or on its way from now on."""
        with self._lock:
            if name not in self._kept:
                self._kept[name] = self._pool.submit(self._read, name)
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(name)
            return self._kept[name]

    def _read(self, name: Index) -> Values:
        try:
            return self._unpack(name)
        except (OSError, RuntimeError, ValueError, zlib.error) as error:
            where = f"{self._dataset.file.filename}: {self._dataset.name}"
            raise FormatError(f"{where}: chunk {name} is damaged: {error}") from None

    def _unpack(self, name: Index) -> Values:
        first = tuple(c * e for c, e in zip(name, self._edges, strict=True))
        last = tuple(min(a + e, n) for a, e, n in zip(first, self._edges, self.shape, strict=True))
        # A chunk that nothing was written to is not in the file.
        if self._direct and self._dataset.id.get_chunk_info_by_coord(first).byte_offset is not None:
            # Chunks at the far ends are stored whole: what is beyond the array is cut off.
            filters, packed = self._dataset.id.read_direct_chunk(first)
            if filters == 0:
                item = self._dataset.dtype.itemsize
                data = np.frombuffer(zlib.decompress(packed), dtype=np.uint8)
                data = np.ascontiguousarray(data.reshape(item, -1).T)
                values: Values = data.view(self._dataset.dtype).reshape(self._edges)
                values = values[tuple(slice(0, b - a) for a, b in zip(first, last, strict=True))]
                return np.asarray(values, dtype=np.float32)
        read = self._dataset[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
        return np.asarray(read, dtype=np.float32)


def _filters(dataset: Any) -> list[int]:
    """HDF5's numbers of the filters of a dataset, in the order in which they pack."""
    properties = dataset.id.get_create_plist()
    return [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
