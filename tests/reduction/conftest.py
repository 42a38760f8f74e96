"""A small made experiment with nothing in special position, as JSON and as objects."""

import copy
import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from offbragg.reduction.experiment import read_experiments

WAVELENGTH = 1.37  # Å
CELL_VECTORS = np.array([[21.0, 0.0, 0.0], [-3.0, 27.0, 0.0], [4.0, -5.0, 33.0]])  # Å, rows a b c


def _turned(rotation, *vectors):
    return [rotation.apply(v).tolist() for v in vectors]


def _expt():
    """Two tilted panels in a turned group, two-theta arm, oblique axis, triclinic crystal."""
    group = Rotation.from_euler("xyz", [3.0, 14.0, -2.0], degrees=True)
    fast, slow, _ = _turned(group, [1.0, 0, 0], [0, -1.0, 0], [0, 0, 1.0])
    tilt = Rotation.from_euler("xyz", [4.0, -6.0, 1.0], degrees=True)
    panel_fast, panel_slow = _turned(tilt, [1.0, 0, 0], [0, 1.0, 0])
    rows = Rotation.from_euler("zyx", [40.0, 25.0, -70.0], degrees=True).apply(CELL_VECTORS)
    turn = Rotation.from_euler("xyz", [10.0, 20.0, 30.0], degrees=True)
    panel = {
        "name": "p0",
        "type": "SENSOR_PAD",
        "origin": [-9.0, -8.0, 0.0],
        "fast_axis": [1.0, 0.0, 0.0],
        "slow_axis": [0.0, 1.0, 0.0],
        "pixel_size": [0.5, 0.4],
        "image_size": [30, 20],
        "trusted_range": [0.0, 60000.0],
        "raw_image_offset": [0, 0],
        "thickness": 0.32,
        "mu": 2.1,
        "gain": 1.0,
        "pedestal": 0.0,
        "material": "Si",
        "identifier": "",
        "mask": [[0, 0, 2, 3]],
        "px_mm_strategy": {"type": "SimplePxMmStrategy"},
    }
    second = {
        **panel,
        "name": "p1",
        "origin": [-8.0, 1.5, 0.7],
        "fast_axis": panel_fast,
        "slow_axis": panel_slow,
        "mask": [],
    }
    frame = {"fast_axis": fast, "slow_axis": slow, "origin": [2.0, 1.0, -24.0]}
    return {
        "__id__": "ExperimentList",
        "experiment": [
            {
                "__id__": "Experiment",
                "identifier": "made",
                "beam": 0,
                "detector": 0,
                "goniometer": 0,
                "scan": 0,
                "crystal": 0,
                "imageset": 0,
            }
        ],
        "imageset": [{"__id__": "ImageSequence", "template": "images/made_####.cbf"}],
        "beam": [
            {
                "__id__": "monochromatic",
                "direction": [0.02, -0.01, 1.0],
                "wavelength": WAVELENGTH,
                "polarization_normal": [0.0, 1.0, 0.1],
                "polarization_fraction": 0.9,
            }
        ],
        "detector": [
            {
                "panels": [panel, second],
                "hierarchy": {
                    "origin": [0.0, 0.0, 0.0],
                    "fast_axis": [1.0, 0.0, 0.0],
                    "slow_axis": [0.0, 1.0, 0.0],
                    "children": [{**frame, "children": [{"panel": 0}, {"panel": 1}]}],
                },
            }
        ],
        "goniometer": [
            {
                "rotation_axis": [0.98, 0.1, 0.05],
                "fixed_rotation": turn.as_matrix().ravel().tolist(),
                "setting_rotation": turn.inv().as_matrix().ravel().tolist(),
            }
        ],
        "scan": [
            {
                "image_range": [11, 16],
                "batch_offset": 0,
                "properties": {
                    "oscillation": [5.0, 5.5, 6.0, 6.5, 7.0, 7.5],
                    "exposure_time": [0.1] * 6,
                },
                "valid_image_ranges": {},
            }
        ],
        "crystal": [
            {
                "__id__": "crystal",
                "real_space_a": rows[0].tolist(),
                "real_space_b": rows[1].tolist(),
                "real_space_c": rows[2].tolist(),
                "space_group_hall_symbol": " P 1",
            }
        ],
        "profile": [],
        "scaling_model": [],
    }


@pytest.fixture
def expt_content():
    """The experiment as the dictionary of a DIALS file; each test has a copy of its own."""
    return copy.deepcopy(_expt())


@pytest.fixture
def write_expt(tmp_path):
    """Write such a dictionary and give its path."""

    def write(content, name="made.expt"):
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.fixture
def experiment(expt_content, write_expt):
    """The experiment as it is read."""
    return read_experiments(write_expt(expt_content))[0]
