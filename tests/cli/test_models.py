"""Disorder models from options: each model's own, nothing of another's."""

from dataclasses import fields, is_dataclass

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from offbragg import (
    Covariance,
    ElasticNetwork,
    Ensemble,
    FormatError,
    InputError,
    LatticeVibrations,
    LiquidLike,
    MissingFileError,
    RigidBodies,
    RigidBody,
    Uncorrelated,
    read_ensemble,
    read_structure,
    read_tls_groups,
)
from offbragg.cli.arrays import read_numbers
from offbragg.cli.model_options import EnsembleOptions, ModelOptions
from offbragg.cli.models import load_model, options_of
from offbragg.cli.structures import StructureOptions
from offbragg.disorder import SumOfModels, bodies_of

ROUNDING = 1e-12  # Å², the same sums in the same order
NETWORK = {"cutoff", "kind", "distance_edges", "spring_constants", "power", "scale"}


@pytest.fixture
def loaded(motions):
    """Structure and model of options, on s.pdb."""

    def load(*names, file="s.pdb", select=None, adps="model", for_fit=False, **options):
        options = {n: motions / v if str(v).endswith(("pdb", "npy")) else v
                   for n, v in options.items()}  # fmt: skip
        return load_model(
            motions / file, StructureOptions(select), ModelOptions(model=names, **options),
            adps=adps, for_fit=for_fit,
        )  # fmt: skip

    return load


@pytest.fixture
def model_of(loaded):
    return lambda *names, **options: loaded(*names, **options)[1]


def assert_same(found, expected):
    """Same class, same fields, arrays by value."""
    assert type(found) is type(expected)
    assert is_dataclass(found)
    for f in fields(expected):
        one, other = getattr(found, f.name), getattr(expected, f.name)
        if isinstance(other, tuple) and len(other) and isinstance(other[0], np.ndarray):
            assert len(one) == len(other), f.name
            for a, b in zip(one, other, strict=True):
                assert_array_equal(a, b, err_msg=f.name)
        else:
            assert_array_equal(one, other, err_msg=f.name)


# --- 1 reference numbers -------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("uncorrelated", set()),
        ("rigid-body", {"translation", "libration", "screw", "origin", "bodies"}),
        ("tls", {"tls_file", "tls_adps"}),
        ("liquid-like", {"rms_displacement", "correlation_length", "kernel", "coherence", "order",
                         "cutoff", "form"}),
        ("elastic-network", NETWORK | {"nodes", "n_modes", "coherence"}),
        ("lattice-vibrations", NETWORK | {"n_cells", "level", "internal_spring_constants", "order",
                                          "reach"}),
        ("covariance", {"covariance", "covariance_factor", "basis", "n_modes", "bodies"}),
        ("ensemble", {"ensemble", "topology", "stride", "weights", "superpose", "damped",
                      "approximation"}),
    ],
)  # fmt: skip
def test_each_model_takes_these_options(name, expected):
    assert options_of(name) == expected


def test_no_option_is_of_no_model():
    every = set().union(*(options_of(name) for name in (
        "uncorrelated", "rigid-body", "tls", "liquid-like", "elastic-network",
        "lattice-vibrations", "covariance", "ensemble",
    )))  # fmt: skip
    assert {f.name for f in fields(ModelOptions)} == every | {"model"}
    assert {f.name for f in fields(EnsembleOptions)} < every


def test_a_liquid_like_model(model_of):
    assert model_of(
        "liquid-like", rms_displacement=(0.3,), correlation_length=5.0
    ) == LiquidLike(0.3, 5.0)  # fmt: skip
    assert model_of(
        "liquid-like", rms_displacement=(0.0,), correlation_length=5.0, kernel="gaussian",
        coherence="crystal", order="2", cutoff=9.0, form="convolution",
    ) == LiquidLike(0.0, 5.0, "gaussian", "crystal", 2, 9.0, "convolution")  # fmt: skip
    assert model_of(
        "liquid-like", rms_displacement=(0.1, 0.2, 0.3), correlation_length=5.0, order="exact"
    ) == LiquidLike((0.1, 0.2, 0.3), 5.0)


def test_an_uncorrelated_model(model_of):
    assert model_of("uncorrelated") == Uncorrelated()


def test_a_rigid_body_by_one_number_or_six(model_of):
    one = model_of("rigid-body", translation=(0.2,))
    assert_same(one, RigidBody(0.2))
    six = model_of("rigid-body", translation=(0.1, 0.2, 0.3, 0.01, -0.02, 0.03))
    expected = [[0.1, 0.01, -0.02], [0.01, 0.2, 0.03], [-0.02, 0.03, 0.3]]
    assert_array_equal(six.translation, expected)


