"""map --scaling and scale: the same map, by one command and by two."""

import numpy as np
import pytest

from offbragg import read_map


def test_map_scales_and_scale_does_it_again(call, work, tmp_path):
    kept = tmp_path / "observations.h5"
    common = ("map", work / "images/exposed.expt", "--d-min", 3.5, "--json")
    made = call(*common, "-o", tmp_path / "a.h5", "--scaling", "standard", "--wedge", 10,
                "--observations", kept).json["result"]  # fmt: skip
    assert made["scaling"]["n_observations"] > 0
    assert made["scaling"]["r_meas_before"] > 0
    again = call("scale", kept, "-o", tmp_path / "b.h5", "--json").json["result"]
    assert again["scaling"] == made["scaling"]
    one, other = (read_map(tmp_path / name) for name in ("a.h5", "b.h5"))
    assert np.array_equal(one.intensity, other.intensity, equal_nan=True)
    fewer = call("scale", kept, "-o", tmp_path / "c.h5", "--corrections", "scale", "--json")
    assert fewer.json["result"]["scaling"]["r_meas_after"] > 0


def test_for_people_it_shows_what_scaling_did(call, work, tmp_path):
    text = call("map", work / "images/exposed.expt", "--d-min", 3.5, "-o", tmp_path / "a.h5",
                "--scaling", "standard", "--wedge", 10).out  # fmt: skip
    for word in ("r meas before", "n outliers", "inflation"):
        assert word in text


@pytest.mark.parametrize("file", ["text.h5", "empty.h5", "coarse.h5", "none.h5"])
def test_what_is_no_file_of_observations_is_refused(refused, work, tmp_path, file):
    assert file in refused("scale", work / file, "-o", tmp_path / "a.h5", code=1)
