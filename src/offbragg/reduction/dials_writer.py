"""Experiments to DIALS experiment lists (``.expt``)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.crystal.symmetry import as_space_group
from offbragg.errors import InputError
from offbragg.reduction.experiment import Beam, CrystalModel, Experiment, Goniometer, Panel, Scan

_KINDS = ("beam", "detector", "goniometer", "scan", "crystal", "imageset")
_NO_LIMIT = 1e30  # JSON has no infinity
_EVEN = 1e-9  # steps of a scan are even that differ by less [degrees]


def write_experiments(path: str | Path, experiments: Experiment | Sequence[Experiment]) -> None:
    """Write a DIALS experiment list that `read_experiments` gives back.

    Models that are equal are written once and shared. Panels are written in the laboratory
    frame, in one group. A template within the file's own folder is written relative to it. Scans
    of even steps are in the layout that DIALS wrote until 3.14 and newer versions read as well;
    others need the newer one, with ``properties`` of each image.

    Parameters
    ----------
    path : str or Path
        Written under a temporary name, then renamed.
    experiments : Experiment or sequence of Experiment

    Raises
    ------
    InputError
        If there is no experiment.
    """
    target = Path(path)
    several = (experiments,) if isinstance(experiments, Experiment) else tuple(experiments)
    if not several:
        raise InputError("experiments must hold at least one, got none")
    content: dict[str, list[Any]] = {kind: [] for kind in _KINDS}
    entries = []
    for experiment in several:
        models = {
            "beam": _beam(experiment.beam),
            "detector": _detector(experiment.detector),
            "goniometer": _goniometer(experiment.goniometer),
            "scan": _scan(experiment.scan),
            "crystal": _crystal(experiment.crystal),
            "imageset": _imageset(experiment, target),
        }
        entry: dict[str, Any] = {"__id__": "Experiment", "identifier": experiment.identifier}
        for kind, model in models.items():
            if model not in content[kind]:
                content[kind].append(model)
            entry[kind] = content[kind].index(model)
        entries.append(entry)
    document = {"__id__": "ExperimentList", "experiment": entries, **content}
    document |= {"profile": [], "scaling_model": []}
    temporary = target.with_name(f".{target.name}.part")
    temporary.write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")
    temporary.replace(target)


def _beam(beam: Beam) -> dict[str, Any]:
    """A beam; the file's direction is from the crystal to the source."""
    model = {
        "__id__": "monochromatic",
        "direction": (-beam.direction).tolist(),
        "wavelength": float(beam.wavelength),
        "divergence": 0.0,
        "sigma_divergence": 0.0,
        "polarization_normal": beam.polarization_normal.tolist(),
        "polarization_fraction": float(beam.polarization_fraction),
        "flux": 0.0,
        "transmission": 1.0,
    }
    if beam.s0_points is not None:
        model["s0_at_scan_points"] = beam.s0_points.tolist()
    return model


def _goniometer(goniometer: Goniometer) -> dict[str, Any]:
    """A goniometer of one axis."""
    model = {
        "rotation_axis": goniometer.rotation_axis.tolist(),
        "fixed_rotation": goniometer.fixed_rotation.ravel().tolist(),
        "setting_rotation": goniometer.setting_rotation.ravel().tolist(),
    }
    if goniometer.setting_points is not None:
        model["setting_rotation_at_scan_points"] = _flat(goniometer.setting_points)
    return model


def _scan(scan: Scan) -> dict[str, Any]:
    """A scan, angles in degrees: the first start and one width, or a value for each image."""
    start, width = np.degrees(scan.oscillation_start), np.degrees(scan.oscillation_width)
    known = scan.exposure_times is not None
    times = scan.exposure_times if scan.exposure_times is not None else np.zeros(0)
    model: dict[str, Any] = {"image_range": list(scan.image_range), "batch_offset": 0}
    exposures = {
        "exposure_time": times.tolist(),
        "epochs": (np.cumsum(times) - times).tolist(),
    }
    even = start[0] + width[0] * np.arange(scan.n_images)
    if max(np.abs(width - width[0]).max(), np.abs(start - even).max()) < _EVEN:
        # The layout that every version of DIALS reads.
        model |= {"oscillation": [float(start[0]), float(width[0])], **exposures}
    else:
        properties = {"oscillation": start.tolist(), "oscillation_width": width.tolist()}
        model["properties"] = properties | (exposures if known else {})
    return model | {"valid_image_ranges": {}}


