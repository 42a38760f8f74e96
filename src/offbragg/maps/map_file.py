"""Read an open map file piece by piece, every error naming file, dataset, expected and found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from offbragg.crystal.grid import HklGrid
from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.maps.diffuse_map import DiffuseMap

FORMAT_VERSION = 1

DATASETS = {
    "intensity": "intensity",
    "sigma": "intensity_errors",
    "count": "count",
    "half_1": "half_1",
    "half_2": "half_2",
}
_DEEPEST_TABLE = 8
JSON = "application/json"


@contextmanager
def reading(path: str | Path) -> Iterator[MapFileReader]:
    """Open a map file to read; whatever is wrong with it is one clear error.

    Raises
    ------
    MissingFileError
        If there is no such file, or it cannot be opened.
    FormatError
        If it is no map, or what is read of it is damaged, missing or of another shape.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        is_hdf5 = h5py.is_hdf5(path)
        with open(path, "rb"):
            pass
    except OSError as error:
        raise MissingFileError(f"{path}: cannot be opened: {error.strerror}") from None
    if not is_hdf5:
        raise FormatError(f"{path}: expected a map in HDF5, found another kind of file")
    try:
        with h5py.File(path, "r") as file:
            yield MapFileReader(path, file)
    except FormatError:
        raise
    except InputError as error:
        raise FormatError(f"{path}: {error}") from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FormatError(f"{path}: damaged: {reason}") from None


