"""4WOR against the Bragg intensities of its crystal: R with and without bulk solvent.

The data's README: R about 0.25, 0.20 with a flat bulk solvent, 0.57 for the wrong indexing. P 4₁
has two ways to index; |F| is the same for (k,h,l) and (k,h,-l), so both are the control.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg import read_structure
from offbragg.crystal.solvent import mask_structure_factors, solvent_mask, solvent_structure_factors
from offbragg.crystal.solvent_fit import fit_scale_and_solvent
from offbragg.scattering.form_factors import compute_form_factors
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.structure_factors import (
    compute_structure_factors,
    structure_factors_on_lattice,
)

pytestmark = pytest.mark.real

WORST_R = 0.22  # asked for; 0.190 seen with an overall U, 0.201 without
CONTROL_R = 0.50  # 0.547 seen for the wrong indexing with everything fitted


@pytest.fixture(scope="module")
def bragg(shared_data):
    """Miller indices and amplitudes of the SCALEPACK file; 6569 measured intensities."""
    lines = (shared_data / "snase/bragg/snc.hkl").read_text().splitlines()[3:]
    rows = [line for line in lines if line.strip()]
    hkl = np.array([[int(line[i : i + 4]) for i in (0, 4, 8)] for line in rows])
    intensity = np.array([float(line[12:20]) for line in rows])
    assert len(hkl) == 6569
    return hkl, np.sqrt(np.maximum(intensity, 0.0))


@pytest.fixture(scope="module")
def model(shared_data):
    return read_structure(shared_data / "snase/model/4wor.pdb")


class StructureFactors:
    """F of all atoms of the cell and of its solvent at any hkl to 2.2 Å."""

    def __init__(self, structure):
        cell = structure.cell
        every = structure.to_p1()
        self.cell, self.extent = cell, np.array([23, 23, 29])
        lattice = HalfLattice(cell, (1, 1, 1), tuple(self.extent.tolist()), 2 * np.pi / 2.15)
        self.atoms = structure_factors_on_lattice(
            lattice, every.positions, every.elements, every.occupancies, every.u_aniso, 1e-6
        )
        self.solvent = solvent_mask(structure, 0.55)

    def __call__(self, hkl):
        assert hkl[:, 2].min() >= 0
        h, k, _ = (hkl + self.extent).T
        return self.atoms[h, k, hkl[:, 2]], mask_structure_factors(self.solvent, self.cell, hkl)


@pytest.fixture(scope="module")
def factors(model):
    return StructureFactors(model)


# --- 1 reference numbers -------------------------------------------------


def test_r_with_bulk_solvent(bragg, model, factors):
    hkl, f_obs = bragg
    protein, mask = factors(hkl)
    fit = fit_scale_and_solvent(
        f_obs, hkl, model.cell, protein, mask, space_group=model.space_group
    )
    assert fit.r_factor < 0.195 < WORST_R
    assert 0.35 < fit.k_sol < 0.5
    assert 30 < fit.b_sol < 90
    # The data are a little sharper than the model: an overall U of its symmetry.
    assert_allclose(fit.u_aniso[0, 0], fit.u_aniso[1, 1], rtol=1e-9)
    assert np.abs(fit.u_aniso).max() < 0.15
    one_scale = fit_scale_and_solvent(f_obs, hkl, model.cell, protein, mask, anisotropic=False)
    assert fit.r_factor < one_scale.r_factor < 0.21


def test_r_without_solvent_is_worse(bragg, model, factors):
    hkl, f_obs = bragg
    protein, _ = factors(hkl)
    fits = [
        fit_scale_and_solvent(
            f_obs, hkl, model.cell, protein, space_group=model.space_group, anisotropic=free
        )
        for free in (True, False)
    ]
    assert 0.25 < fits[0].r_factor < 0.28
    assert 0.29 < fits[1].r_factor < 0.33


@pytest.mark.parametrize("last", [1, -1])
def test_the_wrong_indexing_does_not_fit(bragg, model, factors, last):
    hkl, f_obs = bragg
    wrong = hkl[:, [1, 0, 2]] * [1, 1, last]
    # What is at l < 0 is the conjugate of its mate.
    protein, mask = factors(wrong * last)
    fit = fit_scale_and_solvent(
        f_obs, wrong, model.cell, protein, mask, space_group=model.space_group
    )
    assert fit.r_factor > CONTROL_R


def test_waters_left_to_the_solvent_fit_worse(bragg, model):
    # The model's 79 waters are ordered: flat solvent in their place costs 0.04 in R.
    hkl, f_obs = bragg
    protein, mask = StructureFactors(model.select("not water"))(hkl)
    fit = fit_scale_and_solvent(
        f_obs, hkl, model.cell, protein, mask, space_group=model.space_group
    )
    assert 0.22 < fit.r_factor < 0.25


# --- 2 independent oracle ------------------------------------------------


def test_values_that_no_fit_has_seen(bragg, model, factors):
    # Direct summation over atoms, the default k_sol and b_sol, one scale.
    hkl, f_obs = bragg
    some = np.arange(0, len(hkl), 60)
    every = model.to_p1()
    q = 2 * np.pi * hkl[some] @ model.cell.frac_matrix
    f = compute_form_factors(every.elements, q, every.occupancies)
    protein = compute_structure_factors(q, every.positions, f, every.u_aniso)
    on_lattice = factors(hkl[some])[0]
    assert_allclose(on_lattice, protein, atol=1e-4 * np.abs(protein).mean())
    amplitude = np.abs(factors(hkl)[0] + solvent_structure_factors(model, hkl, spacing=0.55))
    scale = (amplitude @ f_obs) / (amplitude @ amplitude)
    assert np.abs(f_obs - scale * amplitude).sum() / f_obs.sum() < 0.21
