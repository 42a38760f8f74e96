"""Filters and detection of peaks: Poisson means kept, peaks left out, σ an upper bound."""

from collections import Counter

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import brentq
from scipy.special import gammainc, gammaincc, ndtri

from offbragg.errors import InputError
from offbragg.made_crystal import make_experiment
from offbragg.reduction.image_filter import (
    CHANCE,
    FILTER_VARIANCE,
    FILTERS,
    filter_image,
    find_peaks,
    without_peaks,
)
from offbragg.reduction.options import MapOptions
from offbragg.reduction.pipeline import compute_map

SIZE = 120
FOUR = 4.0
# Limits are interpolated in a table, counts are float32: 3e-4 seen.
RTOL_TABLE = 1e-3


def flat(mean, seed=0, shape=(SIZE, SIZE)):
    return np.random.default_rng(seed).poisson(mean, shape).astype(np.float32)


def with_peaks(image, every=20, height=40.0):
    """The image with a peak of 3 × 3 pixels in every square, and where they are."""
    image, at = image.copy(), np.zeros(image.shape, bool)
    for row in range(8, image.shape[0] - 3, every):
        for column in range(8, image.shape[1] - 3, every):
            at[row : row + 3, column : column + 3] = True
    image[at] += height
    return image, at


# --- 1 reference numbers -------------------------------------------------


def test_windows_by_hand():
    # 3 × 3 around the middle: 0 0 1 1 1 2 2 7 and one that is excluded.
    image = np.array([[0, 1, 2], [1, 2, 7], [0, np.nan, 1]], dtype=np.float32)
    assert filter_image(image, "mode-filter", 3, bin_width=1.0)[1, 1] == 1.5
    # Two bins with three each: 1 or 2, in the middle of their middles.
    image[0, 0] = 2
    assert filter_image(image, "mode-filter", 3, bin_width=1.0)[1, 1] == 2.0
    # In bins of 4 all but the peak are alike.
    assert filter_image(image, "mode-filter", 3, bin_width=4.0)[1, 1] == 2.0
    # Two of nine are enough to leave a corner a value, the excluded one has none.
    filtered = filter_image(image, "median-filter", 3)
    assert_array_equal(np.isnan(filtered), np.isnan(image))


# --- 2 independent oracle ------------------------------------------------


def windows(image, reach):
    for row, column in np.ndindex(image.shape):
        rows = slice(max(0, row - reach), row + reach + 1)
        part = image[rows, max(0, column - reach) : column + reach + 1]
        yield row, column, np.sort(part[np.isfinite(part)].astype(float))


