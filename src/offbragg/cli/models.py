"""Disorder models from options of the command line."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter as CliParameter

from offbragg.conventions import FloatArray
from offbragg.crystal.ensembles import read_ensemble
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.tls import read_tls_groups
from offbragg.disorder import (
    Covariance,
    DisorderModel,
    ElasticNetwork,
    Ensemble,
    LatticeVibrations,
    LiquidLike,
    RigidBodies,
    RigidBody,
    Uncorrelated,
    bodies_of,
)
from offbragg.errors import FormatError, InputError, MissingFileError

ModelName = Literal[
    "uncorrelated", "rigid-body", "tls", "liquid-like", "elastic-network", "lattice-vibrations",
    "covariance", "ensemble",
]  # fmt: skip

_NETWORKS = ("elastic-network", "lattice-vibrations")
_BELONGS: dict[str, tuple[str, ...]] = {
    "rms_displacement": ("liquid-like",),
    "correlation_length": ("liquid-like",),
    "kernel": ("liquid-like",),
    "coherence": ("liquid-like", "elastic-network"),
    "order": ("liquid-like", "lattice-vibrations"),
    "form": ("liquid-like",),
    "cutoff": ("liquid-like", *_NETWORKS),
    "translation": ("rigid-body",),
    "libration": ("rigid-body",),
    "screw": ("rigid-body",),
    "bodies": ("rigid-body",),
    "tls_file": ("tls",),
    "network": _NETWORKS,
    "nodes": ("elastic-network",),
    "distance_edges": _NETWORKS,
    "spring_constants": _NETWORKS,
    "scale": _NETWORKS,
    "n_modes": ("elastic-network",),
    "n_cells": ("lattice-vibrations",),
    "level": ("lattice-vibrations",),
    "reach": ("lattice-vibrations",),
    "covariance": ("covariance",),
    "frames": ("ensemble",),
    "topology": ("ensemble",),
    "approximation": ("ensemble",),
    "superposed": ("ensemble",),
}


@dataclass(frozen=True)
class ModelOptions:
    """How the atoms move.

    Attributes
    ----------
    model : str
        Disorder model.
    rms_displacement : tuple of float or None
        Liquid-like: σ [Å], per axis; three numbers: along x, y and z.
    correlation_length : float or None
        Liquid-like: γ [Å].
    kernel : str or None
        Liquid-like: how the correlation falls off.
    coherence : str or None
        Liquid-like, elastic network: which atoms are correlated.
    order : str or None
        Liquid-like: "exact", or a whole number for the series up to that power. Lattice
        vibrations: "exact" or 1, one phonon.
    form : str or None
        Liquid-like, coherence crystal: sum over pairs, or halos around Bragg positions.
    cutoff : float or None
        Liquid-like: distance [Å] beyond which atoms are uncorrelated. Networks: longest spring.
    translation : tuple of float or None
        Rigid body: T [Å²], one number, or six: xx yy zz xy xz yz.
    libration : tuple of float or None
        Rigid body: L [rad²], one number, or six: xx yy zz xy xz yz.
    screw : tuple of float or None
        Rigid body: S [Å rad], nine numbers, row by row.
    bodies : str or None
        Rigid body: all atoms are one body, or each chain, or each molecule.
    tls_file : Path or None
        TLS: PDB or mmCIF file with the groups; the structure itself where not given.
    network : str or None
        Networks: isotropic springs (gnm) or springs along the contact (anm).
    nodes : str or None
        Elastic network: every atom a node, or the C-alpha atoms, which others follow.
    distance_edges : tuple of float or None
        Networks: upper ends [Å] of classes of distance, the last the cutoff.
    spring_constants : tuple of float or None
        Networks: of each class [kT/Å²]; their ratios where motions are scaled to the ADPs.
    scale : str or None
        Networks: motions scaled to the ADPs overall, per atom, or not (absolute).
    n_modes : int or None
        Elastic network: softest modes that are kept.
    n_cells : tuple of 3 int or None
        Lattice vibrations: cells of the period along a, b, c.
    level : str or None
        Lattice vibrations: rigid molecules, or atoms.
    reach : float or None
        Lattice vibrations: pairs further apart [Å] are uncorrelated.
    covariance : Path or None
        Covariance: a .npy file of V_ij [Å²], (n, n) or (n, n, 3, 3).
    frames : Path or None
        Ensemble: file of several models, or trajectory.
    topology : Path or None
        Ensemble: structure with the atoms of a trajectory.
    approximation : str or None
        Ensemble: average over the frames as they are, or their Gaussian covariance.
    superposed : bool or None
        Ensemble: superpose the frames first.
    """

    model: ModelName
    rms_displacement: tuple[float, ...] | None = None
    correlation_length: float | None = None
    kernel: Literal["exponential", "gaussian"] | None = None
    coherence: Literal["asu", "cell", "crystal"] | None = None
    order: str | None = None
    form: Literal["pairs", "convolution"] | None = None
    cutoff: float | None = None
    translation: tuple[float, ...] | None = None
    libration: tuple[float, ...] | None = None
    screw: tuple[float, ...] | None = None
    bodies: Literal["chain", "molecule"] | None = None
    tls_file: Path | None = None
    network: Literal["gnm", "anm"] | None = None
    nodes: Literal["all", "calpha"] | None = None
    distance_edges: tuple[float, ...] | None = None
    spring_constants: tuple[float, ...] | None = None
    scale: Literal["overall", "per-atom", "absolute"] | None = None
    n_modes: int | None = None
    n_cells: tuple[int, int, int] | None = None
    level: Literal["rigid", "atomic"] | None = None
    reach: float | None = None
    covariance: Path | None = None
    frames: Path | None = None
    topology: Path | None = None
    approximation: Literal["none", "gaussian"] | None = None
    superposed: Annotated[bool | None, CliParameter(negative="")] = None


@dataclass(frozen=True)
class Source:
    """Where a model that needs more than numbers finds it: the structure and its file."""

    structure: AtomicStructure
    path: Path
    select: str | None = None


def build_model(
    options: ModelOptions, source: Source | None = None, *, for_fit: bool = False
) -> DisorderModel:
    """Build the model that the options name.

    Parameters
    ----------
    options : ModelOptions
    source : Source, optional
        Structure that moves, for models whose bodies or frames belong to it.
    for_fit : bool
        Fill numbers that were not given with a start for a fit.

    Raises
    ------
    InputError
        If a number that the model needs is missing, or an option is of another model.
    """
    for f in fields(options):
        owners = _BELONGS.get(f.name)
        if owners and getattr(options, f.name) is not None and options.model not in owners:
            raise InputError(
                f"--{f.name.replace('_', '-')} belongs to --model {' or '.join(owners)}, "
                f"got {options.model}"
            )
    if options.model == "uncorrelated":
        return Uncorrelated()
    if options.model == "liquid-like":
        return _liquid_like(options, for_fit=for_fit)
    if options.model == "covariance":
        return Covariance(_read_covariance(options.covariance))
    if options.model == "elastic-network":
        return ElasticNetwork(**_given(options, kind="network", nodes="nodes", cutoff="cutoff",
            distance_edges="distance_edges", spring_constants="spring_constants", scale="scale",
            n_modes="n_modes", coherence="coherence"))  # fmt: skip
    if options.model == "lattice-vibrations":
        return _lattice_vibrations(options)
    return _of_a_structure(options, source)


def _of_a_structure(options: ModelOptions, source: Source | None) -> DisorderModel:
    """Models whose bodies, groups or frames belong to a structure."""
    if options.model == "rigid-body":
        bodies = None
        if options.bodies is not None:
            bodies = bodies_of(_needed(source, options.model).structure, options.bodies)
        return RigidBody(
            translation=_tensor("translation", options.translation),
            libration=None
            if options.libration is None
            else _tensor("libration", options.libration),
            screw=_screw(options.screw),
            bodies=bodies,
        )
    known = _needed(source, options.model)
    if options.model == "tls":
        path = options.tls_file or known.path
        groups = read_tls_groups(path, known.structure)
        if not groups:
            raise InputError(f"{path}: --model tls needs TLS groups, found none")
        return RigidBodies.from_tls(groups, known.structure)
    if options.frames is None:
        raise InputError("--model ensemble needs --frames FILE")
    _, frames = read_ensemble(options.frames, options.topology, select=known.select)
    return Ensemble(
        frames,
        approximation=options.approximation or "none",
        superposed=bool(options.superposed),
    )


def _needed(source: Source | None, model: str) -> Source:
    if source is None:
        raise InputError(f"--model {model} cannot be used here: it needs a structure's file")
    return source


def _given(options: ModelOptions, **names: str) -> dict[str, Any]:
    """Fields of a model from the options that were given."""
    values = {field: getattr(options, name) for field, name in names.items()}
    return {field: value for field, value in values.items() if value is not None}


def _lattice_vibrations(options: ModelOptions) -> LatticeVibrations:
    if options.n_cells is None:
        raise InputError("--model lattice-vibrations needs --n-cells")
    given = _given(options, level="level", kind="network", cutoff="cutoff", scale="scale",
        distance_edges="distance_edges", spring_constants="spring_constants", reach="reach",
    )  # fmt: skip
    if options.order is not None:
        given["order"] = _order(options.order)
    return LatticeVibrations(options.n_cells, **given)


def _order(order: str) -> str | int:
    if order == "exact":
        return order
    try:
        return int(order)
    except ValueError:
        raise InputError(f"--order must be exact or a whole number, got {order!r}") from None


def _screw(numbers: tuple[float, ...] | None) -> FloatArray | None:
    if numbers is None:
        return None
    if len(numbers) != 9:
        raise InputError(f"--screw must be nine numbers, row by row, got {len(numbers)}")
    return np.reshape(numbers, (3, 3))


def _liquid_like(options: ModelOptions, *, for_fit: bool) -> LiquidLike:
    sigma, length = options.rms_displacement, options.correlation_length
    if for_fit:
        sigma = (0.4,) if sigma is None else sigma
        length = 8.0 if length is None else length
    if sigma is None or length is None:
        raise InputError("--model liquid-like needs --rms-displacement and --correlation-length")
    numbers = tuple(float(x) for x in np.atleast_1d(sigma))
    if len(numbers) not in (1, 3):
        raise InputError(f"--rms-displacement must be one number or three, got {len(numbers)}")
    return LiquidLike(
        rms_displacement=numbers[0] if len(numbers) == 1 else numbers,
        correlation_length=length,
        kernel=options.kernel or "exponential",
        coherence=options.coherence or "asu",
        order=_order(options.order or "exact"),
        cutoff=options.cutoff,
        form=options.form or "pairs",
    )


def _tensor(name: str, numbers: tuple[float, ...] | None) -> FloatArray:
    if numbers is None:
        raise InputError(f"--model rigid-body needs --{name}")
    if len(numbers) == 1:
        return numbers[0] * np.eye(3)
    if len(numbers) != 6:
        raise InputError(
            f"--{name} must be one number or six (xx yy zz xy xz yz), got {len(numbers)}"
        )
    xx, yy, zz, xy, xz, yz = numbers
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def _read_covariance(path: Path | None) -> np.ndarray:
    if path is None:
        raise InputError("--model covariance needs --covariance FILE.npy")
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            values = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise FormatError(f"{path}: not a .npy file of numbers: {error}") from None
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf":
        found = values.dtype if isinstance(values, np.ndarray) else "an archive"
        raise FormatError(f"{path}: expected a .npy file of real numbers, found {found}")
    return values.astype(np.float64)
