"""Options of the disorder models, under the names of the models' own fields.

An option that is not given is None: the model's own default counts. Which model takes which option
is not written here: `offbragg.cli.models` reads it from the models' fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

ModelName = Literal[
    "uncorrelated", "free-adps", "rigid-body", "tls", "liquid-like", "elastic-network",
    "lattice-vibrations", "covariance", "ensemble",
]  # fmt: skip

_SEVERAL = Parameter(group=Group("Disorder model", sort_key=10))
_RIGID = Parameter(group=Group("Model rigid-body", sort_key=11))
_TLS = Parameter(group=Group("Model tls", sort_key=12))
_LIQUID = Parameter(group=Group("Model liquid-like", sort_key=13))
_NETWORK = Parameter(group=Group("Models elastic-network, lattice-vibrations", sort_key=14))
_COVARIANCE = Parameter(group=Group("Model covariance", sort_key=15))
_FRAMES = Parameter(group=Group("Ensemble", sort_key=16))
_NO_NEGATIVE = Parameter(negative="")
# Given once more for each model: a list would swallow the structure's name.
_REPEATED = Parameter(consume_multiple=False)


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions:
    """How the frames of an ensemble are read, and what moves beside them.

    Attributes
    ----------
    topology : Path or None
        PDB or mmCIF file of the atoms of a trajectory.
    stride : int or None
        Take every so many-th frame; each if not given.
    weights : Path or None
        A .npy file of one weight a frame; all alike if not given.
    superpose : bool or None
        Superpose the frames on their mean: takes out motion of the whole.
    damped : bool or None
        Each atom also moves by itself, by the structure's ADP.
    """

    topology: Annotated[Path | None, _FRAMES] = None
    stride: Annotated[int | None, _FRAMES] = None
    weights: Annotated[Path | None, _FRAMES] = None
    superpose: Annotated[bool | None, _FRAMES, _NO_NEGATIVE] = None
    damped: Annotated[bool | None, _FRAMES, _NO_NEGATIVE] = None


@dataclass(frozen=True, kw_only=True)
class ModelOptions(EnsembleOptions):
    """How the atoms move.

    Attributes
    ----------
    model : tuple of str
        Disorder model; given again, a second motion independent of the first. An option goes to
        every named model that knows it.
    cutoff : float or None
        Networks: longest springs [Å]; liquid-like: atoms further apart are uncorrelated.
    coherence : str or None
        Liquid-like, elastic-network (asu, cell): which atoms move together.
    order : str or None
        Liquid-like: "exact", or a whole number for the series up to that power;
        lattice-vibrations: "exact" or 1, one phonon.
    translation : tuple of float or None
        T [Å²], one number, or six: xx yy zz xy xz yz.
    libration : tuple of float or None
        L [rad²], one number, or six: xx yy zz xy xz yz.
    screw : tuple of 9 float or None
        S [Å·rad], row by row; S_ij = ⟨λ_i t_j⟩.
    origin : tuple of 3 float or None
        What bodies turn about [Å]; the centroid of each if not given.
    bodies : tuple of str or None
        "chain", "molecule", or selections, one a body; all atoms are one body if not given.
    tls_file : Path or None
        PDB or mmCIF file whose TLS groups are taken, in place of the structure's own.
    tls_adps : str or None
        With --adps file: whether the structure's ADPs leave TLS out (residual) or hold it (total);
        auto, as if not given: as the file says, total if it does not.
    rms_displacement : tuple of float or None
        σ [Å], per axis: one number, or three along x, y and z.
    correlation_length : float or None
        γ [Å].
    kernel : str or None
        How the correlation falls off.
    form : str or None
        "convolution", for coherence crystal and whole orders: fast, approximate self terms.
    kind : str or None
        Springs along the contact (anm) or isotropic (gnm).
    nodes : str or None
        Elastic-network: all atoms, or Cα atoms that carry their residues.
    distance_edges : tuple of float or None
        Upper ends [Å] of classes of spring length, the last the cutoff.
    spring_constants : tuple of float or None
        Of each class [kT/Å²]; where V is scaled to the ADPs only their ratios count.
    internal_spring_constants : tuple of float or None
        Lattice-vibrations, atomic: of the springs within a copy.
    power : float or None
        A spring of length r is weaker by r^power.
    scale : str or None
        V scaled to the sum of the file's ADPs, to each, or not at all.
    n_modes : int or None
        Elastic-network: softest modes taken; all if not given.
    n_cells : tuple of 3 int or None
        Lattice-vibrations: cells of the period along a, b, c.
    level : str or None
        Lattice-vibrations: rigid copies, or every atom.
    reach : float or None
        Lattice-vibrations: pairs further apart [Å] are uncorrelated.
    covariance : Path or None
        A .npy file of V_ij [Å²], (n, n) or (n, n, 3, 3).
    covariance_factor : Path or None
        In its place a .npy file of P [Å] with V = P Pᵀ, (n, rank) or (n, 3, rank).
    basis : str or None
        In its place V = B C Bᵀ with C to be fitted: modes (of an elastic network, see --n-modes),
        tls (shifts and turns of --bodies), fields (smooth shifts of residues), or a .npy file of
        B, (n, n_modes) or (n, 3, n_modes).
    ensemble : Path or None
        Multi-model file or trajectory of the structure's atoms; the structure's own models if not
        given.
    approximation : str or None
        Of the ensemble: its frames as they are, or a Gaussian with their covariance.
    """

    model: Annotated[tuple[ModelName, ...], _SEVERAL, _REPEATED]
    cutoff: Annotated[float | None, _SEVERAL] = None
    coherence: Annotated[Literal["asu", "cell", "crystal"] | None, _SEVERAL] = None
    order: Annotated[str | None, _SEVERAL] = None
    translation: Annotated[tuple[float, ...] | None, _RIGID] = None
    libration: Annotated[tuple[float, ...] | None, _RIGID] = None
    screw: Annotated[tuple[float, ...] | None, _RIGID] = None
    origin: Annotated[tuple[float, float, float] | None, _RIGID] = None
    bodies: Annotated[tuple[str, ...] | None, _RIGID] = None
    tls_file: Annotated[Path | None, _TLS] = None
    tls_adps: Annotated[Literal["auto", "residual", "total"] | None, _TLS] = None
    rms_displacement: Annotated[tuple[float, ...] | None, _LIQUID] = None
    correlation_length: Annotated[float | None, _LIQUID] = None
    kernel: Annotated[Literal["exponential", "gaussian"] | None, _LIQUID] = None
    form: Annotated[Literal["pairs", "convolution"] | None, _LIQUID] = None
    kind: Annotated[Literal["anm", "gnm"] | None, _NETWORK] = None
    nodes: Annotated[Literal["all", "calpha"] | None, _NETWORK] = None
    distance_edges: Annotated[tuple[float, ...] | None, _NETWORK] = None
    spring_constants: Annotated[tuple[float, ...] | None, _NETWORK] = None
    internal_spring_constants: Annotated[tuple[float, ...] | None, _NETWORK] = None
    power: Annotated[float | None, _NETWORK] = None
    scale: Annotated[Literal["overall", "per-atom", "absolute"] | None, _NETWORK] = None
    n_modes: Annotated[int | None, _NETWORK] = None
    n_cells: Annotated[tuple[int, int, int] | None, _NETWORK] = None
    level: Annotated[Literal["rigid", "atomic"] | None, _NETWORK] = None
    reach: Annotated[float | None, _NETWORK] = None
    covariance: Annotated[Path | None, _COVARIANCE] = None
    covariance_factor: Annotated[Path | None, _COVARIANCE] = None
    basis: Annotated[str | None, _COVARIANCE] = None
    ensemble: Annotated[Path | None, _FRAMES] = None
    approximation: Annotated[Literal["none", "gaussian"] | None, _FRAMES] = None
