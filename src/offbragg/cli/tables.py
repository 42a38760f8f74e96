"""Maps, shells and fits as the tables that commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from offbragg.cli.console import Outcome
from offbragg.maps.column_names import column_groups, short_name
from offbragg.maps.diffuse_map import DiffuseMap

if TYPE_CHECKING:
    from offbragg.reduction.scaled_map import ScaledMap


def map_figures(diffuse_map: DiffuseMap) -> dict[str, Any]:
    """What a map is, in figures."""
    measured = diffuse_map.measured
    values = diffuse_map.intensity[measured]
    inv_d = diffuse_map.grid.inv_d()[measured]
    present = [
        name
        for name in ("sigma", "count", "half_1", "half_2")
        if getattr(diffuse_map, name) is not None
    ]
    return {
        "shape": list(diffuse_map.grid.shape),
        "sampling": list(diffuse_map.grid.sampling),
        "cell": list(diffuse_map.cell),
        "space_group": diffuse_map.space_group,
        "laue_group": diffuse_map.laue_group,
        "friedel": diffuse_map.friedel,
        "d_min": float(1 / inv_d.max()) if len(inv_d) and inv_d.max() > 0 else None,
        "n_measured": int(measured.sum()),
        "mean_intensity": float(np.mean(values, dtype=np.float64)) if len(values) else None,
        "arrays": ["intensity", *present],
        "steps": [str(step.get("command", "")) for step in diffuse_map.provenance],
    }


def map_summary(
    diffuse_map: DiffuseMap, path: Path, extra: Mapping[str, Any] | None = None
) -> Outcome:
    """Outcome of a command that wrote a map."""
    figures = map_figures(diffuse_map)
    rows = [(name.replace("_", " "), _joined(value)) for name, value in figures.items()]
    return Outcome({**figures, **(extra or {})}, {"map": path}, "", [("", ("map", ""), rows)])


def with_scaling(outcome: Outcome, scaled: ScaledMap | None) -> Outcome:
    """Add what a scaling did to the outcome of a command that made a map."""
    if scaled is None:
        return outcome
    rows = [(name.replace("_", " "), value) for name, value in scaled.figures.items()]
    return replace(
        outcome,
        result={**outcome.result, "scaling": scaled.figures},
        tables=[*outcome.tables, ("", ("scaling", ""), rows)],
    )


def shell_tables(
    statistics: Mapping[str, Any], title: str
) -> list[tuple[str, list[str], list[Sequence[object]]]]:
    """Shell tables for people, overall row last.

    One of the whole intensity, one of its anisotropic part, one of Friedel mates.
    """
    shells, overall = statistics["shells"], statistics["overall"]
    limits = ["d_max", "d_min"]
    whole, varying, mates = column_groups(list(shells)).values()
    tables = []
    for what, columns in (
        ("", whole), (", anisotropic part", varying), (", Friedel mates", mates)
    ):  # fmt: skip
        names = limits + columns
        lists = [list(shells[name]) for name in names]
        rows: list[Sequence[object]] = [tuple(row) for row in zip(*lists, strict=True)]
        rows.append(tuple(overall.get(name) for name in names))
        if columns:
            shown = [short_name(name, both=columns is mates) for name in names]
            tables.append((title + what, shown, rows))
    return tables


def _joined(value: object) -> object:
    return (
        " ".join(f"{x:g}" if isinstance(x, float) else str(x) for x in value)
        if isinstance(value, list)
        else value
    )
