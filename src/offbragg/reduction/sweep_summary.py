"""What was measured, sweep by sweep, in figures: for the map's file and reports."""

from __future__ import annotations

from typing import Any

import numpy as np

from offbragg.reduction.sweep import Experiment


def summarise_sweep(experiment: Experiment, *, stills: bool = False) -> dict[str, Any]:
    """Say wavelength, cell, rotation and detector of a sweep.

    Returns
    -------
    dict
        ``wavelength`` [Å], ``space_group``, ``cell`` [Å, degrees], ``first_deg`` and ``last_deg``
        (the rotation begins and ends there), ``width_deg`` of an image, ``axis_hkl`` (the rotation
        axis as a direction in reciprocal space, of length 1/Å), ``n_panels``, ``pixels`` of a
        panel, ``pixel_size_mm``, ``distance_mm``, ``exposure_time`` [s] or None.
    """
    angles = np.degrees(experiment.angles(stills=stills))
    goniometer, panel = experiment.goniometer, experiment.detector[0]
    # S R F A h = S e: the axis is fixed by its own rotation.
    at_datum = goniometer.fixed_rotation @ experiment.crystal.a_matrix
    times = experiment.scan.exposure_times
    return {
        "wavelength": float(experiment.beam.wavelength),
        "space_group": experiment.crystal.space_group,
        "cell": list(experiment.crystal.cell),
        "first_deg": _rounded(angles.ravel()[0]),
        "last_deg": _rounded(angles.ravel()[-1]),
        "width_deg": _rounded(np.mean(np.abs(np.diff(angles, axis=1)))),
        "axis_hkl": np.linalg.solve(at_datum, goniometer.rotation_axis).tolist(),
        "n_panels": len(experiment.detector),
        "pixels": [int(n) for n in panel.image_size],
        "pixel_size_mm": [float(size) for size in panel.pixel_size],
        "distance_mm": _rounded(abs(float(panel.origin @ panel.normal))),
        "exposure_time": None if times is None else _rounded(np.mean(times)),
    }


def _rounded(value: object) -> float:
    return round(float(np.float64(value)), 6)  # type: ignore[arg-type]
