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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from offbragg.errors import InputError, MissingFileError, OffbraggError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.map_file import DATASETS, FORMAT_VERSION, JSON, reading
from offbragg.maps.provenance import plain

_GZIP_LEVEL = 1  # higher levels are several times slower for some per cent
_CHUNK_EDGE = 32  # a section of 500 x 500 voxels unpacks 6 % of a map; 64 take twice that


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
    for field, name in DATASETS.items():
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
    others = [n for f, n in DATASETS.items() if f != "intensity" and n in group]
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
        group[key].attrs["content_type"] = JSON


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
    with reading(path) as reader:
        return reader.read()
