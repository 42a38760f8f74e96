"""The linear problem of `infer_covariance`: design, weights, and what a solution means."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg

from offbragg.conventions import TWO_PI, BoolArray, FloatArray, IntArray
from offbragg.crystal.cell import check_cells_agree
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.symmetry import laue_rotations
from offbragg.disorder.base import DisorderModel
from offbragg.disorder.covariance import Covariance
from offbragg.disorder.residues import ResidueCorrelations, named_correlations, residues_of
from offbragg.errors import InputError
from offbragg.inference.background import BACKGROUNDS
from offbragg.inference.block_ridge import BlockRidge
from offbragg.inference.data import FitData
from offbragg.inference.harmonics import DEGREES
from offbragg.inference.held_out import blocks_of, choose_folds
from offbragg.inference.inferred import Score
from offbragg.inference.jackknife import correlation_without_blocks, jackknife_difference
from offbragg.inference.response import GroupFields, group_covariance, response_columns
from offbragg.inference.smooth import SmoothFunctions
from offbragg.inference.weights import with_expected_sigma
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.provenance import make_step
from offbragg.maps.shells import isotropic_shells, shell_mean
from offbragg.simulation import simulate

# Eigenvalues [Å²] above this are not cut off: they are rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class InferOptions:
    """What `infer_covariance` is told beside map, structure and model; see there."""

    smoothing: float = 9.0
    reach: float = 15.0
    harmonics: int = 4
    background: str = "shells"
    d_min: float | None = None
    d_max: float | None = None
    block_edge: int | None = None
    n_folds: int = 5
    n_resamples: int = 0
    null: bool = True
    max_memory: float = 2e9
    rtol: float = 5e-4

    def __post_init__(self) -> None:
        for name in ("smoothing", "reach", "d_min", "d_max", "block_edge", "max_memory", "rtol"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} must be > 0, got {value}")
        if self.n_resamples < 0 or self.n_resamples == 1:
            raise InputError(f"n_resamples must be 0 or at least 2, got {self.n_resamples}")
        if self.harmonics not in DEGREES:
            raise InputError(f"harmonics must be an even degree, 0 to 8, got {self.harmonics}")
        if self.background not in BACKGROUNDS:
            raise InputError(
                f"background must be one of {' '.join(BACKGROUNDS)}, got {self.background!r}"
            )


@dataclass(frozen=True, eq=False)
class Shells:
    """Voxels in shells of 0.01 Å⁻¹, and how often each counts in their means.

    Attributes
    ----------
    index : ndarray, shape (n_voxels,), int64
    times : ndarray, shape (n_voxels,)
    """

    index: IntArray
    times: FloatArray

    @classmethod
    def of(cls, data: FitData) -> Shells:
        """Take the shells of a fit's voxels, each counted with its equivalents."""
        times = data.voxels.n_equivalents.astype(np.float64)
        return cls(isotropic_shells(data.q_length / TWO_PI), times)

    def means(self, values: FloatArray) -> FloatArray:
        """Means (n_shells,) of values (n_voxels,); 0 where there are none."""
        n_shells = int(self.index.max()) + 1
        return np.nan_to_num(shell_mean(values, self.index, n_shells, self.times))

    def less_means(self, values: FloatArray) -> FloatArray:
        """Take the means off values (n_voxels, n)."""
        return np.stack([x - self.means(x)[self.index] for x in values.T], axis=1)


