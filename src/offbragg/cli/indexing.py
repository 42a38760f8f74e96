"""The command reindex: a map in the indexing of another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.options import Common, Output
from offbragg.cli.tables import map_figures
from offbragg.errors import InputError
from offbragg.maps.indexing import match_indexing
from offbragg.maps.io import read_map, write_map
from offbragg.maps.provenance import make_step
from offbragg.maps.symmetrize import apply_operation


def reindex(
    map_file: Path,
    /,
    *,
    output: Output,
    like: Path | None = None,
    operation: str | None = None,
    d_max: float | None = None,
    d_min: float | None = None,
    common: Common | None = None,
) -> Outcome:
    """Index a map as another one, or a model's, is indexed: they may differ and look alike.

    Parameters
    ----------
    map_file
        Map file.
    output
        Map file to write.
    like
        Map to agree with, measured or simulated.
    operation
        In its place the operation itself, such as k,h,-l.
    d_max
        Low-resolution limit of the comparison [Å].
    d_min
        High-resolution limit of the comparison [Å].
    """
    if (like is None) == (operation is None):
        raise InputError("reindex needs one of --like MAP and --operation")
    cc: dict[str, float] = {}
    text = ""
    with BarProgress() as progress:
        progress.start("reindexing", 3)
        observed = read_map(map_file)
        progress.step()
        if like is not None:
            match = match_indexing(observed, read_map(like), d_max=d_max, d_min=d_min)
            operation = match.operations[match.best]
            cc = dict(zip(match.operations, match.cc.tolist(), strict=True))
            text = f"Agrees best as {operation}"
            ahead = f", by {match.lead:.3f}."
            text += ahead if np.isfinite(match.lead) else ": there is no other way."
        progress.step()
        step = make_step("reindex", {"operation": operation})
        turned = apply_operation(observed, operation or "h,k,l")
        turned = replace(turned, provenance=(*observed.provenance, step))
        write_map(output, turned)
        progress.step()
    figures = {"operation": operation, "cc": cc, "map": map_figures(turned)}
    rows: list[tuple[object, ...]] = list(cc.items())
    tables = [("correlation of anisotropic parts", ["indexed as", "CC"], rows)] if rows else []
    return Outcome(figures, {"map": output}, text, tables)
