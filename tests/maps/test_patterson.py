"""3D-ΔPDF: direct Fourier sums, Gaussians of pairs, sum rules, holes, half maps, errors."""

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tests.oracles import blocks, cell_vectors, diffuse_sum, q_of
from tests.strategies import CRYSTALS, cells, random_covariance, random_structure

from offbragg import Covariance, DiffuseMap, HklGrid, simulate
from offbragg.errors import InputError
from offbragg.maps.patterson import DeltaPdf, DeltaPdfOptions, compute_delta_pdf

TRICLINIC = CRYSTALS["triclinic"][0]
RTOL_ROUNDING = 1e-12  # of the largest value: same sum, other order
GAUSSIAN_ERROR = 2e-9  # of the largest value: the intensity beyond d_min; 2.6e-10 seen
SIMULATE_ERROR = 1e-7  # of the largest value, `simulate` at rtol 1e-7; 7e-9 seen


def make_map(first, shape, sampling=(1, 1, 1), cell=TRICLINIC, seed=1, d_min=None):
    """Random intensities on any grid; Friedel mates differ."""
    axes = [(a + np.arange(n)) / s for a, n, s in zip(first, shape, sampling, strict=True)]
    intensity = np.random.default_rng(seed).uniform(0, 100, shape)
    return DiffuseMap(HklGrid(cell, *axes, sampling, d_min), intensity)


def friedel_symmetric(diffuse_map):
    intensity = (diffuse_map.intensity + diffuse_map.intensity[::-1, ::-1, ::-1]) / 2
    return DiffuseMap(diffuse_map.grid, intensity)


def direct_sum(diffuse_map, x, y, z):
    """Real part of (1/(V n)) Σ I e^{−2πi h·x} at points, voxel by voxel; no value is 0."""
    grid = diffuse_map.grid
    hkl = grid.hkl().reshape(-1, 3)
    values = np.nan_to_num(diffuse_map.intensity.ravel())
    points = np.stack([x, y, z], axis=-1)
    a, b, c = cell_vectors(grid.cell)
    volume = a @ np.cross(b, c) * np.prod(grid.sampling)
    return (np.exp(-2j * np.pi * points @ hkl.T) @ values).real / volume


def pairs_of_gaussians(r, positions, v, extra, box):
    """Σ_ij G(r − r_ij; D_ij + extra) − G(r − r_ij; V_ii + V_jj + extra), images of the box added.

    r (n, 3) [Å]; box: rows are the edges [Å] that the sum repeats with.
    """
    v = blocks(v)
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3) @ box
    total = np.zeros(len(r))
    for i in range(len(v)):
        for j in range(len(v)):
            own = v[i, i] + v[j, j] + extra
            for sign, width in ((1, own - v[i, j] - v[j, i]), (-1, own)):
                inverse = np.linalg.inv(width)
                norm = sign / np.sqrt(np.linalg.det(2 * np.pi * width))
                apart = r[:, None] - (positions[j] - positions[i]) - shifts[None]
                exponent = -0.5 * np.sum((apart @ inverse) * apart, axis=-1)
                total += norm * np.exp(exponent).sum(axis=1)
    return total


def sample(pdf, rng, n, near=None):
    """Some grid points: indices, x, y, z; ``near``: half of them with |x|, |y|, |z| below it."""
    index = tuple(rng.integers(0, size, n) for size in pdf.values.shape)
    if near is not None:
        for places, axis in zip(index, (pdf.x, pdf.y, pdf.z), strict=True):
            places[::2] = rng.choice(np.flatnonzero(np.abs(axis) < near), len(places[::2]))
    return index, pdf.x[index[0]], pdf.y[index[1]], pdf.z[index[2]]


# --- 1 reference numbers -------------------------------------------------


