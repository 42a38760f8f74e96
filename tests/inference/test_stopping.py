"""Fits that are stopped, that start several times, and that leave voxels out."""

from dataclasses import replace

import numpy as np
import pytest

from offbragg import (
    BasisCovariance,
    Covariance,
    FormatError,
    InputError,
    LiquidLike,
    MissingFileError,
    RigidBody,
    fit,
    rank_models,
)
from offbragg.inference.solvers import MOST_COSINE
from offbragg.inference.watch import StoppedEarlyError, Watch

FOUR = 4.0  # standard errors
START = LiquidLike(0.5, 8.0)


def many_numbers(structure):
    """A model that L-BFGS solves for."""
    rng = np.random.default_rng(0)
    return BasisCovariance(rng.normal(size=(structure.n_atoms, 8)), 0.02 * np.ones(8))


@pytest.mark.parametrize("kind", ["few", "many"])
def test_time_that_is_up_gives_the_best_so_far_and_says_so(observe, structure, kind):
    model = START if kind == "few" else many_numbers(structure)
    found = fit(observe(0), structure, model, max_seconds=1e-6)
    assert not found.converged
    assert "Stopped, max_seconds reached: the best so far." in found.message
    assert found.statistics["working"]["cc"] > 0


@pytest.mark.parametrize("kind", ["few", "many"])
def test_an_interrupt_gives_the_best_so_far(observe, structure, kind):
    class Interrupting:
        """Ctrl-C at the third map or derivative."""

        def __init__(self):
            self.n = 0

        def start(self, what, total):
            pass

        def step(self, n=1):
            self.n += 1
            if self.n == 4:
                raise KeyboardInterrupt

    model = START if kind == "few" else many_numbers(structure)
    found = fit(observe(0), structure, model, progress=Interrupting())
    assert "Stopped, interrupted" in found.message
    assert not found.converged


