"""Writing a `DeltaPdf` for other programs: CCP4/MRC maps and NumPy archives."""

from __future__ import annotations

import os
from pathlib import Path

import gemmi
import numpy as np

from offbragg.errors import InputError
from offbragg.maps.patterson import DeltaPdf

# Axes that should be whole steps, in rounding of their differences.
_UNEVEN = 1e-6


def write_delta_pdf(path: str | Path, delta_pdf: DeltaPdf) -> Path:
    """Write a ΔPDF; the ending says how.

    Parameters
    ----------
    path : str or Path
        ``.ccp4``, ``.mrc`` or ``.map``: CCP4 in P 1, float32, the cell being the box of
        separations, separation 0 at its origin. ``.npz``: ``values``, ``x``, ``y``, ``z`` (in
        cells), ``cell``.
    delta_pdf : DeltaPdf

    Returns
    -------
    Path
        The file, written whole or not at all.

    Raises
    ------
    InputError
        If the ending is another, or the axes are not of even steps.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in (".ccp4", ".mrc", ".map", ".npz"):
        raise InputError(
            f"{path}: expected .ccp4, .mrc, .map or .npz, got {ending or 'no ending'!r}"
        )
    part = path.with_name(f".{path.name}.part{ending}")
    try:
        if ending == ".npz":
            np.savez(
                part, values=delta_pdf.values, x=delta_pdf.x, y=delta_pdf.y, z=delta_pdf.z,
                cell=np.array(delta_pdf.cell),
            )  # fmt: skip
        else:
            _as_ccp4(delta_pdf).write_ccp4_map(str(part))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _as_ccp4(delta_pdf: DeltaPdf) -> gemmi.Ccp4Map:
    axes = (delta_pdf.x, delta_pdf.y, delta_pdf.z)
    edges, shifts = [], []
    for name, axis, edge in zip("xyz", axes, delta_pdf.cell[:3], strict=True):
        steps = np.diff(axis)
        step = float(np.mean(steps)) if len(steps) else 1.0
        if len(steps) and np.max(np.abs(steps - step)) > _UNEVEN * step:
            raise InputError(f"{name} of the ΔPDF must rise by even steps to be written as CCP4")
        edges.append(len(axis) * step * edge)
        shifts.append(-int(np.argmin(np.abs(axis))))
    values = np.roll(delta_pdf.values, shifts, axis=(0, 1, 2)).astype(np.float32)
    a, b, c = edges
    alpha, beta, gamma = delta_pdf.cell[3:]
    box = gemmi.UnitCell(a, b, c, alpha, beta, gamma)
    grid = gemmi.FloatGrid(values, box, gemmi.SpaceGroup(1))
    ccp4 = gemmi.Ccp4Map()
    ccp4.grid = grid
    ccp4.update_ccp4_header()
    return ccp4