def test_one_wave_by_hand():
    # I = 8 at (±1, 0, 0) of a 10 Å cube: ΔP = 2 · 8 cos(2πx)/1000.
    grid = HklGrid((10, 10, 10, 90, 90, 90), [-1, 0, 1], [0], [0])
    pdf = compute_delta_pdf(DiffuseMap(grid, np.array([8.0, 0, 8.0]).reshape(3, 1, 1)))
    assert_allclose(pdf.x, [-1 / 3, 0, 1 / 3])
    assert_allclose(pdf.values.ravel(), 0.016 * np.array([-0.5, 1.0, -0.5]), rtol=RTOL_ROUNDING)


def test_the_record_of_a_transform():
    diffuse_map = make_map((-2, -2, -2), (5, 5, 5), cell=(300, 300, 300, 90, 90, 90))
    diffuse_map.intensity[0, 0, 0] = diffuse_map.intensity[2, 2, 3] = np.nan
    diffuse_map.intensity[2, 2, 1] = np.nan
    options = DeltaPdfOptions(holes="mean", apodisation="gaussian", apodisation_width=0.5)
    step = compute_delta_pdf(diffuse_map, options).provenance[-1]
    assert step["options"]["holes"] == "mean"
    assert step["options"]["apodisation_width"] == 0.5
    counted = [step[f"n_{name}"] for name in ("measured", "from_friedel_mates", "filled")]
    assert counted == [122, 1, 2]
    assert step["n_missing"] == 0


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize(
    ("first", "shape", "sampling"),
    [
        ((-3, -4, -2), (7, 9, 5), (1, 1, 1)),
        ((-4, -4, -6), (9, 9, 13), (2, 1, 3)),
        ((-3, -2, -1), (6, 5, 4), (1, 2, 1)),  # even, not centred
        ((0, -3, 1), (4, 7, 3), (1, 1, 2)),  # one side only, without the origin
    ],
)
def test_as_the_direct_sum(first, shape, sampling):
    diffuse_map = make_map(first, shape, sampling)
    diffuse_map.intensity[1, 2, 1] = np.nan
    rng = np.random.default_rng(3)
    for oversampling in (1.0, 1.7):
        options = DeltaPdfOptions(friedel="measured", oversampling=oversampling)
        pdf = compute_delta_pdf(diffuse_map, options)
        index, *points = sample(pdf, rng, 60)
        largest = np.abs(pdf.values).max()
        expected = direct_sum(diffuse_map, *points)
        assert_allclose(pdf.values[index], expected, atol=RTOL_ROUNDING * largest)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(cell=cells(), seed=st.integers(0, 999), even=st.booleans())
def test_as_the_direct_sum_in_every_cell(cell, seed, even):
    rng = np.random.default_rng(seed)
    sampling = tuple(rng.integers(1, 4, 3).tolist())
    half = rng.integers(0, 4, 3)
    diffuse_map = make_map(-half, 2 * half + 1, sampling, cell, seed)
    options = DeltaPdfOptions(friedel="measured", oversampling=1.3 if even else 1.0)
    pdf = compute_delta_pdf(diffuse_map, options)
    index, *points = sample(pdf, rng, 30)
    largest = np.abs(pdf.values).max()
    expected = direct_sum(diffuse_map, *points)
    assert_allclose(pdf.values[index], expected, atol=RTOL_ROUNDING * largest)


def test_pairs_of_gaussian_atoms_are_differences_of_gaussians():
    # Atoms that are Gaussians of variance s²: exact in both spaces, repeated with the box.
    rng = np.random.default_rng(11)
    v = random_covariance(rng, 4, 0.3)
    positions = rng.uniform(-3, 3, (4, 3))
    cell, sampling, spread = (9.0, 10.0, 11.0, 84.0, 97.0, 101.0), (2, 1, 2), 0.35
    grid = HklGrid.from_resolution(cell, 0.78, sampling)
    q = q_of(grid.hkl(), cell).reshape(-1, 3)
    f = np.exp(-0.5 * spread * np.einsum("qx,qx->q", q, q))[:, None] * np.ones(4)
    wide = grid.within().ravel()
    intensity = np.full(grid.size, np.nan)
    intensity[wide] = diffuse_sum(q[wide], positions, f[wide], v)
    pdf = compute_delta_pdf(DiffuseMap(grid, intensity.reshape(grid.shape)))
    index, x, y, z = sample(pdf, rng, 400, near=0.3)
    vectors = cell_vectors(cell)
    r = np.stack([x, y, z], -1) @ vectors
    assert_allclose(pdf.separations()[index], r, rtol=0, atol=1e-12)
    box = vectors * np.array(sampling)[:, None]
    expected = pairs_of_gaussians(r, positions, v, 2 * spread * np.eye(3), box)
    largest = np.abs(pdf.values).max()
    assert np.abs(expected).max() > 0.05 * largest
    assert_allclose(pdf.values[index], expected, atol=GAUSSIAN_ERROR * largest)


