"""What a report knows of a map: the map, its figures, what it covers, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.crystal.symmetry import laue_symbol
from offbragg.errors import InputError
from offbragg.maps.coverage import Coverage, map_coverage
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.operation_agreement import OperationAgreement, operation_agreement
from offbragg.maps.statistics import statistics

# An axis so near to another [degrees] is called by its name.
_SAME_AXIS = 5.0


@dataclass(frozen=True, eq=False)
class MapFacts:
    """A map and what can be said of it; worked out once, by `MapFacts.of`.

    Attributes
    ----------
    map : DiffuseMap
    about, overall, shells : mapping
        The tables of `offbragg.maps.statistics.statistics`.
    coverage : Coverage or None
        None of a map that has nothing but its origin.
    operations : tuple of OperationAgreement
        Of an unmerged map that no model made; else empty.
    """

    map: DiffuseMap
    about: Mapping[str, Any]
    overall: Mapping[str, Any]
    shells: Mapping[str, Any]
    coverage: Coverage | None
    operations: tuple[OperationAgreement, ...]

    @classmethod
    def of(cls, diffuse_map: DiffuseMap) -> MapFacts:
        """Work out what can be said of a map.

        Raises
        ------
        InputError
            If no voxel is measured, or the group does not fit the cell or the sampling.
        """
        tables = statistics(diffuse_map)
        try:
            coverage = map_coverage(diffuse_map)
        except InputError:
            coverage = None
        facts = cls(diffuse_map, tables["about"], tables["overall"], tables["shells"], coverage, ())
        if diffuse_map.laue_group is not None or facts.is_model:
            return facts
        return replace(facts, operations=operation_agreement(diffuse_map))

    @property
    def group(self) -> str:
        """The group whose equivalents count."""
        return str(self.about["laue_group"])

    @property
    def is_measured(self) -> bool:
        """Whether it is of pixels, not of a model or a file that says no errors."""
        return str(self.about["kind"]) != "computed"

    @property
    def is_model(self) -> bool:
        """Whether a model made it."""
        return any(self.step(command) is not None for command in ("simulate", "fit", "infer"))

    @property
    def is_difference(self) -> bool:
        """Whether it holds differences of Friedel mates."""
        options = (self.step("split-friedel") or {}).get("options", {})
        return bool(options.get("part") == "difference")

    @property
    def has_symmetry(self) -> bool:
        """Whether there is more than Friedel's law."""
        return laue_symbol(self.group) != "-1"

    def step(self, command: str) -> Mapping[str, Any] | None:
        """The last step of a name in how it was made."""
        found = [step for step in self.map.provenance if step.get("command") == command]
        return found[-1] if found else None

    def figure(self, name: str) -> float:
        """A figure of the whole map; NaN where it has none."""
        value = self.overall.get(name)
        return float("nan") if value is None else float(value)

    def sweeps(self) -> list[Mapping[str, Any]]:
        """What was measured, sweep by sweep, where the file says."""
        maps = [step for step in self.map.provenance if step.get("command") == "map"]
        return [sweep for step in maps for sweep in step.get("sweeps", ())]


def name_axis(axis: FloatArray, facts: MapFacts) -> str:
    """Name a direction [Cartesian] by the axes of the cell that it is next to, in words."""
    cell = facts.map.cell
    named = dict(zip(("a*", "b*", "c*"), cell.frac_matrix, strict=True))
    named |= dict(zip("abc", cell.orth_matrix.T, strict=True))
    angles = {name: angle_between(axis, vector) for name, vector in named.items()}
    for name, angle in angles.items():  # reciprocal axes first
        if angle <= _SAME_AXIS:
            return name
    stars = ", ".join(f"{angles[name]:.0f}° from {name}" for name in ("a*", "b*", "c*"))
    return f"an axis {stars}"


def is_rotation_axis(axis: FloatArray, facts: MapFacts) -> bool | None:
    """Whether a direction [Cartesian] is the rotation axis of a sweep; None: the file is silent."""
    stars = facts.map.cell.frac_matrix
    turned = [np.array(sweep["axis_hkl"], dtype=np.float64) @ stars for sweep in facts.sweeps()]
    if not turned:
        return None
    return any(angle_between(axis, rotation) <= 2 * _SAME_AXIS for rotation in turned)


def angle_between(a: FloatArray | Sequence[float], b: FloatArray | Sequence[float]) -> float:
    """Angle between two lines [degrees], 0 to 90.

    >>> round(angle_between([1.0, 0.0, 0.0], [-1.0, 1.0, 0.0]))
    45
    """
    one, other = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    cosine = abs(float(one @ other)) / float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.degrees(np.arccos(min(1.0, cosine))))
