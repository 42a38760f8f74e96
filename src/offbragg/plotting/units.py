"""The unit that a map's intensities are in."""

from __future__ import annotations

from collections.abc import Iterable

from offbragg.maps.diffuse_map import DiffuseMap

_ELECTRONS = "e² per unit cell"
_RELATIVE = "arbitrary units"


def intensity_unit(diffuse_map: DiffuseMap) -> str:
    """Unit of a map's intensities: e² where it is computed or was brought to that scale.

    Steps of a measured map's fit are in its own unit.

    Examples
    --------
    >>> import numpy as np
    >>> from offbragg.crystal.grid import HklGrid
    >>> grid = HklGrid((10, 10, 10, 90, 90, 90), [0], [0], [0])
    >>> intensity_unit(DiffuseMap(grid, np.ones((1, 1, 1))))
    'arbitrary units'
    """
    steps = [step.get("command") for step in diffuse_map.provenance]
    return _ELECTRONS if "absolute" in steps or steps[:1] == ["simulate"] else _RELATIVE


def common_unit(units: Iterable[str]) -> str:
    """The unit of all, or that each map has its own.

    >>> common_unit(["e²", "e²"]), common_unit(["e²", "arbitrary units"])
    ('e²', "each map's own unit")
    """
    found = set(units)
    return found.pop() if len(found) == 1 else "each map's own unit"