def test_a_simulated_map_of_carbons_is_a_sum_of_gaussians():
    # The form factors' own Gaussians, blurred by an apodisation of known width.
    rng = np.random.default_rng(5)
    structure = random_structure(rng, 3, (8.0, 9.0, 8.5, 85.0, 96.0, 100.0), spread=1.5)
    structure = type(structure)(
        **{**vars(structure), "elements": np.array(["C"] * 3), "occupancies": np.ones(3)}
    )
    v = random_covariance(rng, 3, 0.15)
    sampling, width = (2, 2, 1), 0.66
    grid = HklGrid.from_resolution(structure.cell, 0.72, sampling)
    diffuse_map = simulate(structure, Covariance(v), grid, rtol=1e-7)
    options = DeltaPdfOptions(apodisation="gaussian", apodisation_width=width)
    pdf = compute_delta_pdf(diffuse_map, options)
    index, x, y, z = sample(pdf, rng, 60, near=0.3)
    vectors = cell_vectors(structure.cell)
    r, box = np.stack([x, y, z], -1) @ vectors, vectors * np.array(sampling)[:, None]
    table = gemmi.Element("C").it92
    terms = [*zip(table.a, table.b, strict=True), (table.c, 0.0)]
    expected = np.zeros(60)
    for a_1, b_1 in terms:
        for a_2, b_2 in terms:
            # exp(−b (q/4π)²) is a Gaussian of variance b/8π² in real space.
            extra = (b_1 + b_2) / (8 * np.pi**2) + width**2
            weight = a_1 * a_2
            expected += weight * pairs_of_gaussians(
                r, structure.positions, v, extra * np.eye(3), box
            )
    largest = np.abs(pdf.values).max()
    assert_allclose(pdf.values[index], expected, atol=SIMULATE_ERROR * largest)


# --- 3 exact limits ------------------------------------------------------


def test_sum_rules_and_parseval():
    diffuse_map = friedel_symmetric(make_map((-5, -4, -6), (11, 9, 13), (2, 1, 3)))
    volume = np.prod(diffuse_map.grid.sampling) * diffuse_map.cell.volume
    for oversampling in (1.0, 1.6):
        pdf = compute_delta_pdf(diffuse_map, DeltaPdfOptions(oversampling=oversampling))
        voxel = volume / pdf.values.size
        intensity = diffuse_map.intensity
        assert_allclose(pdf.values.sum() * voxel, intensity[5, 4, 6], rtol=1e-9)
        origin = pdf.values[
            np.flatnonzero(pdf.x == 0)[0],
            np.flatnonzero(pdf.y == 0)[0],
            np.flatnonzero(pdf.z == 0)[0],
        ]
        assert_allclose(origin, intensity.sum() / volume, rtol=1e-12)
        assert_allclose((pdf.values**2).sum() * voxel, (intensity**2).sum() / volume, rtol=1e-10)


def test_half_a_map_is_the_whole_map():
    whole = friedel_symmetric(make_map((-3, -4, -5), (7, 9, 11)))
    half = DiffuseMap(HklGrid(whole.cell, whole.grid.h, whole.grid.k, np.arange(6)),
                      whole.intensity[:, :, 5:])  # fmt: skip
    expected = compute_delta_pdf(whole)
    found = compute_delta_pdf(half)
    assert_allclose(found.values, expected.values, rtol=0, atol=1e-12 * expected.values.max())
    assert found.provenance[-1]["n_from_friedel_mates"] == 7 * 9 * 5
    # Left as it is, everything but the layer l = 0 counts once instead of twice.
    raw = compute_delta_pdf(half, DeltaPdfOptions(friedel="measured"))
    assert_allclose(raw.values.max(), direct_sum(half, 0, 0, 0), rtol=1e-12)