@dataclass(frozen=True, eq=False)
class LinearProblem:
    """A map's voxels as linear functions of what is to be inferred.

    Columns, in order: backgrounds; the base model, harmonics; and, penalised, the numbers of the
    change of the covariance; all but the backgrounds less their means in shells, so that the
    isotropic part says nothing and folds can be put beside each other. Rows are multiplied with
    the roots of the weights.

    Attributes
    ----------
    structure : AtomicStructure
    base : DisorderModel
    settings : InferOptions
    data : FitData
    intensity, roots : ndarray, shape (n_voxels,)
        Data, and roots of weights, at the unique voxels.
    shells : Shells
    block : ndarray, shape (n_voxels,), int64
    smooth : SmoothFunctions
    fields : GroupFields
    ridge : BlockRidge
    sizes : ndarray, shape (n_unpenalised,)
        What these columns were divided by.
    voxel_average : bool
    is_residues : bool
        Whether groups are residues.
    n_dropped : int
        Fields left out to save memory.
    """

    structure: AtomicStructure
    base: DisorderModel
    settings: InferOptions
    data: FitData
    intensity: FloatArray
    roots: FloatArray
    shells: Shells
    block: IntArray
    smooth: SmoothFunctions
    fields: GroupFields
    ridge: BlockRidge
    sizes: FloatArray
    voxel_average: bool
    is_residues: bool
    n_dropped: int

    @classmethod
    def of(
        cls,
        observed: DiffuseMap,
        structure: AtomicStructure,
        base: DisorderModel,
        groups: IntArray | None,
        settings: InferOptions,
    ) -> LinearProblem:
        """Work out the columns.

        Raises
        ------
        InputError
            If groups do not match the atoms, or one field takes more than ``max_memory``.
        """
        cell = structure.require_cell()
        check_cells_agree(cell, observed.cell, "structure and map")
        displacements = base.displacements(structure)
        group = residues_of(structure)[0] if groups is None else check_groups(groups, structure)
        averaged = observed.count is not None
        weighted = with_expected_sigma(observed)
        data = FitData.of(weighted, cell, settings.d_min, settings.d_max)
        rotations = laue_rotations(weighted.laue_group or weighted.space_group)
        q = data.q
        smooth = data.smooth(settings.background, settings.harmonics)
        fields = GroupFields.of(structure, group, settings.smoothing, settings.reach)
        most = _most_fields(len(q), settings.max_memory)
        n_fields = fields.fields.shape[1]
        if n_fields > most:
            fields = replace(fields, fields=fields.fields[:, :most])
        sigma = data.voxels.sigma
        roots = np.ones(len(q)) if sigma is None else 1.0 / sigma
        block, _ = blocks_of(data.voxels.hkl, rotations, settings.block_edge)
        base_map = simulate(
            structure, base, data.own_grid, rtol=settings.rtol, voxel_average=averaged
        )
        base_intensity = base_map.intensity.reshape(-1)[data.voxels.index].astype(np.float64)
        shells = Shells.of(data)
        varying = np.column_stack([base_intensity, smooth.directional(q)])
        free = np.column_stack([smooth.isotropic(q), shells.less_means(varying)])
        free *= roots[:, None]
        sizes = np.linalg.norm(free, axis=0)
        answers = response_columns(structure, displacements, data.voxels.hkl, fields)
        for number in range(answers.shape[1]):
            column = shells.less_means(answers[:, number].astype(np.float64)[:, None])[:, 0]
            answers[:, number] = column * roots
        columns = np.concatenate([(free / sizes).astype(np.float32), answers], axis=1)
        del answers
        intensity = data.voxels.intensity
        is_penalised = np.arange(columns.shape[1]) >= len(sizes)
        return cls(
            structure=structure, base=base, settings=settings, data=data, intensity=intensity,
            roots=roots, shells=shells, block=block, smooth=smooth,
            fields=fields,
            ridge=BlockRidge.of(columns, roots * intensity, is_penalised, block), sizes=sizes,
            voxel_average=averaged, is_residues=groups is None,
            n_dropped=max(0, n_fields - most),
        )  # fmt: skip

    @property
    def n_voxels(self) -> int:
        """Unique voxels."""
        return len(self.intensity)

    @property
    def unit(self) -> float:
        """What penalties are in multiples of."""
        return self.ridge.unit_penalty

    @property
    def n_isotropic(self) -> int:
        """Backgrounds; the base model's column comes next."""
        return len(self.sizes) - 1 - self.smooth.n_directional

    @property
    def is_varying(self) -> BoolArray:
        """Columns that vary within shells: all but the backgrounds."""
        return np.arange(self.ridge.n_columns) >= self.n_isotropic

    def left_out(self, ridge: BlockRidge, penalty: float) -> FloatArray:
        """Varying part of weighted predictions, each block by the fit without it."""
        return ridge.predict_left_out(penalty * self.unit, self.is_varying)

    def left_out_unpenalised(self, *, with_model: bool = True) -> FloatArray:
        """Do the same without changes of the covariance, or by smooth functions alone."""
        kept = ~self.ridge.is_penalised
        if not with_model:
            kept[self.n_isotropic] = False
        return self.ridge.keep(kept).predict_left_out(0.0, self.is_varying[kept])

    def folds(self, rng: np.random.Generator) -> IntArray:
        """Draw folds of whole blocks (n_voxels,)."""
        rotations = laue_rotations(self.structure.space_group)
        return choose_folds(
            self.data.voxels.hkl, rotations, self.settings.n_folds, rng, self.settings.block_edge
        )

    def with_intensity(self, intensity: FloatArray, rows: BoolArray) -> LinearProblem:
        """Return the problem of other data, where there are any."""
        ridge = self.ridge.with_data(np.where(rows, self.roots * intensity, 0.0)).take(rows)
        block = np.unique(self.block[rows], return_inverse=True)[1].astype(np.int64)
        voxels = self.data.voxels
        part = replace(
            voxels, index=voxels.index[rows], hkl=voxels.hkl[rows], intensity=intensity[rows],
            sigma=None if voxels.sigma is None else voxels.sigma[rows],
            n_equivalents=voxels.n_equivalents[rows],
        )  # fmt: skip
        return replace(
            self, intensity=intensity[rows], roots=self.roots[rows],
            shells=Shells(self.shells.index[rows], self.shells.times[rows]),
            block=block, ridge=ridge,
            data=replace(self.data, voxels=part, q_length=self.data.q_length[rows]),
        )  # fmt: skip

    def correlation(
        self, predicted: FloatArray, rows: BoolArray | None = None
    ) -> tuple[float, FloatArray]:
        """Correlation of anisotropic parts with weighted predictions, and without each block."""
        chosen = slice(None) if rows is None else rows
        block = np.unique(self.block[chosen], return_inverse=True)[1].astype(np.int64)
        return correlation_without_blocks(
            self.intensity[chosen], predicted / self.roots[chosen], self.shells.index[chosen],
            block, self.shells.times[chosen],
        )  # fmt: skip

    def score(self, base: FloatArray, changed: FloatArray) -> Score:
        """Put two weighted predictions side by side."""
        one, other = self.correlation(changed), self.correlation(base)
        gain, error = jackknife_difference(one, other)
        return Score(base=other[0], cc=one[0], gain=gain, gain_error=error)

    def changed_groups(self, theta: FloatArray) -> FloatArray:
        """Covariance (n_groups, n_groups, 3, 3) of groups for a solution [Å²]; maybe indefinite."""
        return self.of_groups(self.base) + self._change(theta)

    def possible_covariance(self, theta: FloatArray) -> tuple[Covariance, float]:
        """Return the covariance of all atoms, cut to a possible one, and the share cut off."""
        n, group = self.structure.n_atoms, self.fields.group
        v = self.base.displacements(self.structure).dense(n)
        v = v[:, :, None, None] * np.eye(3) if v.ndim == 2 else v
        flat = (v + self._change(theta)[group][:, group]).transpose(0, 2, 1, 3).reshape(3 * n, -1)
        total = float(np.trace(flat))
        values, vectors = scipy.linalg.eigh(flat, subset_by_value=(-np.inf, -_ROUNDING))
        flat = flat - (vectors * values) @ vectors.T
        blocks = flat.reshape(n, 3, n, 3).transpose(0, 2, 1, 3)
        return Covariance(np.ascontiguousarray(blocks)), abs(float(values.sum())) / total

    def simulated(self, model: DisorderModel) -> DiffuseMap:
        """Return the exact map of a model."""
        return simulate(
            self.structure, model, self.data.own_grid, rtol=self.settings.rtol,
            voxel_average=self.voxel_average,
        )  # fmt: skip

    def of_groups(self, model: DisorderModel) -> FloatArray:
        """Covariance (n_groups, n_groups, 3, 3) of the groups' centroids in a model [Å²]."""
        moves = model.displacements(self.structure)
        return group_covariance(moves, self.fields.group, self.structure.occupancies)

    def named(self, covariance: FloatArray) -> ResidueCorrelations:
        """Put the groups' names to their covariance, means over directions."""
        names = (
            residues_of(self.structure)[1]
            if self.is_residues
            else [(0, "", number, "group") for number in range(len(covariance))]
        )
        return named_correlations(names, np.trace(covariance, axis1=2, axis2=3) / 3.0)

    def scaled(self, calculated: DiffuseMap, rows: BoolArray) -> FloatArray:
        """Coefficients (n_unpenalised,) of backgrounds, a map and harmonics on some voxels."""
        q = self.data.q
        columns = np.column_stack([self.smooth.isotropic(q), self._varying(calculated)])
        columns *= self.roots[:, None]
        sizes = np.linalg.norm(columns[rows], axis=0)
        sizes = np.where(sizes > 0, sizes, 1.0)
        solution, *_ = np.linalg.lstsq(
            columns[rows] / sizes, self.roots[rows] * self.intensity[rows]
        )
        return np.asarray(solution / sizes)

    def varying(self, calculated: DiffuseMap, coefficients: FloatArray) -> FloatArray:
        """Scaled map and harmonics less their means in shells, at the unique voxels."""
        return np.asarray(self._varying(calculated) @ coefficients[self.n_isotropic :])

    def model_map(
        self, observed: DiffuseMap, calculated: DiffuseMap, coefficients: FloatArray
    ) -> DiffuseMap:
        """Return the sum of all at every voxel of the map within the limits."""
        grid, n = self.data.grid, self.n_isotropic
        wanted = grid.within(d_max=self.settings.d_max) & np.isfinite(calculated.intensity)
        q = TWO_PI * grid.hkl()[wanted] @ grid.cell.frac_matrix
        shell = isotropic_shells(grid.inv_d()[wanted])
        means = self.shells.means(self._at_voxels(calculated))
        known = np.minimum(shell, len(means) - 1)
        background = self.smooth.isotropic(q) @ coefficients[:n]
        # Constant within the shells that define the anisotropic part: it drops out of that.
        background = shell_mean(background, shell, int(shell.max()) + 1)[shell]
        varying = coefficients[n] * (calculated.intensity[wanted] - means[known])
        directional = self.smooth.directional(q) @ coefficients[n + 1 :]
        intensity = np.full(grid.shape, np.nan)
        intensity[wanted] = background + varying + directional
        step = make_step("infer", self.settings, model=repr(self.base))
        return DiffuseMap(
            grid, intensity, observed.space_group, provenance=(*observed.provenance, step)
        )

    def _at_voxels(self, calculated: DiffuseMap) -> FloatArray:
        return calculated.intensity.reshape(-1)[self.data.voxels.index].astype(np.float64)

    def _varying(self, calculated: DiffuseMap) -> FloatArray:
        columns = [self._at_voxels(calculated), self.smooth.directional(self.data.q)]
        return self.shells.less_means(np.column_stack(columns))

    def _change(self, theta: FloatArray) -> FloatArray:
        """Return dV (n_groups, n_groups, 3, 3) [Å²] of a solution."""
        scale = theta[self.n_isotropic] / self.sizes[self.n_isotropic]
        if not scale > 0:
            raise InputError("infer: the scale of the base model is not positive, expected > 0")
        numbers = theta[self.ridge.is_penalised] * self.fields.scales / scale
        return self.fields.covariance(numbers)