class MapFileReader:
    """Reads one open file; every error names file, dataset, expected and found."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path, self.file = path, file

    def read(self) -> DiffuseMap:
        """The whole map."""
        self.check_version()
        grid = self.read_grid()
        arrays: dict[str, Any] = {field: self.read_array(field, grid.shape) for field in DATASETS}
        statistics: dict[str, Any] = {}
        if "statistics" in self.file["entry"]:
            statistics = self.read_table("entry/statistics", 0)
        return DiffuseMap(
            grid=grid,
            space_group=self.read_text("entry/sample/space_group"),
            laue_group=self.read_text("entry/sample/laue_group", required=False) or None,
            statistics=statistics,
            provenance=tuple(self.read_steps()),
            **arrays,
        )

    def check_version(self) -> None:
        """Refuse a file that is no map of this program, or of a later format."""
        version = self.file.attrs.get("offbragg_format_version")
        if version is None:
            raise FormatError(
                f"{self.path}: attribute offbragg_format_version: expected {FORMAT_VERSION}, "
                "found none: not a map of this program"
            )
        if not np.array_equal(version, FORMAT_VERSION):
            raise FormatError(
                f"{self.path}: attribute offbragg_format_version: expected {FORMAT_VERSION}, "
                f"found {version}: a later version of the program may read it"
            )

    def item(self, name: str, kind: Any, *, required: bool = True) -> Any:
        """A group or dataset that lies in this file itself, or None."""
        found: Any = self.file
        for part in name.split("/"):
            link = found.get(part, getlink=True) if isinstance(found, h5py.Group) else None
            if link is None:
                if required:
                    raise self.error(name, f"expected a {_word(kind)}, found none")
                return None
            if not isinstance(link, h5py.HardLink):
                raise self.error(name, f"expected a {_word(kind)}, found a link")
            found = found[part]
        if not isinstance(found, kind):
            raise self.error(name, f"expected a {_word(kind)}, found a {_word(type(found))}")
        if isinstance(found, h5py.Dataset) and (found.external or found.is_virtual):
            raise self.error(name, "expected a dataset in this file, found one in another")
        return found

    def error(self, name: str, text: str) -> FormatError:
        """An error that names the file and a place in it."""
        return FormatError(f"{self.path}: /{name}: {text}")

    def read_grid(self) -> HklGrid:
        """The voxels: axes, cell, sampling, limit."""
        group = self.item("entry/map", h5py.Group)
        axes = [self.numbers(f"entry/map/{axis}", 1) for axis in "hkl"]
        cell = self.numbers("entry/sample/unit_cell", 1)
        d_min = self.numbers("entry/map/d_min", 0, required=False)
        sampling = group.attrs.get("sampling", np.zeros(3, dtype=np.int64))
        if np.shape(sampling) != (3,) or np.asarray(sampling).dtype.kind not in "iu":
            raise self.error("entry/map", f"sampling: expected 3 integers, found {sampling!r}")
        n_h, n_k, n_l = (int(x) for x in sampling)
        return HklGrid(
            cell,
            axes[0],
            axes[1],
            axes[2],
            (n_h, n_k, n_l),
            None if d_min is None else float(d_min),
        )

    def numbers(self, name: str, n_dimensions: int, *, required: bool = True) -> Any:
        """A dataset of numbers as float64, or None where it need not be there."""
        dataset = self.item(name, h5py.Dataset, required=required)
        if dataset is None:
            return None
        if dataset.ndim != n_dimensions or dataset.dtype.kind not in "iuf":
            raise self.error(
                name,
                f"expected numbers in {n_dimensions} dimensions, found {dataset.dtype} in "
                f"{dataset.ndim}",
            )
        return dataset[()].astype(np.float64)

    def dataset(self, field: str, shape: tuple[int, int, int]) -> Any:
        """The dataset of a field of `DiffuseMap`, checked, not read; None where there is none."""
        name = f"entry/map/{DATASETS[field]}"
        dataset = self.item(name, h5py.Dataset, required=field == "intensity")
        if dataset is None:
            return None
        wanted = "iu" if field == "count" else "iuf"
        if dataset.shape != shape or dataset.dtype.kind not in wanted:
            raise self.error(
                name,
                f"expected {'integers' if wanted == 'iu' else 'numbers'} of shape {shape}, found "
                f"{dataset.dtype} of shape {dataset.shape}",
            )
        return dataset

    def read_array(self, field: str, shape: tuple[int, int, int]) -> NDArray[Any] | None:
        """The values of a field of `DiffuseMap`; None where there are none."""
        dataset = self.dataset(field, shape)
        if dataset is None:
            return None
        values: NDArray[Any] = dataset[()]
        if field == "count":
            return values
        # The machine's own byte order, single precision unless the file has double.
        return values.astype(np.float64 if values.dtype.itemsize == 8 else np.float32, copy=False)

    def read_text(self, name: str, *, required: bool = True) -> str:
        """A text; empty where it need not be there."""
        dataset = self.item(name, h5py.Dataset, required=required)
        if dataset is None:
            return ""
        if not h5py.check_string_dtype(dataset.dtype) or dataset.shape != ():
            raise self.error(name, f"expected a text, found {dataset.dtype} of {dataset.shape}")
        return str(dataset.asstr()[()])

    def read_table(self, name: str, depth: int) -> dict[str, Any]:
        """A group as a mapping, groups in it as mappings."""
        if depth > _DEEPEST_TABLE:
            raise self.error(name, f"expected at most {_DEEPEST_TABLE} groups inside each other")
        group = self.item(name, h5py.Group)
        table: dict[str, Any] = {}
        for key in group:
            inner = f"{name}/{key}"
            item = self.item(inner, h5py.Group | h5py.Dataset)
            if isinstance(item, h5py.Group):
                table[key] = self.read_table(inner, depth + 1)
            elif h5py.check_string_dtype(item.dtype):
                values = item.asstr()[()]
                table[key] = values if isinstance(values, str) else values.tolist()
            elif item.shape is None:
                table[key] = None
            elif item.dtype.kind in "biuf":
                table[key] = item[()].tolist()
            else:
                raise self.error(inner, f"expected numbers or text, found {item.dtype}")
        return table

    def read_steps(self) -> Iterator[dict[str, Any]]:
        """The steps of provenance, in their order."""
        names = [x for x in self.file["entry"] if x.startswith("process_")]
        for name in sorted(names, key=_step_number):
            group = self.item(f"entry/{name}", h5py.Group)
            step: dict[str, Any] = {}
            for key in group:
                inner = f"entry/{name}/{key}"
                text = self.read_text(inner)
                if group[key].attrs.get("content_type") == JSON:
                    step[key] = self.parse(inner, json.loads, text)
                else:
                    step[key] = text
            yield step

    def parse(self, name: str, parser: Callable[[str], Any], text: str) -> Any:
        """A text by a parser that raises ValueError."""
        try:
            return parser(text)
        except (ValueError, RecursionError):
            raise self.error(name, f"expected JSON, found {text[:40]!r}") from None


def _step_number(name: str) -> tuple[int, str]:
    digits = name.removeprefix("process_")
    return (int(digits) if digits.isascii() and digits.isdigit() else 0, name)


def _word(kind: Any) -> str:
    return "dataset" if kind is h5py.Dataset else "group"
