"""Map files: HDF5 in NeXus layout (NXdata), written whole or not at all.

====================================  ==========================================================
``/``                                 attrs ``default``, ``offbragg_format_version``
``/entry/map`` (NXdata)               ``intensity`` (n_h, n_k, n_l) float32; optional
                                      ``intensity_errors``, ``half_1``, ``half_2`` float32 and
                                      ``count`` int32; axes ``h k l`` float64 and attr
                                      ``sampling``; ``d_min`` [Å] where there is a limit
``/entry/sample`` (NXsample)          ``unit_cell`` (6,) [Å, degrees], ``space_group``;
                                      ``laue_group`` where the map is merged: a Laue symbol, or a
                                      space group without inversion where Friedel mates are apart
``/entry/statistics``                 a group a table, a dataset a column
``/entry/process_1`` … (NXprocess)    a step of provenance each; options as JSON
====================================  ==========================================================
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from offbragg.crystal.grid import HklGrid
from offbragg.errors import FormatError, InputError, MissingFileError, OffbraggError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.provenance import plain

FORMAT_VERSION = 1

_DATASETS = {
    "intensity": "intensity",
    "sigma": "intensity_errors",
    "count": "count",
    "half_1": "half_1",
    "half_2": "half_2",
}
_GZIP_LEVEL = 1  # higher levels are several times slower for some per cent
_CHUNK_EDGE = 64  # 64³ float32 are 1 MiB, HDF5's cache of chunks
_DEEPEST_TABLE = 8
_JSON = "application/json"


@contextmanager
def replace_when_done(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` if the block succeeds.

    A reader never sees half a file, and an error leaves what was there as it was.

    Raises
    ------
    MissingFileError
        If the folder does not exist, ``path`` is a folder, a device or a pipe, or it cannot be
        written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise MissingFileError(f"{path}: folder {path.parent} does not exist")
    if path.is_dir():
        raise MissingFileError(f"{path}: expected the name of a file, found a folder")
    if path.exists() and not path.is_file():
        raise MissingFileError(f"{path}: expected the name of a file, found a device or pipe")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OffbraggError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
        raise MissingFileError(f"{path}: cannot be written: {reason}") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_map(path: str | Path, diffuse_map: DiffuseMap) -> None:
    """Write a map as HDF5/NeXus, gzip-compressed, readable by NeXpy, silx, H5Web and h5py.

    Intensities, their errors and the half maps are stored as float32. The file appears under its
    name when it is complete.

    Parameters
    ----------
    path : str or Path
        A file there is replaced.
    diffuse_map : DiffuseMap

    Raises
    ------
    MissingFileError
        If the folder does not exist or cannot be written.
    InputError
        If a value does not fit the file's types, or statistics hold what is neither number, text,
        list nor mapping.
    """
    with replace_when_done(path) as temporary:
        temporary.write_bytes(_as_hdf5(diffuse_map))


def _as_hdf5(diffuse_map: DiffuseMap) -> bytes:
    """The file as it will be on disk; HDF5 itself does not survive a disk that fills up."""
    with h5py.File("map", "w", driver="core", backing_store=False, block_size=1 << 24) as file:
        file.attrs["default"] = "entry"
        file.attrs["offbragg_format_version"] = FORMAT_VERSION
        entry = _create_group(file, "entry", "NXentry")
        entry.attrs["default"] = "map"
        _write_arrays(entry, diffuse_map)
        sample = _create_group(entry, "sample", "NXsample")
        sample["unit_cell"] = np.array(diffuse_map.cell)
        sample["unit_cell"].attrs["units"] = "angstrom, degree"
        sample["space_group"] = diffuse_map.space_group
        if diffuse_map.laue_group is not None:
            sample["laue_group"] = diffuse_map.laue_group
        _write_table(entry, "statistics", diffuse_map.statistics)
        for number, step in enumerate(diffuse_map.provenance, start=1):
            _write_step(entry, f"process_{number}", step)
        file.flush()
        return bytes(file.id.get_file_image())


def _create_group(parent: Any, name: str, nexus_class: str) -> Any:
    if not name or "/" in name or name == ".":
        raise InputError(f"names in a map file must not be empty or hold '/', got {name!r}")
    group = parent.create_group(name, track_order=True)
    group.attrs["NX_class"] = nexus_class
    return group


def _write_arrays(entry: Any, diffuse_map: DiffuseMap) -> None:
    group = _create_group(entry, "map", "NXdata")
    group.attrs["signal"] = "intensity"
    group.attrs["axes"] = ["h", "k", "l"]
    group.attrs["sampling"] = np.array(diffuse_map.grid.sampling)
    for field, name in _DATASETS.items():
        values = getattr(diffuse_map, field)
        if values is None:
            continue
        dataset = group.create_dataset(
            name,
            data=_as_stored(field, values),
            chunks=tuple(min(n, _CHUNK_EDGE) for n in values.shape),
            compression="gzip",
            compression_opts=_GZIP_LEVEL,
            shuffle=True,
        )
        dataset.attrs["units"] = "pixels" if field == "count" else "electrons^2 or arbitrary"
    others = [n for f, n in _DATASETS.items() if f != "intensity" and n in group]
    if others:
        group.attrs["auxiliary_signals"] = others
    group["intensity"].attrs["long_name"] = "diffuse intensity"
    for number, axis in enumerate("hkl"):
        group[axis] = getattr(diffuse_map.grid, axis)
        group[axis].attrs["units"] = "r.l.u."
        group.attrs[f"{axis}_indices"] = number
    if diffuse_map.grid.d_min is not None:
        group["d_min"] = diffuse_map.grid.d_min
        group["d_min"].attrs["units"] = "angstrom"


def _as_stored(field: str, values: NDArray[Any]) -> NDArray[Any]:
    """Values in the file's type, or an error where they do not fit it."""
    kind = np.dtype(np.int32 if field == "count" else np.float32)
    if values.dtype == kind:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        stored = values.astype(kind)
    fits = stored == values if field == "count" else np.isfinite(stored) == np.isfinite(values)
    if not np.all(fits):
        raise InputError(f"{field} must fit {kind}, got {values[~fits].ravel()[0]!r}")
    return stored