def test_a_rigid_body_that_turns(model_of):
    found = model_of(
        "rigid-body", translation=(0.2,), libration=(1e-3, 2e-3, 3e-3, 1e-4, 2e-4, 3e-4),
        screw=tuple(1e-3 * np.arange(9)), origin=(1.0, 2.0, 3.0),
    )  # fmt: skip
    libration = [[1e-3, 1e-4, 2e-4], [1e-4, 2e-3, 3e-4], [2e-4, 3e-4, 3e-3]]
    screw = [[0, 1e-3, 2e-3], [3e-3, 4e-3, 5e-3], [6e-3, 7e-3, 8e-3]]
    assert_same(found, RigidBody(0.2, libration, screw, (1.0, 2.0, 3.0)))
    # A body that only turns has no translation.
    assert_same(model_of("rigid-body", libration=(1e-3,)), RigidBody(0.0, 1e-3 * np.eye(3)))


def test_bodies_by_name_and_by_selection(model_of, motions):
    structure = read_structure(motions / "s.pdb")
    for given, by in (
        (("chain",), "chain"),
        (("molecule",), "molecule"),
        (("resid 1", "resid 2 and name CA"), ["resid 1", "resid 2 and name CA"]),
        (("chain A",), ["chain A"]),
    ):
        found = model_of("rigid-body", translation=(0.1,), bodies=given)
        assert_same(found, RigidBody(0.1, bodies=bodies_of(structure, by)))


def test_elastic_networks(model_of):
    assert_same(model_of("elastic-network"), ElasticNetwork())
    found = model_of(
        "elastic-network", kind="gnm", cutoff=9.0, nodes="calpha", distance_edges=(5.0, 9.0),
        spring_constants=(2.0, 1.0), power=2.0, scale="per-atom", n_modes=3, coherence="cell",
    )  # fmt: skip
    expected = ElasticNetwork("gnm", 9.0, "calpha", (5.0, 9.0), (2.0, 1.0), 2.0, "per-atom", 3,
                              "cell")  # fmt: skip
    assert_same(found, expected)


def test_lattice_vibrations(model_of):
    assert_same(model_of("lattice-vibrations", n_cells=(2, 3, 4)), LatticeVibrations((2, 3, 4)))
    found = model_of(
        "lattice-vibrations", n_cells=(2, 2, 2), level="atomic", kind="gnm",
        distance_edges=(4.0, 6.0), spring_constants=(2.0, 1.0), power=1.0, scale="absolute",
        internal_spring_constants=(9.0, 8.0), order="1", reach=12.0,
    )  # fmt: skip
    expected = LatticeVibrations(
        (2, 2, 2), "atomic", "gnm", None, (4.0, 6.0), (2.0, 1.0), (9.0, 8.0), 1.0, "absolute", 1,
        12.0,
    )  # fmt: skip
    assert_same(found, expected)