def mode_by_definition(values):
    median = values[len(values) // 2]
    if median < 10:
        return np.nan
    width = 2 * np.round(0.5 * np.sqrt(median) - 0.5) + 1
    origin = median - width / 2
    bins = Counter(np.floor((values - origin) / width))
    best = max(bins.values())
    return origin + width * (np.mean([k for k, n in bins.items() if n == best]) + 0.5) + 1 / 6


def median_by_definition(values):
    median = values[len(values) // 2]
    at = np.abs(values - median) < 0.5
    found = median - 0.5 + (len(values) / 2 - np.sum(values < median - 0.5)) / at.sum()

    def excess(mean):
        middle = np.arange(200)[gammaincc(np.arange(200) + 1.0, mean) >= 0.5][0]
        below = gammaincc(middle, mean) if middle else 0.0
        at = gammaincc(middle + 1, mean) - below
        return middle - 0.5 + (0.5 - below) / at - found

    return brentq(excess, 1e-9, 150) if found > 0 else found


def mean_by_definition(values):
    median = values[len(values) // 2]
    spread = median - values[int(0.16 * len(values))]
    z = -ndtri(CHANCE)
    level = max(median, 0) + np.log(2)
    for _ in range(6):
        limit = brentq(lambda c, mean=level: gammainc(c, mean) - CHANCE, level, 3 * level + 99)
        limit = max(limit, level + z * spread)
        kept, top = values[values < limit].mean(), np.ceil(limit) - 1

        def excess(mean, top=top, kept=kept):
            return mean * gammaincc(top, mean) / gammaincc(top + 1, mean) - kept

        level = brentq(excess, 0.5 * kept, 2 * kept)
    return level


@pytest.mark.parametrize(
    ("kind", "oracle"),
    [
        ("mode-filter", mode_by_definition),
        ("median-filter", median_by_definition),
        ("mean-filter", mean_by_definition),
    ],
)
@pytest.mark.parametrize("mean", [0.4, 30.0])
def test_filters_agree_with_their_definitions(kind, oracle, mean):
    image, _ = with_peaks(flat(mean, 3, (12, 11)), height=90)
    image[np.random.default_rng(1).random(image.shape) < 0.1] = np.nan
    image[:8, :3] = np.nan
    filtered = filter_image(image, kind, 7)
    expected = np.full(image.shape, np.nan)
    for row, column, values in windows(image, 3):
        if len(values) >= 49 / 4 and np.isfinite(image[row, column]):
            expected[row, column] = oracle(values)
    assert_allclose(filtered, expected, rtol=RTOL_TABLE, atol=1e-4)


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("mean", [0.2, 5.0, 100.0, 5000.0])
@pytest.mark.parametrize("kind", FILTERS)
def test_the_mean_is_kept_from_few_photons_to_many(kind, mean):
    image = flat(mean)
    if kind == "mode-filter" and mean < 10:
        with pytest.raises(InputError, match="a median of 10 photons, got an image with none"):
            without_peaks([image], kind, 15, 1)
        return
    difference = np.mean(filter_image(image, kind), dtype=float) - np.mean(image, dtype=float)
    # Medians and modes scatter about the mean of the same pixels by no more than these.
    assert abs(difference) < {"mean-filter": 0.25, "median-filter": 2, "mode-filter": 3}[kind] * (
        FOUR / 2 * np.sqrt(mean) / SIZE
    )


@pytest.mark.parametrize("mean", [0.2, 5.0, 100.0, 5000.0])
def test_what_is_not_detected_has_the_mean_that_it_had(mean):
    height = 20 * (np.sqrt(mean) + 1) + mean
    good = flat(mean, 5)
    image, at = with_peaks(good, height=height)
    assert at.mean() > 0.02
    peaks = find_peaks(image, margin=0)
    assert np.all(peaks[at])
    assert np.count_nonzero(peaks & ~at) <= 4  # of 14 000, at a chance of 1e-5
    kept = np.mean(image[~peaks], dtype=float)
    # The highest count that is kept has the chance p(t) < 2e-4 of each of these means.
    assert kept == pytest.approx(np.mean(good[~at], dtype=float), rel=2e-4)


def test_slopes_are_no_peaks():
    rows, columns = np.indices((SIZE, SIZE))
    radius = np.hypot(rows - 60, columns - 50)
    air = 2.0 + 2000 * np.exp(-radius / 20)
    image = np.random.default_rng(2).poisson(air).astype(np.float32)
    image[radius < 12] = np.nan
    peaks = find_peaks(image)
    assert peaks.sum() <= 9
    image[70:73, 100:103] *= 4
    assert np.all(find_peaks(image)[70:73, 100:103])


def test_broad_variation_is_diffuse_scattering():
    # ±10 % over six pixels, with 5000 photons: seven standard deviations.
    rows, columns = np.indices((SIZE, SIZE))
    image = np.random.default_rng(2).poisson(5000 * (1 + 0.1 * np.sin(rows) * np.cos(columns)))
    assert find_peaks(image.astype(np.float32)).sum() == 0


@pytest.mark.parametrize(
    ("kind", "mean"),
    [("mode-filter", 12.0), ("mode-filter", 400.0), ("median-filter", 0.3),
     ("median-filter", 30.0), ("mean-filter", 0.3), ("mean-filter", 30.0)],
)  # fmt: skip
def test_sigma_of_filtered_pixels_is_an_upper_bound(kind, mean):
    images = [filter_image(flat(mean, seed), kind)[6:-6, 6:-6] - mean for seed in range(3)]
    for n in (1, 6, 18):
        means = [np.mean(x.reshape(108 // n, n, 108 // n, n), axis=(1, 3)) for x in images]
        assert np.mean(np.square(means)) * n * n < FILTER_VARIANCE[kind] * mean
    assert np.mean(np.square(images)) < 0.05 * mean  # neighbours share their pixels


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("kind", FILTERS)
def test_turned_images_are_filtered_alike(kind):
    image = flat(12.0, 7, (40, 30))
    turned = filter_image(np.ascontiguousarray(image.T), kind).T
    assert_allclose(filter_image(image, kind), turned, rtol=1e-6)


def test_what_is_kept_is_as_it_was():
    image, _ = with_peaks(flat(3.0))
    before = image.copy()
    (kept,), excess = without_peaks([image], "detect", 15, 1)
    assert excess is None
    good = np.isfinite(kept)
    assert_array_equal(kept[good], image[good])
    assert_array_equal(image, before)
    assert_array_equal(~good, find_peaks(image))


# --- 5 a map -------------------------------------------------------------


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    """Images of 3 photons everywhere and peaks where no lattice says."""
    path = tmp_path_factory.mktemp("stills") / "data.h5"
    made = make_experiment((20, 24, 22, 90, 100, 90), d_min=3.0, n_images=6, n_pixels=96)
    shape = made.detector[0].shape
    counts = np.random.default_rng(1).poisson(3.0, (6, 2, *shape))
    rng = np.random.default_rng(2)
    for image, panel in np.ndindex(6, 2):
        for row, column in zip(*(rng.integers(0, n - 2, 25) for n in shape), strict=True):
            counts[image, panel, row : row + 2, column : column + 2] += 60
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = counts.astype(np.uint32)
    return made.with_images(path)


def made_map(stills, bragg, **options):
    plain = {"d_min": 3.0, "corrections": (), "overload_margin": 0, "n_workers": 2}
    return compute_map([stills], MapOptions(**plain | {"bragg": bragg} | options))


def test_a_map_without_peaks_that_nothing_predicts(stills):
    found = made_map(stills, "detect")
    many = found.count >= 15
    z = (found.intensity[many] - 3.0) / found.sigma[many]
    assert abs(z.mean()) < FOUR / np.sqrt(z.size)
    assert z.std() == pytest.approx(1.0, abs=0.1)
    assert np.nanmean(made_map(stills, "keep").intensity) > 3.5
    assert found.provenance[0]["options"]["bragg"] == "detect"
    for workers in (1, 3):
        again = made_map(stills, "detect", n_workers=workers)
        assert_array_equal(again.intensity, found.intensity)


def test_a_filtered_map_is_smooth_and_its_sigma_no_less(stills):
    detected, filtered = (made_map(stills, bragg) for bragg in ("detect", "median-filter"))
    many = detected.count >= 15
    z = (filtered.intensity[many] - 3.0) / filtered.sigma[many]
    assert abs(np.mean(filtered.intensity[many]) - 3.0) < 0.06  # peaks are 1 % of the pixels
    assert z.std() < 0.8
    assert np.median(filtered.sigma[many]) > np.median(detected.sigma[many])


# --- 6 errors ------------------------------------------------------------


def test_what_is_wrong_is_named(stills):
    image = flat(1.0, shape=(20, 20))
    with pytest.raises(InputError, match="kind must be one of mode-filter, median-filter, mean-"):
        filter_image(image, "mean")
    with pytest.raises(InputError, match="filter_size must be odd and >= 3 pixels, got 4"):
        filter_image(image, "mean-filter", 4)
    with pytest.raises(InputError, match="bin_width must be > 0 photons, got 0"):
        filter_image(image, "mode-filter", bin_width=0)
    with pytest.raises(InputError, match="peak_margin must be >= 0 pixels, got -1"):
        find_peaks(image, margin=-1)
    with pytest.raises(InputError, match="filter_size must be odd and >= 3 pixels, got 1"):
        MapOptions(d_min=2.0, filter_size=1)
    with pytest.raises(InputError, match="peak_margin must be >= 0 pixels, got -1"):
        MapOptions(d_min=2.0, peak_margin=-1)
    with pytest.raises(InputError, match="bragg must be one of exclude, keep, only, detect, mode"):
        MapOptions(d_min=2.0, bragg="filter")
    with pytest.raises(InputError, match="mode-filter: expected windows of 15 pixels"):
        made_map(stills, "mode-filter")
