"""VTK structured grids, .vts by pyevtk and legacy .vtk: voxels at their places in q/2π."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.formats.voxel_list import ARRAYS


def write_vts(path: Path, diffuse_map: DiffuseMap) -> None:
    """Write all arrays at points h a* + k b* + l c* [Å⁻¹], without 2π: 1/d is the distance from 0.

    Cartesian axes are those of coordinates: x along a, z along c*. NaN stays NaN. The fields
    ``unit_cell``, ``sampling`` and ``first_node`` (hkl times sampling) go with them.
    """
    # It takes a quarter of a second to import.
    from pyevtk.vtk import VtkFile, VtkStructuredGrid

    grid = diffuse_map.grid
    arrays = {name: values for name in ARRAYS if (values := getattr(diffuse_map, name)) is not None}
    file = VtkFile(str(path), VtkStructuredGrid)  # puts .vts behind the name
    made = Path(file.getFileName())
    try:
        end = tuple(n - 1 for n in grid.shape)
        file.openGrid(start=(0, 0, 0), end=end)
        _write_fields(file, diffuse_map)
        file.openPiece(start=(0, 0, 0), end=end)
        file.openElement("Points")
        file.addHeader("points", "float64", grid.size, 3)
        file.closeElement("Points")
        file.openData("Point", scalars="intensity")
        for name, values in arrays.items():
            file.addHeader(name, values.dtype.name, values.size, 1)
        file.closeData("Point")
        file.closePiece()
        file.closeGrid()
        _append_points(file, diffuse_map)
        for values in arrays.values():
            # pyevtk makes a Python number of every value: slow, and tens of bytes each.
            file.appendHeader(values.dtype.name, values.size, 1)
            file.xml.stream.write(_native(values).tobytes(order="F"))
        file.save()
        os.replace(made, path)
    finally:
        if not file.xml.stream.closed:
            file.xml.stream.close()
        made.unlink(missing_ok=True)


def _write_fields(file: Any, diffuse_map: DiffuseMap) -> None:
    """What holds for the whole map, as text: pyevtk's own fields lack the length that VTK needs."""
    file.openData("Field")
    for name, values in _fields(diffuse_map).items():
        kind = "Float64" if isinstance(values[0], float) else "Int64"
        element = file.xml.openElement("DataArray")
        element.addAttributes(type=kind, Name=name, NumberOfTuples=len(values), format="ascii")
        element.addText(" ".join(map(repr, values)))
        file.closeElement("DataArray")
    file.closeData("Field")


def _fields(diffuse_map: DiffuseMap) -> dict[str, list[Any]]:
    grid = diffuse_map.grid
    return {
        "unit_cell": list(grid.cell),
        "sampling": list(grid.sampling),
        "first_node": grid.first_index.tolist(),
    }


def _append_points(file: Any, diffuse_map: DiffuseMap) -> None:
    """Places of the voxels, h fastest."""
    file.appendHeader("float64", diffuse_map.grid.size, 3)
    for plane in _places(diffuse_map):
        file.xml.stream.write(plane.tobytes())


def _places(diffuse_map: DiffuseMap) -> Iterator[FloatArray]:
    """Places (n_k, n_h, 3) of the voxels of one l after the other [Å⁻¹]."""
    grid = diffuse_map.grid
    reciprocal = grid.cell.frac_matrix  # rows a*, b*, c*
    in_plane = grid.h[None, :, None] * reciprocal[0] + grid.k[:, None, None] * reciprocal[1]
    for l in grid.l:  # noqa: E741
        yield in_plane + l * reciprocal[2]


def write_vtk(path: Path, diffuse_map: DiffuseMap) -> None:
    """Write the same as `write_vts` in VTK's older format, whose numbers are big-endian."""
    grid = diffuse_map.grid
    kinds = {"f4": "float", "f8": "double", "i4": "int", "i8": "vtktypeint64"}
    with path.open("wb") as file:
        fields = _fields(diffuse_map)
        size = " ".join(map(str, grid.shape))
        head = "# vtk DataFile Version 3.0\noffbragg diffuse map\nBINARY\nDATASET STRUCTURED_GRID\n"
        file.write(f"{head}FIELD FieldData {len(fields)}\n".encode())
        for name, values in fields.items():
            file.write(f"{name} 1 {len(values)} double\n".encode())
            file.write(np.array(values, dtype=">f8").tobytes() + b"\n")
        file.write(f"DIMENSIONS {size}\nPOINTS {grid.size} double\n".encode())
        for plane in _places(diffuse_map):
            file.write(plane.astype(">f8").tobytes())
        file.write(f"\nPOINT_DATA {grid.size}\n".encode())
        for name in ARRAYS:
            array = getattr(diffuse_map, name)
            if array is None:
                continue
            kind = array.dtype.str[1:]
            file.write(f"SCALARS {name} {kinds[kind]} 1\nLOOKUP_TABLE default\n".encode())
            file.write(array.astype(f">{kind}").tobytes(order="F") + b"\n")


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(values.dtype.newbyteorder("="), copy=False)