def test_tls_groups_of_the_structure_and_of_another_file(model_of, motions):
    structure = read_structure(motions / "s.pdb")
    expected = RigidBodies.from_tls(read_tls_groups(motions / "tls.pdb", structure), structure)
    assert_same(model_of("tls", file="tls.pdb"), expected)
    assert_same(model_of("tls", tls_file="tls.pdb"), expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_numbers_from_a_file(tmp_path, dtype):
    matrix = np.array([[2, 1], [1, 3]], dtype=dtype)
    np.save(tmp_path / "v.npy", matrix)
    found = read_numbers("--covariance", tmp_path / "v.npy")
    assert_array_equal(found, matrix)
    assert found.dtype == np.float64


def test_a_covariance_by_its_matrix_or_factor(loaded, motions):
    structure, full = loaded("covariance", covariance="matrix.npy")
    assert_same(full, Covariance(np.load(motions / "matrix.npy")))
    _, factor = loaded("covariance", covariance_factor="factor.npy")
    assert_same(factor, Covariance(factor=np.load(motions / "factor.npy")))
    one, other = (m.displacements(structure).dense(24) for m in (full, factor))
    assert_allclose(one, other, atol=ROUNDING)


def test_an_ensemble_beside_the_structure(loaded, motions):
    _, frames = read_ensemble(motions / "frames.pdb")
    structure, found = loaded("ensemble", ensemble="frames.pdb")
    assert_same(found, Ensemble(frames))
    assert_allclose(structure.positions, frames.mean(axis=0), atol=1e-12)
    _, found = loaded(
        "ensemble", ensemble="frames.pdb", weights="weights.npy", superpose=True, damped=True,
        approximation="gaussian",
    )  # fmt: skip
    assert_same(found, Ensemble(frames, np.arange(1.0, 9.0), "gaussian", True, True))
    _, found = loaded("ensemble", ensemble="frames.pdb", stride=3, select="name CA")
    chosen = read_structure(motions / "s.pdb").names == "CA"
    assert_same(found, Ensemble(frames[::3][:, chosen]))


def test_the_models_of_the_structure_itself_are_an_ensemble(loaded, motions, caplog):
    given, frames = read_ensemble(motions / "frames.pdb")
    structure, found = loaded("ensemble", file="frames.pdb", stride=2)
    assert_same(found, Ensemble(frames[::2]))
    assert structure.cell == given.cell
    assert "the first is used" not in caplog.text


@pytest.mark.parametrize("own", [True, False])
def test_a_trajectory_takes_the_structure_for_its_topology(loaded, motions, tmp_path, own):
    mdtraj = pytest.importorskip("mdtraj")
    _, frames = read_ensemble(motions / "frames.pdb")
    with mdtraj.formats.XTCTrajectoryFile(str(tmp_path / "x.xtc"), "w") as file:
        file.write((frames / 10).astype(np.float32))
    topology = {} if own else {"topology": motions / "s.pdb"}
    _, found = loaded("ensemble", ensemble=tmp_path / "x.xtc", **topology)
    assert_allclose(found.frames, frames, atol=0.006)  # xtc keeps 0.001 nm


# --- 3 exact limits ------------------------------------------------------


def test_a_fit_has_a_start_of_its_own_where_none_is_given(model_of):
    assert model_of("liquid-like", for_fit=True) == LiquidLike(0.4, 8.0)
    assert model_of("liquid-like", for_fit=True, rms_displacement=(0.2,)) == LiquidLike(0.2, 8.0)
    # A number that is given is taken, right or wrong.
    zero = model_of("liquid-like", for_fit=True, rms_displacement=(0.0,))
    assert zero.rms_displacement == 0.0


def test_adps_that_leave_tls_out_are_filled_up(loaded, motions):
    groups = read_tls_groups(motions / "residual.pdb", read_structure(motions / "residual.pdb"))
    for file, options, is_residual in (
        ("residual.pdb", {}, True),
        ("residual.pdb", {"tls_adps": "auto"}, True),
        ("residual.pdb", {"tls_adps": "total"}, False),
        ("tls.pdb", {}, False),
        ("tls.pdb", {"tls_adps": "residual"}, True),
    ):
        as_in_file = read_structure(motions / file)
        structure, model = loaded("tls", file=file, adps="file", **options)
        own = groups[0].u_aniso(as_in_file.positions)
        expected = as_in_file.u_aniso + is_residual * own
        assert_allclose(structure.u_aniso, expected, atol=1e-6)  # float32 B in the file
        assert model.n_bodies == 1
    # Without the file's ADPs nothing is changed.
    structure, _ = loaded("tls", file="residual.pdb")
    assert_array_equal(structure.u_aniso, read_structure(motions / "residual.pdb").u_aniso)


# --- 4 invariances -------------------------------------------------------


def test_a_sum_of_models(loaded):
    options = {
        "translation": (0.1,), "rms_displacement": (0.2,), "correlation_length": 4.0,
        "coherence": "asu",
    }  # fmt: skip
    names = ("rigid-body", "liquid-like", "elastic-network")
    structure, found = loaded(*names, **options)
    assert isinstance(found, SumOfModels)
    assert [type(m) for m in found.models] == [RigidBody, LiquidLike, ElasticNetwork]
    expected = RigidBody(0.1) + LiquidLike(0.2, 4.0) + ElasticNetwork()
    _, turned = loaded(*names[::-1], **options)
    dense = [m.displacements(structure).dense(24) for m in (found, turned, expected)]
    assert_allclose(dense[0], dense[2], atol=ROUNDING)
    assert_allclose(dense[1], dense[2], atol=ROUNDING)


def test_an_option_goes_to_every_model_that_knows_it(model_of):
    found = model_of(
        "liquid-like", "elastic-network", rms_displacement=(0.2,), correlation_length=4.0,
        cutoff=9.0,
    )  # fmt: skip
    assert [m.cutoff for m in found.models] == [9.0, 9.0]


@pytest.mark.parametrize("names", [("ensemble", "liquid-like"), ("liquid-like", "ensemble")])
def test_a_sum_with_an_ensemble_is_about_the_mean_of_its_frames(loaded, names):
    structure, found = loaded(
        *names, ensemble="frames.pdb", approximation="gaussian", rms_displacement=(0.1,),
        correlation_length=4.0,
    )  # fmt: skip
    ensemble = next(m for m in found.models if isinstance(m, Ensemble))
    assert_allclose(found.coherent_unit(structure).positions, ensemble.mean, atol=1e-12)


# --- 5 errors ------------------------------------------------------------

LIQUID = {"rms_displacement": (0.3,), "correlation_length": 5.0}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("liquid-like", {}, "needs --rms-displacement and --correlation-length"),
        ("liquid-like", {"rms_displacement": (0.3,)}, "needs --rms-displacement and"),
        ("liquid-like", {"translation": (0.1,)}, "--translation belongs to --model rigid-body"),
        ("liquid-like", {**LIQUID, "rms_displacement": (0.1, 0.2)}, "one number or three .* got 2"),
        ("rigid-body", {}, "--model rigid-body needs --translation or --libration"),
        ("rigid-body", {"translation": ()}, r"one number or six \(xx yy zz xy xz yz\), got 0"),
        ("rigid-body", {"translation": (0.1, 0.2)}, "--translation must be one number or six"),
        ("rigid-body", {"libration": (0.1, 0.2)}, "--libration must be one number or six"),
        ("rigid-body", {"translation": (-0.1,)}, "translation must be positive semi-definite"),
        ("rigid-body", {"translation": (np.nan,)}, "translation"),
        ("rigid-body", {"translation": (0.1,), "screw": (1.0,)}, "--screw must be nine numbers"),
        ("rigid-body", {"translation": (0.1,), "bodies": ("chain B",)}, "'chain B' names none"),
        ("rigid-body", {"translation": (0.1,), "bodies": ("chain", "chain A")}, "after 'chain'"),
        ("rigid-body", {"translation": (0.1,), "bodies": ("all", "name CA")}, "not share atoms"),
        ("rigid-body", {"rms_displacement": (0.3,)}, "--rms-displacement belongs to --model liqui"),
        ("uncorrelated", {"correlation_length": 3.0}, "--correlation-length belongs to --model li"),
        ("uncorrelated", {"kernel": "gaussian"}, "--kernel belongs to --model liquid-like, got un"),
        ("uncorrelated", {"superpose": False}, "--superpose belongs to --model ensemble, got unco"),
        ("uncorrelated", {"cutoff": 3.0}, "--cutoff belongs to --model liquid-like or elastic-net"),
        ("elastic-network", {"coherence": "crystal"}, "coherence must be one of asu cell, got"),
        ("elastic-network", {"n_cells": (2, 2, 2)}, "--n-cells belongs to --model lattice-vibr"),
        ("elastic-network", {"spring_constants": (1.0, 2.0)}, "one number for each of 1 classes"),
        ("lattice-vibrations", {}, "--model lattice-vibrations needs --n-cells"),
        ("lattice-vibrations", {"n_cells": (0, 1, 1)}, "n_cells must be three whole numbers >= 1"),
        ("lattice-vibrations", {"n_cells": (1, 1, 1), "order": "2"}, "order must be 'exact' or 1"),
        ("lattice-vibrations", {"n_cells": (1, 1, 1), "scale": "per-atom"}, "one of overall abso"),
        ("covariance", {}, "needs one of --covariance FILE.npy"),
        ("covariance", {"covariance": "matrix.npy", "covariance_factor": "factor.npy"}, "needs"),
        ("covariance", {"basis": "springs"}, "--basis must be one of modes tls fields or a .npy"),
        ("covariance", {"basis": "fields", "n_modes": 3}, "--n-modes belongs to --basis modes, go"),
        ("covariance", {"covariance": "matrix.npy", "bodies": ("all",)}, "belongs to --basis tls"),
        ("covariance", {"order": "1"}, "--order belongs to --model liquid-like or lattice-vibrati"),
        ("tls", {}, "s.pdb: no TLS groups of these atoms .*give a file that has them with --tls-f"),
        ("tls", {"tls_file": "frames.pdb"}, "frames.pdb: no TLS groups"),
        ("tls", {"tls_adps": "total"}, "--tls-adps needs --adps file, got model"),
        ("ensemble", {}, "s.pdb: expected at least 2 models or frames, found 1"),
        ("ensemble", {"topology": "s.pdb"}, "topology is for trajectories"),
        ("ensemble", {"ensemble": "short_frames.pdb"}, "frames of the 24 atoms of .*found 23"),
        ("ensemble", {"ensemble": "swapped_frames.pdb"},
         r"the atoms of .*s.pdb in their order, atom A GLY 1 N .*, found A GLY 1 CA"),
        ("ensemble", {"ensemble": "frames.pdb", "stride": 0}, "stride must be >= 1, got 0"),
        ("ensemble", {"ensemble": "frames.pdb", "weights": "factor.npy"}, "weights must be .8,."),
    ],
)  # fmt: skip
def test_a_wrong_option_is_named(model_of, name, options, message):
    with pytest.raises(InputError, match=message):
        model_of(name, **options)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ((), {}, "--model: expected names, each once, got none"),
        (("uncorrelated", "uncorrelated"), {}, "each once, got uncorrelated uncorrelated"),
        (("uncorrelated", "liquid-like"), {**LIQUID, "order": "2"}, "a sum needs models with a co"),
        (("uncorrelated", "ensemble"), {"ensemble": "frames.pdb"}, "a sum needs models with a co"),
        (("uncorrelated", "liquid-like"), {}, "needs --rms-displacement and"),
        (("uncorrelated", "tls"), {"n_modes": 3}, "or covariance, got uncorrelated and tls"),
    ],
)
def test_a_wrong_sum_is_named(model_of, names, options, message):
    with pytest.raises(InputError, match=message):
        model_of(*names, **options)