def test_unequal_friedel_mates_become_their_mean():
    diffuse_map = make_map((-2, -2, -2), (5, 5, 5))
    expected = compute_delta_pdf(friedel_symmetric(diffuse_map)).values
    found = compute_delta_pdf(diffuse_map).values
    assert_allclose(found, expected, rtol=0, atol=1e-12 * expected.max())


def test_limits_leave_out_what_is_beyond_them():
    diffuse_map = make_map((-5, -6, -8), (11, 13, 17))
    inv_d = diffuse_map.grid.inv_d()
    inside = (inv_d <= 1 / 2.3) & (inv_d >= 1 / 5.0)
    cut = DiffuseMap(diffuse_map.grid, np.where(inside, diffuse_map.intensity, 0.0))
    expected = compute_delta_pdf(cut).values
    for holes in ("zero", "mean", "neighbours"):
        options = DeltaPdfOptions(d_min=2.3, d_max=5.0, holes=holes)
        found = compute_delta_pdf(diffuse_map, options)
        assert_allclose(found.values, expected, rtol=0, atol=1e-12 * expected.max())
        assert found.provenance[-1]["n_measured"] == inside.sum()


def test_an_isotropic_map_has_no_structure_left():
    grid = HklGrid.from_resolution(TRICLINIC, 2.5, (1, 2, 1))
    shell = np.floor(grid.inv_d() / 0.01 + 1e-9)
    intensity = np.where(grid.within(), 100 * np.exp(-shell / 10), np.nan)
    intensity[3:5, 6, 4] = np.nan
    for holes in ("zero", "mean"):
        options = DeltaPdfOptions(subtract_mean=True, holes=holes, friedel="measured")
        pdf = compute_delta_pdf(DiffuseMap(grid, intensity), options)
        assert np.abs(pdf.values).max() < 1e-12 * intensity[np.isfinite(intensity)].max()


def test_a_linear_intensity_is_given_back_in_bragg_holes():
    # Straight lines between measured neighbours are exact for I = a + b·h, and so for its |h|.
    grid = HklGrid(TRICLINIC, *[np.arange(-8, 9) / 3] * 3, (3, 3, 3))
    h, k, l = np.moveaxis(grid.hkl(), -1, 0)  # noqa: E741
    intensity = 50 + 3 * h - 2 * k + l
    holed = np.where(grid.is_node(), np.nan, intensity)
    options = DeltaPdfOptions(holes="neighbours", friedel="measured")
    found = compute_delta_pdf(DiffuseMap(grid, holed), options)
    expected = compute_delta_pdf(DiffuseMap(grid, intensity), DeltaPdfOptions())
    assert_allclose(found.values, expected.values, rtol=0, atol=1e-12 * expected.values.max())
    assert found.provenance[-1]["n_filled"] == grid.is_node().sum()
    assert found.provenance[-1]["n_missing"] == 0


@pytest.mark.parametrize(
    ("sampling", "hole", "filled"),
    [(4, 2, True), (4, 3, True), (4, 4, False), (3, 2, True), (3, 3, False), (1, 1, True)],
)
def test_holes_as_wide_as_a_cell_of_the_lattice_are_left(sampling, hole, filled):
    # A cube of so many voxels, not about its middle: its voxels are nearer to one side.
    grid = HklGrid(TRICLINIC, *[np.arange(-6, 7) / sampling] * 3, (sampling,) * 3)
    h, k, l = np.moveaxis(grid.hkl(), -1, 0)  # noqa: E741
    intensity = 50 + 3 * h - 2 * k + l
    holed = intensity.copy()
    holed[2 : 2 + hole, 4 : 4 + hole, 7 : 7 + hole] = np.nan
    options = DeltaPdfOptions(holes="neighbours", friedel="measured")
    found = compute_delta_pdf(DiffuseMap(grid, holed), options)
    assert found.provenance[-1]["n_filled"] == (hole**3 if filled else 0)
    expected = compute_delta_pdf(DiffuseMap(grid, intensity)).values
    difference = np.abs(found.values - expected).max() / expected.max()
    assert difference < 1e-12 if filled else difference > 1e-3


