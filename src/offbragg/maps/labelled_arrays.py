"""A map as a Dataset of xarray."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

from offbragg.errors import InputError
from offbragg.maps.provenance import plain

if TYPE_CHECKING:
    import xarray

    from offbragg.maps.diffuse_map import DiffuseMap

_ARRAYS = {
    "intensity": ("diffuse intensity", "electrons^2 or arbitrary"),
    "sigma": ("standard error of the intensity", "electrons^2 or arbitrary"),
    "count": ("pixels averaged", "pixels"),
    "half_1": ("intensity from half of the images", "electrons^2 or arbitrary"),
    "half_2": ("intensity from the other half", "electrons^2 or arbitrary"),
}


def to_dataset(diffuse_map: DiffuseMap) -> xarray.Dataset:
    """Give the map's arrays, which are not copied, as variables of dimensions h, k, l.

    Attributes, all of kinds that netCDF has: ``cell`` [Å, degrees], ``space_group``, ``sampling``,
    ``provenance`` (JSON), and where the map has them ``laue_group`` and ``d_min`` [Å].

    Raises
    ------
    InputError
        If xarray is not installed.
    """
    try:
        xarray_module = importlib.import_module("xarray")
    except ImportError:
        raise InputError(
            "to_xarray needs xarray, which is not installed: pip install offbragg[xarray]"
        ) from None
    grid = diffuse_map.grid
    variables = {
        name: (("h", "k", "l"), values, {"long_name": long_name, "units": units})
        for name, (long_name, units) in _ARRAYS.items()
        if (values := getattr(diffuse_map, name)) is not None
    }
    coordinates = {
        name: (name, getattr(grid, name), {"long_name": name, "units": "r.l.u."}) for name in "hkl"
    }
    attributes: dict[str, Any] = {
        "cell": list(grid.cell),
        "cell_units": "angstrom, degree",
        "space_group": diffuse_map.space_group,
        "sampling": list(grid.sampling),
        "provenance": json.dumps(plain(diffuse_map.provenance)),
    }
    if diffuse_map.laue_group is not None:
        attributes["laue_group"] = diffuse_map.laue_group
    if grid.d_min is not None:
        attributes["d_min"] = grid.d_min
    dataset: xarray.Dataset = xarray_module.Dataset(variables, coordinates, attributes)
    return dataset