def test_other_names_of_the_same_atoms_are_said(loaded, motions, tmp_path, caplog):
    text = (motions / "frames.pdb").read_text().replace(" CB ", " C1 ")
    (tmp_path / "renamed.pdb").write_text(text)
    loaded("ensemble", ensemble=tmp_path / "renamed.pdb")
    assert "names of 3 atoms are not those of" in caplog.text


@pytest.mark.parametrize("order", ["0", "-1", "x", "1.5", ""])
def test_a_wrong_order_is_named(model_of, order):
    options = {**LIQUID, "order": order}
    if order == "":
        # Nothing is what was not given.
        assert model_of("liquid-like", **options).order == "exact"
        return
    with pytest.raises(InputError, match=r"order must be .*exact.* or a whole number"):
        model_of("liquid-like", **options)


@pytest.mark.parametrize(
    ("rms_displacement", "correlation_length"),
    [(-0.3, 5.0), (np.nan, 5.0), (np.inf, 5.0), (0.3, 0.0), (0.3, -5.0), (0.3, np.nan)],
)
@pytest.mark.parametrize("for_fit", [True, False])
def test_numbers_out_of_range_are_named(model_of, rms_displacement, correlation_length, for_fit):
    with pytest.raises(InputError, match="must be a positive number of Å, got"):
        model_of(
            "liquid-like", for_fit=for_fit,
            rms_displacement=(rms_displacement,), correlation_length=correlation_length,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array(["a", "b"]), "expected a .npy file of real numbers, found <U1"),
        (np.eye(2) * 1j, "expected a .npy file of real numbers, found complex128"),
        (np.eye(2) > 0, "expected a .npy file of real numbers, found bool"),
        (np.array([{}], dtype=object), "Object arrays cannot be loaded"),
        (-np.eye(2), "positive semi-definite"),
        (np.array([[1.0, 2.0], [0.0, 1.0]]), "symmetric"),
        (np.full((2, 2), np.nan), "finite"),
        (np.ones(4), "covariance must"),
    ],
)
def test_a_file_without_a_covariance_is_refused(model_of, tmp_path, array, message):
    np.save(tmp_path / "v.npy", array)
    with pytest.raises((InputError, FormatError), match=message):
        model_of("covariance", covariance=tmp_path / "v.npy")


def test_a_file_of_another_kind_is_refused(model_of, tmp_path):
    np.savez(tmp_path / "v.npz", a=np.eye(2))
    with pytest.raises(FormatError, match="of real numbers, found an archive"):
        model_of("covariance", covariance=tmp_path / "v.npz")
    for content in (b"", b"text", b"PK\3\4", b"\x93NUMPY"):
        (tmp_path / "v.npy").write_bytes(content)
        with pytest.raises(FormatError, match=r"v\.npy: not a \.npy file of real numbers"):
            model_of("covariance", covariance=tmp_path / "v.npy")
    for missing in (tmp_path / "none.npy", tmp_path):
        with pytest.raises(MissingFileError, match="no such file"):
            model_of("covariance", covariance=missing)
