"""compute_map: images on disk to a map, with options, halves and provenance."""

import hashlib
import json
import logging
from dataclasses import replace

import h5py
import numpy as np
import pytest
from fabio.cbfimage import CbfImage
from numpy.testing import assert_allclose, assert_array_equal

from offbragg.crystal.grid import HklGrid
from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.reduction.corrections import PIXEL_CORRECTIONS, correction_factor, mean_solid_angle
from offbragg.reduction.detector_mask import static_mask
from offbragg.reduction.experiment import read_experiments
from offbragg.reduction.image_tasks import draw_halves
from offbragg.reduction.options import CORRECTIONS, MapOptions, MaskOptions
from offbragg.reduction.pipeline import compute_map

RTOL_FLOAT32 = 3e-6  # the map is float32, κ and photons too
N_IMAGES = 6
PLAIN = {"d_min": 4.0, "bragg": "keep", "overload_margin": 0, "n_workers": 1}


class Watch:
    """Counts steps."""

    def __init__(self):
        self.total, self.done = 0, 0

    def start(self, what, total):
        self.total = total

    def step(self, n=1):
        self.done += n


def write_stack(path, images):
    """Images (n_images, n_panels, slow, fast) as NXmx."""
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/data/data", data=images)


@pytest.fixture
def sweep(expt_content, write_expt, tmp_path):
    """Write images and give the experiment that names them."""

    def make(images, name="made", **scan):
        content = json.loads(json.dumps(expt_content))
        write_stack(tmp_path / "images" / f"{name}.h5", images)
        content["imageset"][0] = {
            "__id__": "ImageSequence",
            "template": f"images/{name}.h5",
            "single_file_indices": list(range(len(images))),
        }
        content["scan"][0]["properties"].update(scan)
        return read_experiments(write_expt(content, f"{name}.expt"))[0]

    return make


@pytest.fixture
def counts():
    """Poisson counts on both panels."""
    return np.random.default_rng(4).poisson(6.0, (N_IMAGES, 2, 20, 30)).astype(np.int32)


def same(a, b):
    for name in ("intensity", "sigma", "count", "half_1", "half_2"):
        assert_array_equal(getattr(a, name), getattr(b, name))


# --- 1 reference numbers -------------------------------------------------


def test_halves_of_a_hundred_images():
    halves = draw_halves(100, np.random.default_rng(1))
    blocks = halves.reshape(20, 5)
    assert (blocks == blocks[:, :1]).all()  # contiguous runs of five
    assert blocks[:, 0].sum() == 10
    assert len(set(map(tuple, [draw_halves(100, np.random.default_rng(i)) for i in range(5)]))) > 1


