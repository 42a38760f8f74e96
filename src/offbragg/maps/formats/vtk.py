"""VTK structured grids (.vts), by pyevtk: every voxel at its place in reciprocal space."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

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
    grid = diffuse_map.grid
    fields = {
        "unit_cell": ("Float64", list(grid.cell)),
        "sampling": ("Int64", list(grid.sampling)),
        "first_node": ("Int64", grid.first_index.tolist()),
    }
    file.openData("Field")
    for name, (kind, values) in fields.items():
        element = file.xml.openElement("DataArray")
        element.addAttributes(type=kind, Name=name, NumberOfTuples=len(values), format="ascii")
        element.addText(" ".join(map(repr, values)))
        file.closeElement("DataArray")
    file.closeData("Field")


def _append_points(file: Any, diffuse_map: DiffuseMap) -> None:
    """Places of the voxels, h fastest."""
    grid = diffuse_map.grid
    reciprocal = grid.cell.frac_matrix  # rows a*, b*, c*
    file.appendHeader("float64", grid.size, 3)
    in_plane = grid.h[None, :, None] * reciprocal[0] + grid.k[:, None, None] * reciprocal[1]
    for l in grid.l:  # noqa: E741
        file.xml.stream.write((in_plane + l * reciprocal[2]).tobytes())


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(values.dtype.newbyteorder("="), copy=False)
