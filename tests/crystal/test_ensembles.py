"""Ensembles: frames from files, superposition, moments gathered in one pass."""

import gzip
import sys
from types import GeneratorType

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation
from tests.oracles import draw_displacements, flat
from tests.strategies import random_covariance

from offbragg.crystal.ensembles import iter_frames, read_ensemble
from offbragg.crystal.frames import (
    as_frame_weights,
    as_frames,
    streamed_factor,
    streamed_moments,
    superpose,
)
from offbragg.errors import FormatError, InputError, MissingFileError

ATOL_PDB = 5.1e-4  # Å, half the last digit of a PDB file
ATOL_XTC = 5.1e-3  # Å, half of the format's 0.001 nm
RTOL_FLOAT32 = 1e-6  # trajectories hold float32
RTOL_ROUNDING = 1e-10  # the same sums in another order
ATOL_SUPERPOSED = 1e-7  # Å: the mean is found to 1e-9, rotations to rounding over some 10 Å

CRYST1 = "CRYST1   20.000   25.000   30.000  90.00 100.00  90.00 P 1 21 1      2\n"
ATOM = "ATOM  {:5d}  {:<3s} {:3s} A{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00 10.00           {:s}\n"
NAMES = [("N", "ALA", 1, "N"), ("CA", "ALA", 1, "C"), ("C", "ALA", 1, "C"), ("CA", "GLY", 2, "C")]