def test_neighbours_do_not_grow_into_what_was_never_measured():
    grid = HklGrid(TRICLINIC, *[np.arange(-9, 10) / 3] * 3, (3, 3, 3))
    intensity = np.where(grid.inv_d() < 0.2, 10.0, np.nan)
    intensity[:, 9:, :] = np.nan  # half the sphere, and with mates not filled it stays so
    options = DeltaPdfOptions(holes="neighbours", friedel="measured")
    record = compute_delta_pdf(DiffuseMap(grid, intensity), options).provenance[-1]
    assert record["n_filled"] <= 4  # concave corners of the stepped edge at most


def test_filled_holes_are_nearer_to_the_whole_map():
    structure = random_structure(np.random.default_rng(2), 5, TRICLINIC)
    model = Covariance(random_covariance(np.random.default_rng(3), 5, 0.2, 2))
    whole = simulate(structure, model, HklGrid.from_resolution(TRICLINIC, 2.0, (3, 3, 3)))
    holed = DiffuseMap(whole.grid, np.where(whole.grid.is_node(), np.nan, whole.intensity))
    expected = compute_delta_pdf(whole).values
    errors = {
        holes: np.sqrt(np.mean((compute_delta_pdf(holed, DeltaPdfOptions(holes=holes)).values
                                - expected) ** 2))
        for holes in ("zero", "mean", "neighbours")
    }  # fmt: skip
    assert errors["neighbours"] < 0.5 * errors["mean"] < 0.5 * errors["zero"]


def test_windows():
    diffuse_map = friedel_symmetric(make_map((-5, -6, -8), (11, 13, 17), d_min=2.0))
    inv_d = diffuse_map.grid.inv_d()
    cut = np.where(diffuse_map.grid.within(), diffuse_map.intensity, 0.0)
    last = inv_d[diffuse_map.grid.within()].max()
    for options, window in (
        (
            DeltaPdfOptions(apodisation="gaussian", apodisation_width=0.4),
            np.exp(-0.5 * (2 * np.pi * inv_d * 0.4) ** 2),
        ),
        (
            DeltaPdfOptions(apodisation="hann"),
            np.where(inv_d < last, np.cos(np.pi * inv_d / last / 2) ** 2, 0),
        ),
        (
            DeltaPdfOptions(apodisation="hann", d_min=3.0),
            np.where(inv_d < 1 / 3, np.cos(np.pi * inv_d * 3 / 2) ** 2, 0),
        ),
    ):
        expected = compute_delta_pdf(DiffuseMap(diffuse_map.grid, cut * window)).values
        found = compute_delta_pdf(diffuse_map, options).values
        assert_allclose(found, expected, rtol=0, atol=1e-12 * expected.max())


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=20)
@given(seed=st.integers(0, 999), friedel=st.sampled_from(["fill", "measured"]))
def test_linear_real_and_centrosymmetric(seed, friedel):
    rng = np.random.default_rng(seed)
    first, shape = rng.integers(-4, 2, 3), rng.integers(2, 7, 3)
    one, two = make_map(first, shape, seed=seed), make_map(first, shape, seed=seed + 1000)
    options = DeltaPdfOptions(friedel=friedel, oversampling=1.4)
    both = DiffuseMap(one.grid, 2 * one.intensity + two.intensity)
    p_1, p_2 = (compute_delta_pdf(m, options) for m in (one, two))
    found = compute_delta_pdf(both, options)
    largest = np.abs(found.values).max()
    assert_allclose(found.values, 2 * p_1.values + p_2.values, atol=1e-12 * largest)
    assert found.values.dtype == np.float64
    # r and −r, but for the first plane of an even axis, which is its own mate.
    skip = tuple(slice(1 - n % 2, None) for n in found.values.shape)
    inner = found.values[skip]
    assert_allclose(inner, inner[::-1, ::-1, ::-1], atol=1e-12 * largest)