def check_base(model: DisorderModel, structure: AtomicStructure) -> None:
    """Check that a model moves one copy's atoms, with a covariance.

    Raises
    ------
    InputError
        If it does not.
    """
    if model.is_truncated:
        raise InputError(f"infer needs a model with a covariance, got {model!r}")
    unit = model.coherent_unit(structure)
    if unit.n_atoms != structure.n_atoms or model.displacements(structure).pairs is not None:
        raise InputError(f"infer needs a model whose motions stay within one copy, got {model!r}")


def check_groups(groups: IntArray, structure: AtomicStructure) -> IntArray:
    """Check that groups are numbered 0 … n − 1, one number an atom.

    Raises
    ------
    InputError
        If they are not.
    """
    group = np.asarray(groups)
    if group.shape != (structure.n_atoms,) or group.dtype.kind not in "iu":
        raise InputError(
            f"groups must be whole numbers ({structure.n_atoms},), got {group.dtype} {group.shape}"
        )
    if not np.array_equal(np.unique(group), np.arange(int(group.max(initial=-1)) + 1)):
        raise InputError("groups must be numbered 0 to n - 1 without gaps")
    return group.astype(np.int64)


def _most_fields(n_voxels: int, max_memory: float) -> int:
    """Fields whose design, float32 and twice while it is made, fits into so many bytes."""
    numbers = max_memory / (8.0 * n_voxels)
    n_most = int((np.sqrt(8.0 * numbers + 1.0) - 1.0) / 2.0) // 3
    if n_most < 1:
        raise InputError(f"max_memory of {max_memory:g} bytes is too little for one field")
    return n_most
