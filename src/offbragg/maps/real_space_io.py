"""Files of a `DeltaPdf` for other programs: CCP4/MRC maps, HDF5 in NeXus layout, NumPy archives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np

from offbragg.crystal.cell import Cell
from offbragg.errors import InputError
from offbragg.maps.formats.ccp4 import write_volume
from offbragg.maps.io import _create_group, _write_step, replace_when_done
from offbragg.maps.map_file import FORMAT_VERSION
from offbragg.maps.patterson import DeltaPdf
from offbragg.maps.provenance import plain

# Steps of an axis differ by less than this share of one.
_UNEVEN = 1e-6


def write_delta_pdf(path: str | Path, delta_pdf: DeltaPdf) -> Path:
    """Write a ΔPDF; the ending of the name says how.

    Parameters
    ----------
    path : str or Path
        A file there is replaced.

        ``.ccp4``, ``.mrc``, ``.map``: CCP4/MRC in P 1, float32, separation 0 at the origin and in
        the middle of the map. Its cell is the box of separations: the crystal's angles, and edges
        of as many steps as there are values. A ΔPDF over its whole box repeats with that cell, as
        programs take it; one cut by ``extent`` does not.

        ``.h5``: HDF5/NeXus, ``/entry/delta_pdf`` with ``values`` and the axes ``x y z`` [cells],
        float64, ``/entry/sample/unit_cell``, and the provenance.

        ``.npz``: ``values``, ``x``, ``y``, ``z``, ``cell``, and ``provenance`` as JSON.
    delta_pdf : DeltaPdf

    Returns
    -------
    Path
        The file, written whole or not at all.

    Raises
    ------
    InputError
        If the ending is another, or the axes are not of even steps (CCP4).
    MissingFileError
        If the folder does not exist or cannot be written.
    """
    path = Path(path)
    write = writer_for(path)
    with replace_when_done(path) as temporary:
        write(temporary, delta_pdf)
    return path


def writer_for(path: Path) -> Callable[[Path, DeltaPdf], None]:
    """Return the function that writes files of a name's ending.

    Raises
    ------
    InputError
        If there is none.
    """
    ending = path.suffix.lower()
    if ending not in _WRITERS:
        expected = " ".join(_WRITERS)
        raise InputError(f"{path}: expected a name in one of {expected}, got {ending or 'none'}")
    return _WRITERS[ending]


def _write_ccp4(path: Path, delta_pdf: DeltaPdf) -> None:
    axes = (delta_pdf.x, delta_pdf.y, delta_pdf.z)
    a, b, c, *angles = delta_pdf.cell
    step_edges, first = [], []
    for name, axis, edge in zip("xyz", axes, (a, b, c), strict=True):
        steps = np.diff(axis)
        step = float(np.mean(steps)) if len(steps) else 1.0
        if np.any(np.abs(steps - step) > _UNEVEN * step):
            raise InputError(f"{name} of the ΔPDF must rise by even steps to be written as CCP4")
        step_edges.append(step * edge)
        first.append(round(float(axis[0]) / step))
    step_cell = Cell(step_edges[0], step_edges[1], step_edges[2], *angles)
    write_volume(path, delta_pdf.values, step_cell, first)


def _write_hdf5(path: Path, delta_pdf: DeltaPdf) -> None:
    # Made in memory: HDF5 itself does not survive a disk that fills up.
    with h5py.File("pdf", "w", driver="core", backing_store=False, block_size=1 << 24) as file:
        file.attrs["default"] = "entry"
        file.attrs["offbragg_format_version"] = FORMAT_VERSION
        entry = _create_group(file, "entry", "NXentry")
        entry.attrs["default"] = "delta_pdf"
        group = _create_group(entry, "delta_pdf", "NXdata")
        group.attrs["signal"] = "values"
        group.attrs["axes"] = ["x", "y", "z"]
        group["values"] = delta_pdf.values
        group["values"].attrs["long_name"] = "3D-ΔPDF"
        group["values"].attrs["units"] = "electrons^2 per angstrom^3 and unit cell"
        for number, axis in enumerate("xyz"):
            group[axis] = getattr(delta_pdf, axis)
            group[axis].attrs["units"] = "cells"
            group.attrs[f"{axis}_indices"] = number
        sample = _create_group(entry, "sample", "NXsample")
        sample["unit_cell"] = np.array(delta_pdf.cell)
        sample["unit_cell"].attrs["units"] = "angstrom, degree"
        for number, step in enumerate(delta_pdf.provenance, start=1):
            _write_step(entry, f"process_{number}", step)
        file.flush()
        path.write_bytes(file.id.get_file_image())


def _write_npz(path: Path, delta_pdf: DeltaPdf) -> None:
    with path.open("wb") as file:
        np.savez(
            file,
            values=delta_pdf.values,
            x=delta_pdf.x,
            y=delta_pdf.y,
            z=delta_pdf.z,
            cell=np.array(delta_pdf.cell),
            provenance=json.dumps(plain(delta_pdf.provenance)),
        )


_WRITERS: Mapping[str, Callable[[Path, DeltaPdf], None]] = {
    ".ccp4": _write_ccp4,
    ".mrc": _write_ccp4,
    ".map": _write_ccp4,
    ".h5": _write_hdf5,
    ".npz": _write_npz,
}