def test_an_interrupt_before_anything_is_known_goes_on(observe, structure):
    class Interrupting:
        def start(self, what, total):
            pass

        def step(self, n=1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(observe(0), structure, START, progress=Interrupting())


def test_a_watch_keeps_the_least_and_ends_in_time():
    watch = Watch.lasting(None)
    for value in (3.0, 1.0, float("nan"), 2.0):
        watch.saw(value, np.array([value]))
    assert (watch.value, watch.x.tolist()) == (1.0, [1.0])
    with pytest.raises(StoppedEarlyError, match="max_seconds"):
        Watch.lasting(0.0).saw(1.0, np.zeros(1))
    # Nothing known yet: it goes on.
    Watch.lasting(0.0).saw(float("nan"), np.zeros(1))


def test_steps_that_end_off_a_minimum_are_not_convergence(observe, structure, monkeypatch):
    """A step tolerance of one e-fold stops at once, where the gradient is anything but zero."""
    monkeypatch.setattr("offbragg.inference.solvers.STEP_TOLERANCE", 0.9)
    found = fit(observe(0), structure, START)
    assert not found.converged
    assert "gradient is not zero" in found.message
    assert MOST_COSINE < 0.1


def test_several_starts_agree_and_the_best_is_kept(observe, structure):
    observed = observe(1)
    one = fit(observed, structure, START, held_out=0.0)
    several = fit(observed, structure, START, n_starts=3, held_out=0.0)
    assert len(several.starts) == 3
    assert len(one.starts) == 1
    assert min(x.misfit for x in several.starts) == 1.0
    for name, p in several.parameters.items():
        assert p.value == pytest.approx(one.parameters[name].value, abs=p.standard_error)
    for reached in several.starts:
        if reached.misfit < 1.001:
            assert reached.distance < 0.05


def test_a_start_without_a_size_is_refused_before_the_work(observe, structure):
    still = Covariance(factor=np.zeros((structure.n_atoms, 2)))
    with pytest.raises(InputError, match="n_starts: factor starts at 0"):
        fit(observe(0), structure, still, n_starts=2)
    with pytest.raises(InputError, match="n_starts must be > 0"):
        fit(observe(0), structure, START, n_starts=0)


def test_masked_voxels_take_no_part(observe, structure):
    observed = observe(2)
    rng = np.random.default_rng(0)
    mask = rng.random(observed.grid.shape) < 0.2
    spoilt = np.where(mask, 50 * observed.intensity, observed.intensity)
    found = fit(replace(observed, intensity=spoilt), structure, START, mask=mask)
    expected = fit(observed, structure, START, mask=mask)
    for name, p in found.parameters.items():
        assert p.value == pytest.approx(expected.parameters[name].value, rel=1e-9)
    n_all = fit(observed, structure, START, max_evaluations=3).statistics["working"]["n"]
    assert found.statistics["working"]["n"] < n_all
    ranked = rank_models(observed, structure, {"rigid": RigidBody(0.1)}, n_folds=2, mask=mask,
                         max_evaluations=10)  # fmt: skip
    assert len(ranked) == 1


@pytest.mark.parametrize("mask", [np.zeros((2, 2, 2), dtype=bool), np.zeros(3)])
def test_a_wrong_mask_is_refused(observe, structure, mask):
    with pytest.raises(InputError, match="mask must be boolean"):
        fit(observe(0), structure, START, mask=mask)


def test_harmonics_take_a_smooth_quadrupole_away(observe, structure):
    """A variation with direction that no motion made pulls tensors, unless it has its own."""
    observed = observe(3)
    q = 2 * np.pi * observed.grid.hkl() @ observed.grid.cell.frac_matrix
    length = np.maximum(np.linalg.norm(q, axis=-1), 1e-9)
    along = (q[..., 1] / length) ** 2 - 1 / 3
    size = 1.5 * np.nanmean(observed.intensity)
    tilted = replace(observed, intensity=observed.intensity + size * along)
    plain = fit(tilted, structure, START, held_out=0.0)
    beside = fit(tilted, structure, START, held_out=0.0, harmonics=2)
    expected = fit(observed, structure, START, held_out=0.0, harmonics=2)
    for name, p in beside.parameters.items():
        assert p.value == pytest.approx(
            expected.parameters[name].value, abs=FOUR * p.standard_error
        )
    assert (
        beside.statistics["working"]["cc_anisotropic"]
        > plain.statistics["working"]["cc_anisotropic"] + 0.05
    )


def test_a_stopped_fit_goes_on_from_its_checkpoint(observe, structure, tmp_path):
    observed, path = observe(4), tmp_path / "best.npz"
    whole = fit(observed, structure, START)
    fit(observed, structure, START, max_evaluations=6, checkpoint=path)
    resumed = fit(observed, structure, START, checkpoint=path, resume=True)
    assert resumed.n_evaluations < whole.n_evaluations
    for name, p in resumed.parameters.items():
        assert p.value == pytest.approx(whole.parameters[name].value, rel=1e-3)
    assert [x.name for x in tmp_path.iterdir()] == ["best.npz"]


def test_a_checkpoint_of_something_else_is_refused(observe, structure, tmp_path):
    path = tmp_path / "best.npz"
    with pytest.raises(MissingFileError, match="no such checkpoint"):
        fit(observe(0), structure, START, checkpoint=path, resume=True)
    with pytest.raises(InputError, match="resume needs a checkpoint"):
        fit(observe(0), structure, START, resume=True)
    fit(observe(0), structure, START, checkpoint=path, max_evaluations=2)
    with pytest.raises(InputError, match=r"best\.npz: the checkpoint is of another fit"):
        fit(observe(5), structure, START, checkpoint=path, resume=True)
    path.write_bytes(b"something else")
    with pytest.raises(FormatError, match=r"best\.npz: not a checkpoint"):
        fit(observe(0), structure, START, checkpoint=path, resume=True)