def made_frames(n_frames=7, n_atoms=4, seed=3):
    """Frames of a few atoms that move by some Å, at three decimals."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-6.0, 6.0, (n_atoms, 3))
    return (places + rng.normal(size=(n_frames, n_atoms, 3))).round(3)


def models_text(frames, names=NAMES, header=CRYST1):
    """A PDB file with one model a frame."""
    text = header
    for number, frame in enumerate(frames, 1):
        text += f"MODEL     {number:4d}\n"
        for serial, (xyz, (name, residue, index, element)) in enumerate(
            zip(frame, names, strict=True), 1
        ):
            text += ATOM.format(serial, name, residue, index, *xyz, element)
        text += "ENDMDL\n"
    return text + "END\n"


def written(tmp_path, text, name="models.pdb"):
    path = tmp_path / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.fixture
def trajectory(tmp_path):
    """A function that writes frames [Å] as a trajectory and gives its path and topology."""
    mdtraj = pytest.importorskip("mdtraj")

    def write(frames, suffix="xtc"):
        topology = written(tmp_path, models_text(frames[:1]), "topology.pdb")
        path = tmp_path / f"frames.{suffix}"
        mdtraj.Trajectory(frames / 10.0, mdtraj.load(str(topology)).topology).save(str(path))
        return path, topology

    return write


def random_motions(rng, n):
    return Rotation.random(n, rng=rng).as_matrix(), rng.uniform(-30.0, 30.0, (n, 1, 3))


# --- 1 reference numbers -------------------------------------------------


def test_models_become_frames_and_the_first_the_structure(tmp_path):
    frames = made_frames()
    structure, found = read_ensemble(written(tmp_path, models_text(frames)))
    assert found.dtype == np.float64
    assert_allclose(found, frames, atol=1e-9)
    assert_allclose(structure.positions, frames[0], atol=1e-9)
    assert structure.names.tolist() == ["N", "CA", "C", "CA"]
    assert structure.residue_numbers.tolist() == [1, 1, 1, 2]
    assert structure.elements.tolist() == ["N", "C", "C", "C"]
    assert structure.cell.parameters == (20.0, 25.0, 30.0, 90.0, 100.0, 90.0)
    assert structure.space_group == "P 1 21 1"


def test_moments_of_three_frames_by_hand():
    # One atom at x = 0, 1, 2 and y = 0, 0, 3: means 1, 1; variances 1, 3; covariance 3/2.
    frames = np.array([[[0.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]], [[2.0, 3.0, 0.0]]])
    moments = streamed_moments([frames])
    assert_allclose(moments.mean, [[1.0, 1.0, 0.0]], rtol=RTOL_ROUNDING)
    assert_allclose(moments.covariance[0, 0], [[1, 1.5, 0], [1.5, 3, 0], [0, 0, 0]], rtol=1e-12)
    assert moments.n_frames == 3


def test_a_quarter_turn_is_undone():
    frame = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0], [1.0, 1.0, 1.0]])
    turned = np.stack([4.0 - frame[:, 1], frame[:, 0] - 5.0, frame[:, 2] + 6.0], axis=1)
    assert_allclose(superpose([turned], frame)[0], frame, atol=1e-13)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("name", ["x.pdb.gz", "x.ent", "x.cif", "x.cif.gz"])
def test_other_spellings_of_the_same_models(tmp_path, name):
    frames = made_frames()
    text = models_text(frames)
    if ".cif" in name:  # Oracle: gemmi's writer.
        structure = gemmi.read_pdb_string(text)
        structure.setup_entities()
        text = structure.make_mmcif_document().as_string()
    structure, found = read_ensemble(written(tmp_path, text, name))
    assert_allclose(found, frames, atol=1e-9)
    assert structure.cell.a == 20.0


@pytest.mark.filterwarnings("ignore:.*netCDF4:UserWarning")
@pytest.mark.parametrize("suffix", ["xtc", "trr", "dcd", "nc"])
def test_trajectories_are_read_in_angstrom(trajectory, suffix):
    # Oracle: MDTraj's writers, in nm.
    frames = made_frames(23)
    path, topology = trajectory(frames, suffix)
    structure, found = read_ensemble(path, topology)
    assert found.shape == frames.shape
    tolerance = ATOL_XTC if suffix == "xtc" else 10 * RTOL_FLOAT32
    assert np.abs(found - frames).max() < tolerance
    assert_allclose(structure.positions, found[0], rtol=0)
    assert structure.names.tolist() == ["N", "CA", "C", "CA"]


def test_rotations_are_those_of_scipy():
    rng = np.random.default_rng(4)
    frames, reference = made_frames(20, 9), rng.uniform(-6, 6, (9, 3))
    found = superpose(frames, reference)
    for frame, moved in zip(frames, found, strict=True):
        centred, target = frame - frame.mean(axis=0), reference - reference.mean(axis=0)
        rotation, _ = Rotation.align_vectors(target, centred)
        assert_allclose(moved, rotation.apply(centred) + reference.mean(axis=0), atol=1e-7)


def test_superposition_is_gemmis():
    frames = made_frames(10, 12)
    reference = [gemmi.Position(*xyz) for xyz in frames[0]]
    for frame, moved in zip(frames, superpose(frames, frames[0]), strict=True):
        fit = gemmi.superpose_positions(reference, [gemmi.Position(*xyz) for xyz in frame])
        expected = [fit.transform.apply(gemmi.Vec3(*xyz)).tolist() for xyz in frame]
        assert_allclose(moved, expected, atol=1e-6)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    seed=st.integers(0, 9999),
    n_frames=st.integers(2, 30),
    n_atoms=st.integers(1, 5),
    cut=st.integers(1, 31),
    weighted=st.booleans(),
)
def test_streamed_moments_are_those_in_memory(seed, n_frames, n_atoms, cut, weighted):
    # Oracle: numpy.cov with analytic weights, normalised by W − Σw²/W.
    rng = np.random.default_rng(seed)
    frames = rng.normal(size=(n_frames, n_atoms, 3)) + 100.0
    weights = rng.uniform(0.1, 3.0, n_frames) if weighted else None
    chunks = (frames[i : i + cut] for i in range(0, n_frames, cut))
    found = streamed_moments(chunks, weights=weights)
    expected = np.cov(frames.reshape(n_frames, -1).T, aweights=weights)
    assert_allclose(found.mean, np.average(frames, axis=0, weights=weights), rtol=RTOL_ROUNDING)
    assert_allclose(flat(found.covariance), np.atleast_2d(expected), atol=1e-10)
    assert found.n_frames == n_frames


@pytest.mark.parametrize("weighted", [False, True])
def test_a_streamed_factor_of_full_rank_is_the_covariance(weighted):
    frames = made_frames(40, 5)
    weights = np.random.default_rng(1).uniform(0, 1, 40) if weighted else None
    chunks = [frames[:7], frames[7:9], frames[9:]]
    whole = streamed_moments(chunks, weights=weights)
    found = streamed_factor(chunks, 15, weights=weights)
    product = np.einsum("iak,jbk->ijab", found.factor, found.factor)
    assert_allclose(product, whole.covariance, atol=1e-12)
    assert_allclose(found.mean, whole.mean, rtol=RTOL_ROUNDING)
    assert found.left_out == pytest.approx(0.0, abs=1e-12)
    sizes = np.sum(found.factor**2, axis=(0, 1))
    assert np.all(np.diff(sizes) <= 0)


def test_the_largest_components_are_kept_and_the_rest_is_counted():
    # Two large motions and a small one of everything: oracle the eigenvalues.
    rng = np.random.default_rng(5)
    modes = np.linalg.qr(rng.normal(size=(24, 2)))[0]
    draws = rng.normal(size=(300, 2)) * [3.0, 2.0] @ modes.T + 0.05 * rng.normal(size=(300, 24))
    frames = draws.reshape(300, 8, 3)
    chunks = [frames[i : i + 50] for i in range(0, 300, 50)]
    whole = streamed_moments(chunks)
    found = streamed_factor(chunks, 3)
    values = np.linalg.eigvalsh(flat(whole.covariance))[::-1]
    assert found.factor.shape == (8, 3, 3)
    assert_allclose(np.sum(found.factor**2, axis=(0, 1))[:2], values[:2], rtol=1e-4)
    trace = np.trace(flat(whole.covariance))
    assert_allclose(np.sum(found.factor**2) + found.left_out, trace, rtol=RTOL_ROUNDING)
    assert found.left_out < 1.1 * values[3:].sum()


def test_the_unbiased_covariance_is_that_of_the_distribution():
    # Mean over many sets of 4 weighted frames: without 1 − Σw² it would be a third low.
    rng = np.random.default_rng(6)
    v = random_covariance(rng, 2, 0.3)
    weights = [1.0, 2.0, 0.5, 1.5]
    sets = draw_displacements(rng, v, 4 * 1500).reshape(1500, 4, 2, 3)
    found = np.mean([streamed_moments([x], weights=weights).covariance for x in sets], axis=0)
    assert_allclose(found, v, atol=0.03 * np.abs(v).max())


# --- 3 exact limits ------------------------------------------------------


def test_equal_frames_have_no_covariance():
    frames = np.tile(made_frames(1), (5, 1, 1))
    assert np.abs(streamed_moments([frames]).covariance).max() < 1e-28  # rounding, squared
    assert_allclose(superpose(frames), frames, atol=1e-12)


def test_superposed_frames_of_a_rigid_body_are_one():
    rng = np.random.default_rng(7)
    turns, shifts = random_motions(rng, 30)
    frames = made_frames(1, 6) @ turns + shifts
    found = superpose(frames)
    assert_allclose(found, np.tile(frames[0], (30, 1, 1)), atol=ATOL_SUPERPOSED)


def test_a_mirror_image_is_not_turned_inside_out():
    frame = made_frames(1, 8)[0]
    mirrored = frame * [1.0, 1.0, -1.0]
    moved = superpose([mirrored], frame)[0]
    volume = np.linalg.det(mirrored[1:4] - mirrored[0])
    assert_allclose(np.linalg.det(moved[1:4] - moved[0]), volume, rtol=1e-9)


@pytest.mark.parametrize("n_atoms", [1, 2])
def test_one_and_two_atoms_can_be_superposed(n_atoms):
    frames = made_frames(5, n_atoms)
    found = superpose(frames, frames[0])
    assert_allclose(found.mean(axis=1), np.tile(frames[0].mean(axis=0), (5, 1)), atol=1e-12)
    lengths = np.linalg.norm(frames - frames[:, :1], axis=2)
    assert_allclose(np.linalg.norm(found - found[:, :1], axis=2), lengths, atol=1e-12)


def test_the_first_frame_of_a_trajectory_is_its_pdb(trajectory):
    frames = made_frames(5)
    path, topology = trajectory(frames)
    first = next(iter_frames(path, topology))[0]
    assert_allclose(first, read_ensemble(topology)[1][0], atol=ATOL_XTC)


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=30)
@given(seed=st.integers(0, 9999), weighted=st.booleans())
def test_superposed_frames_do_not_know_how_they_lay(seed, weighted):
    rng = np.random.default_rng(seed)
    frames = rng.uniform(-8, 8, (6, 3)) + 0.7 * rng.normal(size=(9, 6, 3))
    weights = rng.uniform(0.1, 2.0, 9) if weighted else None
    turns, shifts = random_motions(rng, 9)
    turns[0], shifts[0] = np.eye(3), 0.0  # the first says where the result lies
    found = superpose(frames @ turns + shifts, weights=weights)
    assert_allclose(found, superpose(frames, weights=weights), atol=ATOL_SUPERPOSED)
    mean = np.average(found, axis=0, weights=weights)
    assert_allclose(superpose(found, mean), found, atol=ATOL_SUPERPOSED)
    assert_allclose(superpose([mean], frames[0])[0], mean, atol=ATOL_SUPERPOSED)


def test_chosen_atoms_decide_and_all_move():
    rng = np.random.default_rng(8)
    frames = np.tile(made_frames(1, 7), (6, 1, 1))
    frames[:, 4:] += rng.normal(size=(6, 3, 3))
    turns, shifts = random_motions(rng, 6)
    for atoms in ([0, 1, 2, 3], np.arange(7) < 4):
        found = superpose(frames @ turns + shifts, frames[0], atoms=atoms)
        assert_allclose(found, frames, atol=ATOL_SUPERPOSED)


@pytest.mark.parametrize(("chunk_size", "stride"), [(1, 1), (3, 1), (100, 1), (2, 3), (5, 2)])
@pytest.mark.parametrize("kind", ["models", "trajectory"])
def test_chunks_and_strides(tmp_path, trajectory, kind, chunk_size, stride):
    frames = made_frames(11)
    if kind == "models":
        source = (written(tmp_path, models_text(frames)),)
    else:
        source = trajectory(frames, "trr")
    chunks = list(iter_frames(*source, chunk_size=chunk_size, stride=stride))
    assert max(map(len, chunks)) <= chunk_size
    assert min(map(len, chunks)) >= 1
    assert_allclose(np.concatenate(chunks), frames[::stride], atol=10 * RTOL_FLOAT32)
    assert_allclose(read_ensemble(*source, stride=stride)[1], frames[::stride], atol=1e-5)


def test_a_selection_takes_atoms_of_structure_and_frames(tmp_path):
    frames = made_frames()
    path = written(tmp_path, models_text(frames))
    structure, found = read_ensemble(path, select="name CA")
    assert structure.residue_names.tolist() == ["ALA", "GLY"]
    assert_allclose(found, frames[:, [1, 3]], atol=1e-9)
    assert_allclose(structure.positions, frames[0, [1, 3]], atol=1e-9)


def test_cell_and_space_group_can_be_given(tmp_path, trajectory):
    frames = made_frames()
    path = written(tmp_path, models_text(frames, header=""))
    assert read_ensemble(path)[0].cell is None
    for source in ((path,), trajectory(frames)):
        structure, _ = read_ensemble(*source, cell=(9, 9, 12, 90, 90, 90), space_group="P 41")
        assert structure.cell.c == 12.0
        assert structure.space_group == "P 41"


def test_superposed_while_streamed_is_superposed_before():
    frames = made_frames(20)
    chunks = [frames[:9], frames[9:]]
    found = streamed_moments(chunks, superpose_on=frames[3])
    expected = streamed_moments([superpose(frames, frames[3])])
    assert_allclose(found.covariance, expected.covariance, atol=1e-12)


def test_frames_without_weight_do_not_count():
    frames = made_frames(6)
    weights = [1.0, 0.0, 0.0, 2.0, 1.5, 0.0]
    found = streamed_moments([frames[:1], frames[1:3], frames[3:]], weights=weights)
    expected = streamed_moments([frames[[0, 3, 4]]], weights=[1.0, 2.0, 1.5])
    assert_allclose(found.covariance, expected.covariance, rtol=RTOL_ROUNDING)
    assert_allclose(found.mean, expected.mean, rtol=RTOL_ROUNDING)


def test_a_trajectory_is_not_read_further_than_asked(trajectory):
    # A file cut in two: what comes before the cut is there.
    frames = made_frames(200)
    path, topology = trajectory(frames)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 5])
    chunks = iter_frames(path, topology, chunk_size=10)
    assert isinstance(chunks, GeneratorType)
    assert_allclose(next(chunks), frames[:10], atol=ATOL_XTC)
    with pytest.raises(FormatError, match=r"frames.xtc: expected a trajectory of the 4 atoms"):
        list(chunks)


def test_inputs_are_not_changed():
    frames, weights = made_frames(), np.arange(1.0, 8.0)
    before = frames.copy(), weights.copy()
    superpose(frames, weights=weights)
    superpose(frames, frames[1])
    streamed_moments([frames], frames[0], weights)
    streamed_factor([frames], 2, frames[0], weights)
    assert np.array_equal(frames, before[0])
    assert np.array_equal(weights, before[1])


# --- 5 errors ------------------------------------------------------------


def test_models_of_other_atoms_are_named(tmp_path):
    frames = made_frames(3)
    text = models_text(frames)
    other = text.replace("MODEL        3", "MODEL        9")
    head, tail = other.split("MODEL        9")
    renamed = head + "MODEL        9" + tail.replace("CA  GLY", "CB  GLY")
    with pytest.raises(
        FormatError,
        match=r"models.pdb: model 9: atom 4: expected A 2 GLY CA C as in the first model, "
        r"found A 2 GLY CB C \(4 atoms, expected 4\)",
    ):
        read_ensemble(written(tmp_path, renamed))
    lines = tail.splitlines(keepends=True)
    short = head + "MODEL        9" + "".join(lines[:4] + lines[5:])
    with pytest.raises(FormatError, match=r"model 9: atom 4: expected A 2 GLY CA C .* no atom"):
        list(iter_frames(written(tmp_path, short)))
    swapped = head + "MODEL        9" + "".join([lines[0], lines[2], lines[1], *lines[3:]])
    with pytest.raises(FormatError, match=r"model 9: atom 1: expected A 1 ALA N N .* ALA CA C"):
        list(iter_frames(written(tmp_path, swapped)))


def test_a_model_of_more_atoms_is_named(tmp_path):
    frames = made_frames(1)
    text = models_text(frames).replace("END\n", "").rstrip("\n")
    longer = models_text(made_frames(1, 5), [*NAMES, ("O", "GLY", 2, "O")], "")
    path = written(tmp_path, text + "\n" + longer.replace("MODEL        1", "MODEL        2"))
    with pytest.raises(FormatError, match=r"model 2: atom 5: expected no atom .* A 2 GLY O O"):
        read_ensemble(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.pdb", b""), ("x.pdb", b"nothing\n"), ("x.cif", b"data_x\n"), ("x.pdb.gz", b"plain")],
)
def test_files_without_atoms_are_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"x\.(pdb|cif)"):
        iter_frames(path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(MissingFileError, match=r"none.pdb: no such file"):
        iter_frames(tmp_path / "none.pdb")
    topology = written(tmp_path, models_text(made_frames(1)))
    with pytest.raises(MissingFileError, match=r"none.xtc: no such file"):
        iter_frames(tmp_path / "none.xtc", topology)
    there = written(tmp_path, b"", "empty.xtc")
    with pytest.raises(MissingFileError, match=r"none.pdb: no such file"):
        iter_frames(there, tmp_path / "none.pdb")


@pytest.mark.parametrize(("name", "content"), [("x.xtc", b"no trajectory"), ("x.foo", b"what")])
def test_what_is_no_trajectory_is_refused(tmp_path, name, content):
    pytest.importorskip("mdtraj")
    topology = written(tmp_path, models_text(made_frames(1)))
    with pytest.raises(FormatError, match=rf"{name}: expected a trajectory of the 4 atoms"):
        read_ensemble(written(tmp_path, content, name), topology)


def test_a_topology_of_other_atoms_is_refused(tmp_path, trajectory):
    path, _ = trajectory(made_frames(5))
    other = written(tmp_path, models_text(made_frames(1)[:, :3], NAMES[:3]), "three.pdb")
    with pytest.raises(FormatError, match=r"frames.xtc: expected a trajectory of the 3 atoms"):
        read_ensemble(path, other)


def test_a_trajectory_needs_a_topology_and_models_do_not(tmp_path):
    path = written(tmp_path, models_text(made_frames()))
    with pytest.raises(InputError, match=r"topology is for trajectories: .*models.pdb"):
        read_ensemble(path, path)
    with pytest.raises(InputError, match=r"topology must be a PDB or mmCIF file .* got none"):
        iter_frames(written(tmp_path, b"", "x.xtc"))


def test_without_mdtraj_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mdtraj", None)
    topology = written(tmp_path, models_text(made_frames(1)))
    with pytest.raises(InputError, match=r"not installed: pip install offbragg\[md\]"):
        iter_frames(written(tmp_path, b"", "x.xtc"), topology)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: as_frames(x[0]), r"frames must be \(n_frames, n_atoms, 3\), .* got \(4, 3\)"),
        (lambda x: as_frames(x[:0]), r"none of them 0, got \(0, 4, 3\)"),
        (lambda x: as_frames(x * np.nan), "frames must be finite"),
        (lambda x: as_frame_weights([1.0], 7), r"weights must be \(7,\), one a frame, got \(1,\)"),
        (lambda x: as_frame_weights([1.0, -1.0], 2), "weights must be finite, >= 0 and not all 0"),
        (lambda x: as_frame_weights([0.0, 0.0], 2), "weights must be finite, >= 0 and not all 0"),
        (lambda x: superpose(x, x[0, :2]), r"reference must have shape \(4, 3\), got \(2, 3\)"),
        (lambda x: superpose(x, atoms=[]), "atoms must name some of the 4 atoms, got none"),
        (lambda x: superpose(x, atoms=[9]), "atoms must be a mask or indices of the 4 atoms"),
        (lambda x: superpose(x, atoms=[True]), "atoms must be a mask or indices of the 4 atoms"),
        (lambda x: streamed_moments([]), "frames must be at least 2 with weight, got 0 in all"),
        (lambda x: streamed_moments([x[:1]]), "frames must be at least 2 with weight, got 1"),
        (lambda x: streamed_moments([x, x[:, :2]]), "chunks must all be of 4 atoms, got 2"),
        (lambda x: streamed_moments([x, x], weights=[1.0] * 9), "weights must be one a frame"),
        (lambda x: streamed_moments([x], weights=[1.0] * 9), "weights must be 7, one a frame"),
        (lambda x: streamed_moments([x], weights=[-1.0] * 7), "weights must be finite, >= 0"),
        (lambda x: streamed_factor([x], 0), "rank must be >= 1, got 0"),
        (lambda x: iter_frames("x.pdb", chunk_size=0), "chunk_size must be >= 1, got 0"),
        (lambda x: iter_frames("x.pdb", stride=0), "stride must be >= 1, got 0"),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call(made_frames())


def test_a_selection_of_nothing_is_refused(tmp_path):
    path = written(tmp_path, models_text(made_frames()))
    with pytest.raises(InputError, match="names none of 4 atoms"):
        read_ensemble(path, select="name ZN")