def _write_table(parent: Any, name: str, table: Mapping[str, Any]) -> None:
    """A mapping as a group, its values as groups (mappings) or datasets."""
    group = _create_group(parent, name, "NXcollection")
    for key, value in table.items():
        if isinstance(value, Mapping):
            _write_table(group, key, value)
        else:
            _write_value(group, key, value)


def _write_value(group: Any, key: str, value: Any) -> None:
    """A number, text, None or list as a dataset; None in a list of numbers becomes NaN."""
    if not key or "/" in key or key == ".":
        raise InputError(f"names in a map file must not be empty or hold '/', got {key!r}")
    if value is None:
        group[key] = h5py.Empty("f8")
        return
    if isinstance(value, list | tuple) and any(x is None for x in value):
        value = [np.nan if x is None else x for x in value]
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind == "U":
        group.create_dataset(key, data=array.astype(object), dtype=h5py.string_dtype())
    elif array.dtype.kind in "biuf":
        group[key] = array
    else:
        raise InputError(f"{key} must be a number, text or an even list of them, got {value!r}")


def _write_step(entry: Any, name: str, step: Mapping[str, Any]) -> None:
    """A step of provenance: texts as they are, all else as JSON."""
    group = _create_group(entry, name, "NXprocess")
    for key, value in step.items():
        if isinstance(value, str):
            _write_value(group, key, value)
            continue
        _write_value(group, key, json.dumps(plain(value)))
        group[key].attrs["content_type"] = _JSON


def read_map(path: str | Path) -> DiffuseMap:
    """Read a map that `write_map` wrote, or a file of the same layout.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    DiffuseMap
        On the file's axes, which need be neither centred nor of odd length.

    Raises
    ------
    MissingFileError
        If there is no such file, or it cannot be opened.
    FormatError
        If it is no map, of a later format, damaged, or a dataset is missing or has another shape.
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
            return _Reader(path, file).read()
    except FormatError:
        raise
    except InputError as error:
        raise FormatError(f"{path}: {error}") from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FormatError(f"{path}: damaged: {reason}") from None


class _Reader:
    """Reads one open file; every error names file, dataset, expected and found."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path, self.file = path, file

    def read(self) -> DiffuseMap:
        self.check_version()
        grid = self.read_grid()
        arrays: dict[str, Any] = {
            field: self.read_array(f"entry/map/{name}", grid.shape, required=field == "intensity")
            for field, name in _DATASETS.items()
        }
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
        return FormatError(f"{self.path}: /{name}: {text}")

    def read_grid(self) -> HklGrid:
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

    def read_array(
        self, name: str, shape: tuple[int, int, int], *, required: bool
    ) -> NDArray[Any] | None:
        dataset = self.item(name, h5py.Dataset, required=required)
        if dataset is None:
            return None
        wanted = "iu" if name.endswith("count") else "iuf"
        if dataset.shape != shape or dataset.dtype.kind not in wanted:
            raise self.error(
                name,
                f"expected {'integers' if wanted == 'iu' else 'numbers'} of shape {shape}, found "
                f"{dataset.dtype} of shape {dataset.shape}",
            )
        values: NDArray[Any] = dataset[()]
        if wanted == "iu":
            return values
        # The machine's own byte order, single precision unless the file has double.
        return values.astype(np.float64 if values.dtype.itemsize == 8 else np.float32, copy=False)

    def read_text(self, name: str, *, required: bool = True) -> str:
        dataset = self.item(name, h5py.Dataset, required=required)
        if dataset is None:
            return ""
        if not h5py.check_string_dtype(dataset.dtype) or dataset.shape != ():
            raise self.error(name, f"expected a text, found {dataset.dtype} of {dataset.shape}")
        return str(dataset.asstr()[()])

    def read_table(self, name: str, depth: int) -> dict[str, Any]:
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
        names = [x for x in self.file["entry"] if x.startswith("process_")]
        for name in sorted(names, key=_step_number):
            group = self.item(f"entry/{name}", h5py.Group)
            step: dict[str, Any] = {}
            for key in group:
                inner = f"entry/{name}/{key}"
                text = self.read_text(inner)
                if group[key].attrs.get("content_type") == _JSON:
                    step[key] = self.parse(inner, json.loads, text)
                else:
                    step[key] = text
            yield step

    def parse(self, name: str, parser: Callable[[str], Any], text: str) -> Any:
        try:
            return parser(text)
        except (ValueError, RecursionError):
            raise self.error(name, f"expected JSON, found {text[:40]!r}") from None


def _step_number(name: str) -> tuple[int, str]:
    digits = name.removeprefix("process_")
    return (int(digits) if digits.isascii() and digits.isdigit() else 0, name)


def _word(kind: Any) -> str:
    return "dataset" if kind is h5py.Dataset else "group"