@pytest.mark.parametrize("n_images", [1, 2, 3, 7, 19, 41])
def test_few_images_are_drawn_singly_and_evenly(n_images):
    halves = draw_halves(n_images, np.random.default_rng(0))
    assert len(halves) == n_images
    assert abs(int((halves == 0).sum()) - int((halves == 1).sum())) <= 2 * max(1, n_images // 20)


# --- 2 independent oracle ------------------------------------------------


def test_map_is_the_mean_of_corrected_pixels(sweep, counts):
    experiment = sweep(counts)
    found = compute_map([experiment], MapOptions(**PLAIN))
    grid = HklGrid.from_resolution(experiment.crystal.cell, 4.0)
    total, n = np.zeros(grid.shape), np.zeros(grid.shape, int)
    reference = mean_solid_angle(experiment.detector)
    for image in range(N_IMAGES):
        for number, panel in enumerate(experiment.detector):
            kappa = correction_factor(panel, experiment.beam, PIXEL_CORRECTIONS, reference)
            hkl = experiment.hkl_of(panel.pixel_positions(), image)
            index, inside = grid.index_of(hkl)
            if number == 0:
                inside[:3, :2] = False  # the panel's rectangle
            where = tuple(index[inside].T)
            np.add.at(total, where, (counts[image, number] * kappa)[inside])
            np.add.at(n, where, 1)
    n[~grid.within()] = 0
    assert n.sum() > 3000
    assert_array_equal(found.count, n)
    assert_allclose(found.intensity[n > 0], total[n > 0] / n[n > 0], rtol=RTOL_FLOAT32)
    assert np.isnan(found.intensity[n == 0]).all()
    assert found.intensity.dtype == np.float32
    assert found.count.dtype == np.int32
    assert found.laue_group is None
    assert found.space_group == "P 1"
    assert found.cell == experiment.crystal.cell


def test_halves_are_maps_of_their_images(sweep, counts):
    found = compute_map([sweep(counts)], MapOptions(**PLAIN), np.random.default_rng(3))
    half = draw_halves(N_IMAGES, np.random.default_rng(3))
    for number, name in enumerate(("half_1", "half_2")):
        some = np.where((half == number)[:, None, None, None], counts, -5)  # −5 is untrusted
        expected = compute_map([sweep(some, name)], MapOptions(**PLAIN))
        assert_allclose(getattr(found, name), expected.intensity, rtol=1e-6)


@pytest.mark.parametrize("oversample", [(1, 1), (2, 2)])
def test_peaks_and_the_rest_are_the_whole(sweep, counts, oversample):
    """Every pixel is near a node or not: weights and sums of both maps add up to all."""
    experiment = sweep(counts)
    options = {**PLAIN, "bragg_radius": 0.3, "oversample": oversample}
    whole, far, near = (
        compute_map([experiment], MapOptions(**{**options, "bragg": kind}))
        for kind in ("keep", "exclude", "only")
    )
    assert near.count.sum() > 100
    assert_array_equal(near.count + far.count, whole.count)
    if oversample == (1, 1):
        parts = [np.nan_to_num(m.intensity) * m.count for m in (near, far)]
        expected = np.nan_to_num(whole.intensity) * whole.count
        assert_allclose(parts[0] + parts[1], expected, rtol=RTOL_FLOAT32 * 10, atol=1e-3)


# --- 3 exact limits ------------------------------------------------------


def test_one_image_has_no_halves(sweep, counts):
    experiment = sweep(counts)
    one = replace(
        experiment,
        scan=replace(
            experiment.scan,
            image_range=(11, 11),
            oscillation_start=experiment.scan.oscillation_start[:1],
            oscillation_width=experiment.scan.oscillation_width[:1],
            exposure_times=None,
        ),
        file_indices=(0,),
    )
    found = compute_map([one], MapOptions(**PLAIN))
    assert found.half_1 is None
    assert found.half_2 is None
    assert found.measured.any()


def test_gain_and_pedestal_make_photons(sweep, counts):
    plain = compute_map([sweep(counts)], MapOptions(**PLAIN))
    experiment = sweep(4 * counts + 37, "adu")
    detector = tuple(replace(panel, gain=4.0, pedestal=37.0) for panel in experiment.detector)
    found = compute_map([replace(experiment, detector=detector)], MapOptions(**PLAIN))
    assert_allclose(found.intensity, plain.intensity, rtol=1e-6)
    assert_allclose(found.sigma, plain.sigma, rtol=1e-6)


def test_exposures_that_differ_are_divided_out(sweep):
    flat = np.ones((N_IMAGES, 2, 20, 30), np.int32) * 100
    times = np.array([1.0, 2.0, 3.0, 1.0, 2.0, 3.0])
    steady = compute_map([sweep(flat)], MapOptions(**PLAIN))
    uneven = sweep(flat * times.astype(int)[:, None, None, None], "t", exposure_time=times.tolist())
    found = compute_map([uneven], MapOptions(**PLAIN))
    assert_allclose(found.intensity, steady.intensity * times.mean(), rtol=1e-6)
    switched_off = compute_map([uneven], MapOptions(**PLAIN, corrections=PIXEL_CORRECTIONS))
    assert np.nanmax(np.abs(switched_off.intensity / steady.intensity - 2)) > 0.5


def test_a_flux_that_varies_is_divided_out(sweep, tmp_path):
    flat = np.ones((N_IMAGES, 2, 20, 30), np.int32) * 100
    flux = np.array([1.0, 2.0, 3.0, 1.0, 0.0, 3.0])
    times = [1.0, 1.0, 2.0, 2.0, 1.0, 1.0]
    counts = flat * (flux * times).astype(int)[:, None, None, None]
    uneven = sweep(counts, "f", exposure_time=times)
    text = "".join(f"{n},{f}\n" for n, f in zip(uneven.image_numbers, flux, strict=True))
    (tmp_path / "flux.csv").write_text("image,flux\n" + text)
    options = {**PLAIN, "flux": str(tmp_path / "flux.csv")}
    found = compute_map([uneven], MapOptions(**options))
    # The fifth image had no beam: it is left out, the map has the mean flux of the others.
    dark = np.where((flux > 0)[:, None, None, None], flat, -5)
    lit = compute_map([sweep(dark, "lit")], MapOptions(**PLAIN))
    assert_array_equal(found.count, lit.count)
    some = found.count > 0
    assert_allclose(
        found.intensity[some],
        lit.intensity[some] * flux[flux > 0].mean() * np.mean(times),
        rtol=1e-6,
    )
    (entry,) = found.provenance
    assert entry["corrections"][-2:] == ["exposure", "flux"]
    assert str(tmp_path / "flux.csv") in entry["inputs"]
    off = compute_map([uneven], MapOptions(**{**options, "corrections": ("solid-angle",)}))
    assert off.provenance[0]["corrections"] == ["solid-angle"]
    assert str(tmp_path / "flux.csv") not in off.provenance[0]["inputs"]
    assert off.count.sum() > found.count.sum()


def test_dark_image_flat_field_and_gain_give_the_same_map(sweep, counts, tmp_path):
    # An imperfect detector's ADU, put right, are the photons of a perfect one.
    rng = np.random.default_rng(7)
    dark = rng.integers(3, 40, (2, 20, 30))
    response = rng.choice([0.5, 1.0, 2.0], (2, 20, 30))
    plain = compute_map([sweep(counts)], MapOptions(**PLAIN))
    adu = np.rint(3 * counts * 2 * response).astype(np.int32) + dark
    np.save(tmp_path / "dark.npy", dark)
    np.save(tmp_path / "flat.npy", 2 * response)
    experiment = sweep(adu, "adu")
    options = MapOptions(
        **PLAIN,
        dark=str(tmp_path / "dark.npy"),
        flat_field=str(tmp_path / "flat.npy"),
        gain=3.0,
    )
    found = compute_map([experiment], options)
    assert_allclose(found.intensity, plain.intensity, rtol=1e-6)
    assert_array_equal(found.count, plain.count)
    assert {"dark", "flat-field"} <= set(found.provenance[0]["corrections"])
    off = replace(options, corrections=PIXEL_CORRECTIONS)
    assert not np.allclose(compute_map([experiment], off).intensity, plain.intensity, atol=1.0,
                           equal_nan=True)  # fmt: skip


def test_parallax_is_as_the_geometry_was_refined_unless_switched_off(sweep, counts):
    experiment = sweep(counts)
    deep = tuple(replace(panel, parallax=True) for panel in experiment.detector)
    deep_experiment = replace(experiment, detector=deep)
    plain = compute_map([experiment], MapOptions(**PLAIN))
    found = compute_map([deep_experiment], MapOptions(**PLAIN))
    assert "parallax" in found.provenance[0]["corrections"]
    assert "parallax" not in plain.provenance[0]["corrections"]
    assert not np.array_equal(found.count, plain.count)
    some = tuple(name for name in CORRECTIONS if name != "parallax")
    same(compute_map([deep_experiment], MapOptions(**PLAIN, corrections=some)), plain)


def test_shapes_and_rings_leave_pixels_out(sweep, counts, tmp_path):
    (tmp_path / "shapes.txt").write_text("circle 1 15 10 4.2\nrectangle p0 20 0 30 20\n")
    experiment = sweep(counts)
    options = MaskOptions(mask_shapes=str(tmp_path / "shapes.txt"), mask_rings=("5.2-4.6",))
    excluded = static_mask(experiment, options).excluded
    np.save(tmp_path / "mask.npy", np.array(excluded))
    expected = compute_map([experiment], MapOptions(**PLAIN, mask=str(tmp_path / "mask.npy")))
    found = compute_map(
        [experiment],
        MapOptions(**PLAIN, mask_shapes=options.mask_shapes, mask_rings=options.mask_rings),
    )
    same(found, expected)
    assert found.count.sum() < compute_map([experiment], MapOptions(**PLAIN)).count.sum()
    (masked,) = found.provenance[0]["masked_pixels"]
    assert (masked["experiment"], masked["shapes"]) == (6, 52 + 200)
    assert masked["rings"] > 0


def test_hot_pixels_are_left_out_when_asked(sweep, counts):
    clean = compute_map([sweep(counts)], MapOptions(**PLAIN))
    counts[:, 1, 7, 8] += 400
    experiment = sweep(counts, "hot")
    kept = compute_map([experiment], MapOptions(**PLAIN))
    cut = compute_map([experiment], MapOptions(**{**PLAIN, "hot_pixels": True, "n_workers": 2}))
    assert kept.count.sum() - cut.count.sum() == N_IMAGES
    assert np.nanmax(cut.intensity) < 0.2 * np.nanmax(kept.intensity)
    touched = cut.count != kept.count
    assert_array_equal(cut.intensity[~touched], clean.intensity[~touched])
    assert cut.provenance[0]["masked_pixels"] == [{"experiment": 6, "hot": 1, "dead": 0}]


def test_overloads_and_their_surroundings_are_left_out(sweep, counts):
    counts[2, 0, 10, 10] = 500
    whole = compute_map([sweep(counts)], MapOptions(**PLAIN))
    cut = compute_map([sweep(counts)], MapOptions(**{**PLAIN, "overload": 400}))
    assert whole.count.sum() - cut.count.sum() == 1
    wide = compute_map(
        [sweep(counts)], MapOptions(**{**PLAIN, "overload": 400, "overload_margin": 2})
    )
    assert whole.count.sum() - wide.count.sum() == 13


def test_a_mask_leaves_pixels_out(sweep, counts, tmp_path):
    excluded = np.zeros((2, 20, 30), bool)
    excluded[1] = True
    np.save(tmp_path / "mask.npy", excluded)
    experiment = sweep(counts)
    found = compute_map([experiment], MapOptions(**PLAIN, mask=str(tmp_path / "mask.npy")))
    first_only = replace(experiment, detector=experiment.detector[:1])
    write_stack(tmp_path / "images" / "first.h5", counts[:, :1])
    first_only = first_only.with_images(tmp_path / "images" / "first.h5")
    whole = mean_solid_angle(experiment.detector) / mean_solid_angle(first_only.detector)
    expected = compute_map([first_only], MapOptions(**PLAIN))
    assert_array_equal(found.count, expected.count)
    assert_allclose(found.intensity, expected.intensity * whole, rtol=1e-6)


def test_pixels_near_nodes_are_left_out(sweep, counts):
    experiment = sweep(counts)
    kept = compute_map([experiment], MapOptions(**PLAIN))
    options = {**PLAIN, "bragg": "exclude", "bragg_radius": 0.3, "stills": True}
    cut = compute_map([experiment], MapOptions(**options))
    # A ball of 0.3 in the cube of 1: 11 % of the pixels, give or take the number of pixels.
    lost = 1 - cut.count.sum() / kept.count.sum()
    assert abs(lost - 4 / 3 * np.pi * 0.3**3) < 4 * np.sqrt(0.11 / kept.count.sum())
    turning = compute_map([experiment], MapOptions(**{**options, "stills": False}))
    assert turning.count.sum() < cut.count.sum()


def test_sigma_falls_with_the_number_of_pixels(sweep):
    ones = np.ones((N_IMAGES, 2, 20, 30), np.int32)
    found = compute_map([sweep(ones)], MapOptions(**PLAIN, corrections=()))
    some = found.count > 0
    assert_allclose(found.sigma[some], 1 / np.sqrt(found.count[some]), rtol=1e-6)
    none = compute_map([sweep(0 * ones)], MapOptions(**PLAIN, corrections=()))
    assert_allclose(none.sigma[some], 1 / none.count[some], rtol=1e-6)
    assert_array_equal(none.intensity[some], 0.0)


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("oversample", [(1, 1), (2, 2)])
def test_the_map_does_not_depend_on_the_number_of_threads(oversample, sweep, counts):
    experiment = sweep(counts)
    options = MapOptions(d_min=4.0, oversample=oversample, n_workers=1)
    one = compute_map([experiment], options)
    for n_workers in (2, 3, 5):
        same(one, compute_map([experiment], replace(options, n_workers=n_workers)))


def test_two_sweeps_make_one_map(sweep, counts):
    # The same images as one sweep of six, and as two sweeps of three.
    whole = sweep(counts)
    parts = []
    for first in (0, 3):
        some = slice(first, first + 3)
        scan = replace(
            whole.scan,
            image_range=(11 + first, 13 + first),
            oscillation_start=whole.scan.oscillation_start[some],
            oscillation_width=whole.scan.oscillation_width[some],
            exposure_times=None,
        )
        parts.append(replace(whole, scan=scan, file_indices=(first, first + 1, first + 2)))
    same(compute_map([whole], MapOptions(**PLAIN)), compute_map(parts, MapOptions(**PLAIN)))


def test_single_images_as_experiments(sweep, counts):
    whole = sweep(counts)
    singles = []
    for i in range(N_IMAGES):
        scan = replace(
            whole.scan,
            image_range=(i + 1, i + 1),
            oscillation_start=whole.scan.oscillation_start[i : i + 1],
            oscillation_width=whole.scan.oscillation_width[i : i + 1],
            exposure_times=None,
        )
        singles.append(replace(whole, scan=scan, file_indices=None))
    same(compute_map([whole], MapOptions(**PLAIN)), compute_map(singles, MapOptions(**PLAIN)))


def test_the_format_of_the_images_changes_nothing(sweep, counts, tmp_path):
    experiment = sweep(counts)
    first_only = replace(experiment, detector=experiment.detector[:1])
    write_stack(tmp_path / "images" / "first.h5", counts[:, 0])
    for number, image in zip(experiment.image_numbers, counts[:, 0], strict=True):
        CbfImage(data=image).write(str(tmp_path / f"img_{number:04d}.cbf"))
    stack = compute_map(
        [first_only], MapOptions(**PLAIN, images=str(tmp_path / "images" / "first.h5"))
    )
    files = compute_map(
        [replace(first_only, file_indices=None)],
        MapOptions(**PLAIN, images=str(tmp_path / "img_####.cbf")),
    )
    same(stack, files)


def test_a_seed_repeats_the_halves(sweep, counts):
    experiment = sweep(counts)
    one, again, other = (
        compute_map([experiment], MapOptions(**PLAIN, seed=seed)) for seed in (1, 1, 4)
    )
    same(one, again)
    assert_array_equal(one.intensity, other.intensity)
    assert not np.array_equal(one.half_1, other.half_1, equal_nan=True)


def test_progress_counts_images(sweep, counts):
    watch = Watch()
    compute_map([sweep(counts)], MapOptions(**PLAIN), progress=watch)
    assert (watch.total, watch.done) == (N_IMAGES, N_IMAGES)


def test_provenance_says_what_was_done(sweep, counts, tmp_path):
    np.save(tmp_path / "mask.npy", np.zeros((2, 20, 30), bool))
    mask = str(tmp_path / "mask.npy")
    (entry,) = compute_map([sweep(counts)], MapOptions(**PLAIN, mask=mask)).provenance
    assert (entry["program"], entry["command"]) == ("offbragg", "map")
    assert entry["options"]["d_min"] == 4.0
    assert entry["corrections"] == ["solid-angle", "polarization", "absorption", "air", "exposure"]
    assert entry["images"] == [{"template": "made.h5", "n_images": 6}]
    expt = tmp_path / "made.expt"
    assert entry["inputs"][str(expt)] == hashlib.sha256(expt.read_bytes()).hexdigest()
    assert set(entry["inputs"]) == {str(expt), mask}
    json.dumps(entry)  # goes into the map's file


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bragg": "maybe"}, "bragg must be one of exclude, keep, only, detect, .*, got 'maybe'"),
        ({"scaling": "smooth"}, "scaling must be one of none, outliers, standard, got 'smooth'"),
        ({"bragg_radius_unit": "nm"}, "bragg_radius_unit must be one of rlu, 1/angstrom, got"),
        ({"air_fraction": 1.1}, "air_fraction must be 0 to 1, got 1.1"),
        ({"gain": 0.0}, "gain must be > 0 ADU per photon, got 0.0"),
        ({"mask_rings": ("ice",)}, "mask_rings must be ranges of d in Å such as .* got 'ice'"),
        ({"corrections": ("lorentz",)}, "corrections must be among solid-angle.*got 'lorentz'"),
        ({"d_min": 0.0}, "d_min must be > 0 Å, got 0.0"),
        ({"overload": -1}, "overload must be > 0, got -1"),
        ({"overload_margin": -1}, "overload_margin must be >= 0 pixels, got -1"),
        ({"laue_group": "4/m"}, "laue_group and friedel are of scaling, got scaling 'none'"),
        ({"friedel": "split"}, "friedel must be one of merged, apart, got 'split'"),
        ({"oversample": (2,)}, "oversample must be two whole numbers"),
        ({"oversample": (2, 0)}, "oversample must be two whole numbers >= 1, got 2, 0"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(InputError, match=message):
        MapOptions(**{"d_min": 2.0, **options})


def test_what_cannot_become_a_map(sweep, counts, tmp_path):
    experiment = sweep(counts)
    with pytest.raises(InputError, match="experiments must be at least one, got none"):
        compute_map([], MapOptions(**PLAIN))
    np.save(tmp_path / "mask.npy", np.ones((2, 20, 30), bool))
    with pytest.raises(InputError, match="no pixel falls in the grid: of 6 images none has"):
        compute_map([experiment], MapOptions(**PLAIN, mask=str(tmp_path / "mask.npy")))
    with pytest.raises(MissingFileError, match=r"none\.h5: no such file"):
        compute_map([experiment], MapOptions(**PLAIN, images=str(tmp_path / "none.h5")))
    np.save(tmp_path / "mask.npy", np.zeros((3, 3), bool))
    with pytest.raises(FormatError, match=r"mask\.npy: expected an image of 2 panels"):
        compute_map([experiment], MapOptions(**PLAIN, mask=str(tmp_path / "mask.npy")))


def test_files_that_do_not_fit_are_named(sweep, counts, tmp_path):
    experiment = sweep(counts)
    (tmp_path / "flux.txt").write_text("1\n2\n")
    np.save(tmp_path / "flat.npy", np.ones((3, 3)))
    for name, file, message in [
        ("flux", "flux.txt", r"flux\.txt: expected 6 factors, one an image, found 2"),
        ("dark", "flat.npy", r"flat\.npy: expected an image of 2 panels"),
        ("flat_field", "flat.npy", r"flat\.npy: expected an image of 2 panels"),
        ("mask_shapes", "flux.txt", r"flux\.txt: line 1: expected kind, panel, numbers"),
    ]:
        with pytest.raises(FormatError, match=message):
            compute_map([experiment], MapOptions(**PLAIN, **{name: str(tmp_path / file)}))
    (tmp_path / "flux.txt").write_text("-1\n" * 6)
    with pytest.raises(FormatError, match=r"flux\.txt: flux must be >= 0, got -1 for image 1"):
        compute_map([experiment], MapOptions(**PLAIN, flux=str(tmp_path / "flux.txt")))


def test_a_pedestal_that_is_in_the_dark_image_too_is_warned_of(sweep, counts, tmp_path, caplog):
    np.save(tmp_path / "dark.npy", np.full((2, 20, 30), 42.0))
    options = MapOptions(**PLAIN, dark=str(tmp_path / "dark.npy"))
    experiment = sweep(counts + 80)
    compute_map([experiment], options)
    assert not caplog.text
    detector = tuple(replace(panel, pedestal=40.0) for panel in experiment.detector)
    compute_map([replace(experiment, detector=detector)], options)
    assert "its median of 42 ADU is not below the pedestal of 40" in caplog.text


def test_too_few_images_for_hot_pixels_are_warned_of(sweep, counts, caplog):
    experiment = sweep(counts)
    scan = replace(
        experiment.scan,
        image_range=(11, 13),
        oscillation_start=experiment.scan.oscillation_start[:3],
        oscillation_width=experiment.scan.oscillation_width[:3],
        exposure_times=None,
    )
    short = replace(experiment, scan=scan, file_indices=(0, 1, 2))
    found = compute_map([short], MapOptions(**PLAIN, hot_pixels=True))
    assert "hot pixels: not looked for, 3 images of one detector are fewer than 5" in caplog.text
    assert found.count.any()


def test_sweeps_of_different_crystals_are_refused(sweep, counts, caplog):
    experiment = sweep(counts)
    crystal = experiment.crystal
    for shrink, refused in [(1.01, False), (1.05, True)]:
        other = replace(experiment, crystal=replace(crystal, a_matrix=crystal.a_matrix * shrink))
        if refused:
            with pytest.raises(InputError, match=r"experiment 1: cell . differs by 4\.76 %"):
                compute_map([experiment, other], MapOptions(**PLAIN))
        else:
            with caplog.at_level(logging.WARNING):
                compute_map([experiment, other], MapOptions(**PLAIN))
            assert "experiment 1: cell" in caplog.text
    other = replace(experiment, crystal=replace(crystal, space_group="P -1"))
    with pytest.raises(InputError, match="space group must be that of the first, P 1, got P -1"):
        compute_map([experiment, other], MapOptions(**PLAIN))
