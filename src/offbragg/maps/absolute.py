r"""Absolute scale: electron units from the integral of all that a cell scatters.

The electrons of different atoms do not overlap: their pair density is zero where atoms coincide, so
the total scattering, Bragg peaks included, oscillates about that of independent atoms and

.. math:: \int q^2 \big[s\,I(q) - \sum_i f_i^2 - I_C\big]\, \frac{e^{-bq^2}}{g^2}\,dq
          = -2\pi^2 \frac{Z^2}{V}, \qquad g = \frac{\sum_i f_i}{Z}

for one cell of volume V with Z electrons, I its mean over directions without the forward peak and
I_C the Compton scattering (Krogh-Moe, 1956; Norman, 1957). That gives the scale s. The division by
g² sharpens atoms to points; b = 0.05 Å² makes the integral converge where the data end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import gemmi
import numpy as np

from offbragg.conventions import TWO_PI, FloatArray
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.solvent import solvent_mask
from offbragg.crystal.structure import AtomicStructure
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.provenance import make_step
from offbragg.maps.shells import isotropic_shells, shell_mean
from offbragg.scattering.compton import PHOTON_COUNTING, compton_intensity
from offbragg.scattering.form_factors import element_form_factor

#: b [Å²]. On made peptide crystals the scale is then within 1 % for data to 1.5 Å or better, and
#: 8 % low for 2 Å; without it, 4 % high for 1.5 Å; with twice as much 2 to 3 % low.
DAMPING = 0.05
# Molecules of water per Å³ of bulk solvent: 0.334 electrons per Å³.
_WATERS = 0.0334
# Ends of the integral that are tried, as fractions of the last: their spread is the error.
_ENDS = np.linspace(0.8, 1.0, 11)
# Shells that the integral needs.
_LEAST_SHELLS = 20


@dataclass(frozen=True, eq=False)
class CellContents:
    """The atoms of a unit cell, by element.

    Attributes
    ----------
    numbers : mapping of str to float
        Atoms of each element in the cell, occupancies counted.
    volume : float
        Of the cell [Å³].
    """

    numbers: dict[str, float]
    volume: float

    @classmethod
    def of(cls, structure: AtomicStructure, *, solvent: bool = True) -> CellContents:
        """Count the atoms of all copies, and water where there are none.

        Parameters
        ----------
        structure : AtomicStructure
            With hydrogens: a tenth of a protein's electrons.
        solvent : bool
            Fill the rest of the cell with water of 0.334 electrons per Å³.
        """
        cell = structure.require_cell()
        volume = gemmi.UnitCell(*cell).volume
        n_copies = len(list(gemmi.SpaceGroup(structure.space_group).operations()))
        numbers: dict[str, float] = {}
        for element, occupancy in zip(structure.elements, structure.occupancies, strict=True):
            numbers[str(element)] = numbers.get(str(element), 0.0) + n_copies * float(occupancy)
        if solvent:
            waters = _WATERS * volume * float(np.mean(solvent_mask(structure)))
            for element, n in (("O", waters), ("H", 2.0 * waters)):
                numbers[element] = numbers.get(element, 0.0) + n
        return cls(numbers, volume)

    @property
    def n_electrons(self) -> float:
        """Z."""
        return float(sum(n * gemmi.Element(e).atomic_number for e, n in self.numbers.items()))

    def coherent(self, q: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Σ f² [e²] and g = Σ f / Z at q (n,) [Å⁻¹]."""
        squares, sums = np.zeros(len(q)), np.zeros(len(q))
        for element, n in self.numbers.items():
            f = element_form_factor(element, q**2)
            squares += n * f**2
            sums += n * f
        return squares, sums / self.n_electrons

    def compton(
        self, q: FloatArray, wavelength: float | None, exponent: int = PHOTON_COUNTING
    ) -> FloatArray:
        """Compton scattering [e²] at q, any shape [Å⁻¹]; see `compton_intensity`."""
        names = list(self.numbers)
        amounts = np.array([self.numbers[name] for name in names])
        return compton_intensity(q**2, names, amounts, wavelength, exponent)


@dataclass(frozen=True, eq=False)
class AbsoluteScale:
    """What a map is to be multiplied with to be in e² per unit cell.

    Attributes
    ----------
    scale : float
        e² per unit of the map.
    error : float
        Half the range of scales from integrals that end at 80 to 100 % of the last q.
    q_min, q_max : float
        Limits of the integral [Å⁻¹].
    ends, scales : ndarray, shape (11,)
        Those ends [Å⁻¹], and the scale from each.
    """

    scale: float
    error: float
    q_min: float
    q_max: float
    ends: FloatArray
    scales: FloatArray