def _crystal(crystal: CrystalModel) -> dict[str, Any]:
    """A crystal: a, b, c in real space, and A matrices along the scan."""
    rows = np.linalg.inv(crystal.a_matrix)
    model: dict[str, Any] = {"__id__": "crystal"}
    for name, row in zip("abc", rows, strict=True):
        model[f"real_space_{name}"] = row.tolist()
    hall = as_space_group(crystal.space_group, crystal.cell).hall
    model["space_group_hall_symbol"] = f" {hall}"
    if crystal.scan_points is not None:
        model["A_at_scan_points"] = _flat(crystal.scan_points)
    return model


def _detector(panels: Sequence[Panel]) -> dict[str, Any]:
    """A detector: its panels in one group that has the laboratory's frame."""
    group = {
        "name": "",
        "origin": [0.0, 0.0, 0.0],
        "fast_axis": [1.0, 0.0, 0.0],
        "slow_axis": [0.0, 1.0, 0.0],
        "children": [{"panel": index} for index in range(len(panels))],
    }
    return {"panels": [_panel(panel) for panel in panels], "hierarchy": group}


def _panel(panel: Panel) -> dict[str, Any]:
    """A panel; lengths in mm."""
    strategy: Mapping[str, Any] = {"type": "SimplePxMmStrategy"}
    if panel.parallax:
        strategy = {
            "type": "ParallaxCorrectedPxMmStrategy",
            "mu": float(panel.mu),
            "t0": float(panel.thickness),
        }
    low, high = panel.trusted_range
    known = np.isfinite(low) or np.isfinite(high)
    model = {
        "name": panel.name,
        "type": "SENSOR_PAD",
        "origin": panel.origin.tolist(),
        "fast_axis": panel.fast_axis.tolist(),
        "slow_axis": panel.slow_axis.tolist(),
        "pixel_size": [float(size) for size in panel.pixel_size],
        "image_size": [int(size) for size in panel.image_size],
        # dxtbx's word for nothing known is an empty range.
        "trusted_range": np.clip([low, high], -_NO_LIMIT, _NO_LIMIT).tolist() if known else [0, 0],
        "thickness": float(panel.thickness),
        "mu": float(panel.mu),
        "material": "",
        "gain": float(panel.gain),
        "pedestal": float(panel.pedestal),
        "mask": [list(rectangle) for rectangle in panel.mask],
        "identifier": "",
        "px_mm_strategy": strategy,
    }
    if panel.raw_image_offset is not None:
        model["raw_image_offset"] = list(panel.raw_image_offset)
    return model


def _imageset(experiment: Experiment, expt: Path) -> dict[str, Any]:
    """Where the images are: a template or one file, or a list of files."""
    model: dict[str, Any]
    if experiment.image_files:
        files = [_beside(name, expt) for name in experiment.image_files]
        model = {"__id__": "ImageSet", "images": files}
    else:
        model = {"__id__": "ImageSequence", "template": _beside(experiment.template, expt)}
    if experiment.file_indices is not None:
        model["single_file_indices"] = list(experiment.file_indices)
    return model | dict.fromkeys(("mask", "gain", "pedestal", "dx", "dy"), "") | {"params": {}}


def _beside(name: str, expt: Path) -> str:
    """A path relative to the experiment list, where it is in that folder or below."""
    folder = expt.resolve().parent
    if not name or not Path(name).is_absolute() or not Path(name).is_relative_to(folder):
        return name
    return os.path.relpath(name, folder)


def _flat(matrices: FloatArray) -> list[list[float]]:
    """Matrices (n, 3, 3) as lists of nine numbers, row by row."""
    flat: list[list[float]] = matrices.reshape(-1, 9).tolist()
    return flat
