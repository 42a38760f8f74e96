"""Hot pixels of a real detector: ten stills, nine degrees of rotation, peaks throughout."""

import numpy as np
import pytest

from offbragg.reduction.experiment import read_experiments
from offbragg.reduction.images import open_images
from offbragg.reduction.options import MaskOptions
from offbragg.reduction.photons import compute_mask

pytestmark = pytest.mark.real


def test_a_hot_spot_is_found_and_peaks_are_not(shared_data):
    data = shared_data / "snase"
    experiments = read_experiments(data / "snase_stills.expt")
    options = MaskOptions(
        hot_pixels=True, mask=str(data / "snase_mask.npy"), overload=10000, overload_margin=3
    )
    found = compute_mask(experiments, options)
    # One spot of two pixels reads 8000 and more on nine images of ten, 400 around it: no peak
    # stays so. Half a million good pixels, with 3561 peaks on them, are none.
    places = np.argwhere(found.reasons["hot"][0]).tolist()
    assert [228, 101] in places
    assert len(places) <= 6
    assert not found.reasons["dead"][0].any()
    with open_images(experiments[0]) as images:
        values = [images.read(index)[0][228, 101] for index in range(10)]
    assert np.sum(np.array(values) > 8000) >= 9


def test_dark_scratches_at_the_edge_are_found_without_a_mask(shared_data):
    data = shared_data / "snase"
    experiments = read_experiments(data / "snase_stills.expt")
    found = compute_mask(experiments, MaskOptions(hot_pixels=True))
    by_hand = np.load(data / "snase_mask.npy")
    dead = found.reasons["dead"][0]
    assert dead.sum() > 100
    assert np.all(by_hand[dead])  # every one of them lies in what was masked by hand