def absolute_scale(
    total: DiffuseMap,
    contents: CellContents,
    *,
    wavelength: float | None = None,
    d_max: float | None = None,
    d_min: float | None = None,
    damping: float = DAMPING,
) -> AbsoluteScale:
    """Find the scale of a map of all that the crystal scatters, Bragg peaks included.

    Parameters
    ----------
    total : DiffuseMap
        Bragg and diffuse, background and air subtracted; Compton scattering is expected in it.
        A voxel that holds a Bragg node counts as any other.
    contents : CellContents
    wavelength : float, optional
        [Å]; for the recoil factor of Compton scattering.
    d_max, d_min : float, optional
        Limits [Å]; the forward peak must not be inside.
    damping : float
        b [Å²].

    Raises
    ------
    InputError
        If fewer than twenty shells are measured, or the integral comes out negative.

    Notes
    -----
    The truncation of the integral makes an error of 1 % at d_min = 1.5 Å, and 8 % at 2 Å;
    ``error`` tells of it. A constant background in the map makes a larger one.

    References
    ----------
    .. [1] Krogh-Moe, Acta Cryst. 9, 951 (1956).
    .. [2] Norman, Acta Cryst. 10, 370 (1957).

    Examples
    --------
    >>> import offbragg as ob
    >>> from offbragg.made_crystal import make_peptide
    >>> peptide = make_peptide("GASM", u=0.15)
    >>> grid = ob.HklGrid.from_resolution(peptide.cell, 1.0)
    >>> total = ob.simulate(peptide, ob.LiquidLike(0.38, 5.0), grid, part="total")
    >>> contents = CellContents.of(peptide, solvent=False)
    >>> q = np.linalg.norm(grid.q(), axis=-1)
    >>> seen = replace(total, intensity=0.2 * (total.intensity + contents.compton(q, None)))
    >>> found = absolute_scale(seen, contents)
    >>> abs(found.scale - 5.0) < 0.15
    True
    """
    q, intensity, volume = _radial_profile(total, d_max, d_min)
    if len(q) < _LEAST_SHELLS:
        raise InputError(
            f"absolute_scale: expected {_LEAST_SHELLS} shells of 0.01 Å⁻¹ with measured voxels, "
            f"found {len(q)}"
        )
    squares, g = contents.coherent(q)
    independent = squares + contents.compton(q, wavelength)
    # ∫ q² … dq as a sum over the voxels of the sphere, which for Bragg peaks is exact.
    weight = volume / (4 * np.pi) * np.exp(-damping * q**2) / g**2
    forward = 2 * np.pi**2 * contents.n_electrons**2 / contents.volume
    above = np.cumsum(weight * independent) - forward
    below = np.cumsum(weight * intensity)
    last = np.clip(np.searchsorted(q, _ENDS * q[-1], side="right") - 1, 0, len(q) - 1)
    if np.any(below[last] <= 0) or np.any(above[last] <= 0):
        raise InputError(
            "absolute_scale: the integral of the intensity is not positive: expected a map of all "
            "that is scattered, Bragg peaks included, to 2 Å or better"
        )
    scales = above[last] / below[last]
    return AbsoluteScale(
        scale=float(scales[-1]),
        error=float(np.ptp(scales)) / 2,
        q_min=float(q[0]),
        q_max=float(q[-1]),
        ends=q[last],
        scales=scales,
    )


def to_absolute(
    observed: DiffuseMap,
    scale: AbsoluteScale,
    contents: CellContents,
    *,
    wavelength: float | None = None,
    subtract_compton: bool = True,
) -> DiffuseMap:
    """Return a map in e² per unit cell, its Compton scattering subtracted.

    Parameters
    ----------
    observed : DiffuseMap
        On the scale of the map that ``scale`` was found from: that one, or the same without Bragg
        peaks.
    scale : AbsoluteScale
    contents : CellContents
    wavelength : float, optional
    subtract_compton : bool
    """
    s = scale.scale
    incoherent = np.zeros(observed.grid.shape)
    if subtract_compton:
        q = TWO_PI * observed.grid.inv_d()
        incoherent = contents.compton(q, wavelength)
    scaled = {
        name: s * values - incoherent
        for name in ("intensity", "half_1", "half_2")
        if (values := getattr(observed, name)) is not None
    }
    step = make_step(
        "absolute",
        {"scale": s, "error": scale.error, "compton_subtracted": subtract_compton},
        contents=contents.numbers,
        limits={"q_min": scale.q_min, "q_max": scale.q_max},
    )
    return replace(
        observed,
        **{name: values.astype(observed.intensity.dtype) for name, values in scaled.items()},
        sigma=None if observed.sigma is None else s * observed.sigma,
        provenance=(*observed.provenance, step),
    )


def _radial_profile(
    total: DiffuseMap, d_max: float | None, d_min: float | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean q [Å⁻¹] and intensity of each shell that is measured, and its volume [Å⁻³].

    The origin is left out. The volume is that of the shell's voxels in the whole sphere, measured
    or not.
    """
    grid = total.grid
    inv_d = grid.inv_d()
    used = total.measured & (inv_d > 0)
    if d_max is not None:
        used &= inv_d >= 1 / d_max
    if d_min is not None:
        used &= inv_d <= 1 / d_min
    if not np.any(used):
        raise InputError("absolute_scale: no voxel is measured within the limits")
    shell = isotropic_shells(inv_d[used])
    n_shells = int(shell.max()) + 1
    intensity = shell_mean(total.intensity[used].astype(np.float64), shell, n_shells)
    # One part in 1e9 more, so that the outermost voxels themselves are inside.
    sphere = HklGrid.from_resolution(grid.cell, (1 - 1e-9) / inv_d[used].max(), grid.sampling)
    every = sphere.inv_d()
    every = every[(every >= inv_d[used].min()) & (every <= (1 + 1e-9) * inv_d[used].max())]
    number = isotropic_shells(every)
    n_voxels = np.bincount(number, minlength=n_shells)[:n_shells]
    voxel = TWO_PI**3 / gemmi.UnitCell(*grid.cell).volume / np.prod(grid.sampling)
    q = TWO_PI * shell_mean(every, number, n_shells)
    known = np.isfinite(intensity) & (n_voxels > 0)
    return q[known], intensity[known], (voxel * n_voxels)[known]