def test_extent_and_oversampling_give_the_same_function():
    diffuse_map = make_map((-4, -4, -4), (9, 9, 9), (2, 2, 2))
    whole = compute_delta_pdf(diffuse_map, DeltaPdfOptions(oversampling=2.0))
    part = compute_delta_pdf(diffuse_map, DeltaPdfOptions(oversampling=2.0, extent=(0.5, 1.0, 0.3)))
    assert np.abs(part.x).max() <= 0.5
    assert np.abs(part.y).max() <= 1.0
    assert np.abs(part.z).max() <= 0.3
    kept = [np.isin(a, b) for a, b in ((whole.x, part.x), (whole.y, part.y), (whole.z, part.z))]
    assert_array_equal(whole.values[np.ix_(*kept)], part.values)
    assert len(part.x) == np.sum(np.abs(whole.x) <= 0.5)
    assert len(compute_delta_pdf(diffuse_map, DeltaPdfOptions(extent=0.01)).x) == 1


def test_bragg_intensity_gives_the_patterson_function_of_every_cell():
    # Intensity on nodes only: the function repeats with the cell inside the box.
    structure = random_structure(np.random.default_rng(2), 4, TRICLINIC)
    grid = HklGrid.from_resolution(TRICLINIC, 2.0, (2, 1, 1))
    model = Covariance(0.1 * np.eye(4))
    pdf = compute_delta_pdf(simulate(structure, model, grid, part="bragg"),
                            DeltaPdfOptions(oversampling=1.0))  # fmt: skip
    rng = np.random.default_rng(4)
    index, x, y, z = sample(pdf, rng, 20)
    shifted = direct_sum(simulate(structure, model, grid, part="bragg"), x + 1, y, z)
    assert_allclose(pdf.values[index], shifted, atol=1e-10 * pdf.values.max())


def test_inputs_are_not_changed():
    diffuse_map = make_map((-2, -2, -2), (5, 5, 5))
    diffuse_map.intensity[1, 1, 1] = np.nan
    before = diffuse_map.intensity.copy()
    compute_delta_pdf(diffuse_map, DeltaPdfOptions(holes="neighbours", subtract_mean=True))
    assert_array_equal(diffuse_map.intensity, before)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"holes": "fill"}, "holes must be one of zero mean neighbours, got 'fill'"),
        ({"friedel": "yes"}, "friedel must be one of fill measured, got 'yes'"),
        ({"apodisation": "box"}, "apodisation must be one of none gaussian hann, got 'box'"),
        ({"apodisation": "gaussian"}, "apodisation_width must be > 0 Å for a Gaussian, got None"),
        ({"apodisation_width": 1.0}, "apodisation_width is for apodisation='gaussian', got 1.0"),
        ({"oversampling": 0.5}, "oversampling must be from 1 to 100, got 0.5"),
        ({"extent": 0.0}, "extent must be > 0 cells, one or three, got 0.0"),
        ({"extent": (1.0, 2.0)}, "extent must be > 0 cells, one or three"),
    ],
)
def test_a_wrong_option_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        DeltaPdfOptions(**arguments)


def test_a_map_must_have_a_voxel_within_the_limits():
    diffuse_map = make_map((-2, -2, -2), (5, 5, 5))
    with pytest.raises(InputError, match="must have a measured voxel within d_min and d_max"):
        compute_delta_pdf(diffuse_map, DeltaPdfOptions(d_min=50.0, d_max=60.0))
    with pytest.raises(InputError, match="d_min must be > 0 Å, got -1"):
        compute_delta_pdf(diffuse_map, DeltaPdfOptions(d_min=-1.0))


def test_values_must_fit_their_axes():
    with pytest.raises(InputError, match=r"values must have shape \(1, 1, 2\), got \(1, 1, 1\)"):
        DeltaPdf(np.zeros((1, 1, 1)), np.zeros(1), np.zeros(1), np.zeros(2), TRICLINIC)
