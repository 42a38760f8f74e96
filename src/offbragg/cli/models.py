"""Disorder models from options of the command line, with the structure that they move."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from offbragg.cli.arrays import read_numbers
from offbragg.cli.covariances import bodies_asked, covariance_model
from offbragg.cli.model_options import EnsembleOptions, ModelOptions
from offbragg.cli.options import flag_name
from offbragg.cli.structures import StructureOptions, load_structure
from offbragg.conventions import FloatArray
from offbragg.crystal.ensembles import MODEL_SUFFIXES, read_ensemble
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.tls import TlsGroup, add_tls_to_adps, are_adps_residual, read_tls_groups
from offbragg.disorder import (
    DisorderModel,
    ElasticNetwork,
    Ensemble,
    FreeAdps,
    LatticeVibrations,
    LiquidLike,
    RigidBodies,
    RigidBody,
    Uncorrelated,
)
from offbragg.errors import InputError

logger = logging.getLogger(__name__)

# Models whose options are their own fields.
_FROM_FIELDS: Mapping[str, type[Any]] = {
    "uncorrelated": Uncorrelated,
    "rigid-body": RigidBody,
    "liquid-like": LiquidLike,
    "elastic-network": ElasticNetwork,
    "lattice-vibrations": LatticeVibrations,
    "ensemble": Ensemble,
}
# Options of models that are made from files.
_FROM_FILES: Mapping[str, tuple[str, ...]] = {
    "free-adps": (),
    "tls": ("tls_file", "tls_adps"),
    "covariance": ("covariance", "covariance_factor", "basis", "n_modes", "bodies"),
    "ensemble": ("ensemble", "topology", "stride", "superpose"),
}
_NEEDED = {
    "liquid-like": ("rms_displacement", "correlation_length"),
    "lattice-vibrations": ("n_cells",),
}
_START_OF_FIT = {"rms_displacement": 0.4, "correlation_length": 8.0}


def options_of(model: str) -> frozenset[str]:
    """Names of the options that a model takes."""
    known = {f.name for f in fields(ModelOptions)} - {"model"}
    own = {f.name for f in fields(_FROM_FIELDS[model])} if model in _FROM_FIELDS else set()
    return frozenset(known & own | set(_FROM_FILES.get(model, ())))


def load_model(
    path: Path,
    atoms: StructureOptions,
    options: ModelOptions,
    *,
    adps: str = "model",
    for_fit: bool = False,
) -> tuple[AtomicStructure, DisorderModel]:
    """Read a structure and build the model, or the sum of models, that the options name.

    Parameters
    ----------
    path : Path
        Of the structure.
    atoms : StructureOptions
    options : ModelOptions
    adps : str
        As the intensity is to be computed; with "file" the structure gets the ADPs that its file
        means.
    for_fit : bool
        Fill numbers that were not given with a start for a fit.

    Returns
    -------
    structure : AtomicStructure
        With an ensemble: atoms at the mean of the frames.
    model : DisorderModel

    Raises
    ------
    InputError, FormatError, MissingFileError
        If something that a model needs is missing, an option is of another model, or a file
        cannot be read or does not fit the structure.
    """
    _check_options(options, adps, for_fit=for_fit)
    frames = None
    if "ensemble" in options.model and options.ensemble is None:
        structure, frames = load_frames(path, atoms, options)
    else:
        structure = load_structure(path, atoms)
    if "ensemble" in options.model and options.ensemble is not None:
        frames = _frames_of(structure, path, atoms, options, options.ensemble)
    models: list[DisorderModel] = []
    for name in options.model:
        if name == "tls":
            groups = _tls_groups(options.tls_file or path, structure)
            if adps == "file" and _are_residual(path, options):
                structure = add_tls_to_adps(structure, groups)
            models.append(RigidBodies.from_tls(groups, structure))
        elif name == "ensemble" and frames is not None:
            ensemble = make_ensemble(frames, options)
            structure = ensemble.coherent_unit(structure)
            models.append(ensemble)
        else:
            models.append(_model(name, options, structure, for_fit=for_fit))
    total = models[0]
    for model in models[1:]:
        total = total + model
    return structure, total


def _model(
    name: str, options: ModelOptions, structure: AtomicStructure, *, for_fit: bool
) -> DisorderModel:
    """Make a model that needs nothing beside options and structure."""
    if name == "free-adps":
        share = 1.0 if len(options.model) == 1 else 0.5  # the other motions have theirs
        return FreeAdps.of(structure, share)
    if name == "covariance":
        return covariance_model(options, structure)
    values = _field_values(name, options, structure)
    start = _START_OF_FIT if for_fit and name == "liquid-like" else {}
    for field, value in start.items():
        values.setdefault(field, value)
    model: DisorderModel = _FROM_FIELDS[name](**values)
    return model


def load_frames(
    path: Path, atoms: StructureOptions, options: EnsembleOptions
) -> tuple[AtomicStructure, FloatArray]:
    """Read frames (n_frames, n_atoms, 3) [Å] and the structure that they are of."""
    stride = 1 if options.stride is None else options.stride
    structure, frames = read_ensemble(
        path, options.topology, atoms.cell, atoms.space_group, atoms.select, stride
    )
    if len(frames) < 2:
        raise InputError(f"{path}: expected at least 2 models or frames, found {len(frames)}")
    return structure, frames


def make_ensemble(frames: FloatArray, options: EnsembleOptions) -> Ensemble:
    """Make the model of frames; a number or word that was not given is the model's own."""
    values: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("approximation", "damped")
        if getattr(options, name, None) is not None
    }
    weights = None if options.weights is None else read_numbers("--weights", options.weights)
    return Ensemble(frames, weights, superposed=bool(options.superpose), **values)


def _check_options(options: ModelOptions, adps: str, *, for_fit: bool) -> None:
    """Check that each option is of a named model, and that none is missing."""
    named = options.model
    if not named or len(set(named)) < len(named):
        raise InputError(f"--model: expected names, each once, got {' '.join(named) or 'none'}")
    every = [*_FROM_FIELDS, *(name for name in _FROM_FILES if name not in _FROM_FIELDS)]
    for f in fields(options):
        if f.name == "model" or getattr(options, f.name) is None:
            continue
        owners = [name for name in every if f.name in options_of(name)]
        if not set(owners) & set(named):
            raise InputError(
                f"--{flag_name(f.name)} belongs to --model {' or '.join(owners)}, "
                f"got {' and '.join(named)}"
            )
    for name in named:
        needed = _NEEDED.get(name, ())
        missing = [n for n in needed if getattr(options, n) is None]
        if missing and not (for_fit and name == "liquid-like"):
            flags = " and ".join(f"--{flag_name(n)}" for n in needed)
            raise InputError(f"--model {name} needs {flags}")
    if "rigid-body" in named and options.translation is None and options.libration is None:
        raise InputError("--model rigid-body needs --translation or --libration")
    if options.tls_adps is not None and adps != "file":
        raise InputError(f"--tls-adps needs --adps file, got {adps}")


def _field_values(name: str, options: ModelOptions, structure: AtomicStructure) -> dict[str, Any]:
    """Fields of a model that were given, as the model takes them."""
    values: dict[str, Any] = {}
    for field in sorted(options_of(name)):
        value = getattr(options, field)
        if value is None:
            continue
        flag = f"--{flag_name(field)}"
        if field in ("translation", "libration"):
            value = _tensor(flag, value)
        elif field == "screw":
            value = _nine(flag, value)
        elif field == "rms_displacement":
            value = _one_or_three(flag, value)
        elif field == "order":
            value = _order(value)
        elif field == "bodies":
            value = bodies_asked(structure, value)
        values[field] = value
    return values


def _order(text: str) -> str | int:
    if text in ("", "exact"):
        return "exact"
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--order must be exact or a whole number, got {text!r}") from None


def _one_or_three(flag: str, numbers: tuple[float, ...]) -> float | tuple[float, ...]:
    if len(numbers) not in (1, 3):
        raise InputError(f"{flag} must be one number or three (x y z), got {len(numbers)}")
    return numbers[0] if len(numbers) == 1 else numbers


def _tensor(flag: str, numbers: tuple[float, ...]) -> FloatArray:
    if len(numbers) == 1:
        return numbers[0] * np.eye(3)
    if len(numbers) != 6:
        raise InputError(
            f"{flag} must be one number or six (xx yy zz xy xz yz), got {len(numbers)}"
        )
    xx, yy, zz, xy, xz, yz = numbers
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def _nine(flag: str, numbers: tuple[float, ...]) -> FloatArray:
    if len(numbers) != 9:
        raise InputError(f"{flag} must be nine numbers, row by row, got {len(numbers)}")
    return np.array(numbers).reshape(3, 3)


def _tls_groups(path: Path, structure: AtomicStructure) -> tuple[TlsGroup, ...]:
    groups = read_tls_groups(path, structure)
    if not groups:
        raise InputError(
            f"{path}: no TLS groups of these atoms (REMARK 3, or _pdbx_refine_tls of mmCIF): "
            "give a file that has them with --tls-file"
        )
    return groups


def _are_residual(path: Path, options: ModelOptions) -> bool:
    """Whether the ADPs of a structure's file leave out what TLS describes."""
    if options.tls_adps in (None, "auto"):
        said = are_adps_residual(path)
        if said is None:
            logger.info("%s does not say whether its ADPs hold TLS: taken as total", path)
        return bool(said)
    return options.tls_adps == "residual"


def _frames_of(
    structure: AtomicStructure,
    path: Path,
    atoms: StructureOptions,
    options: ModelOptions,
    file: Path,
) -> FloatArray:
    """Frames of a file beside the structure, after checking that they are of its atoms."""
    holds_names = file.name.lower().removesuffix(".gz").endswith(MODEL_SUFFIXES)
    topology = path if options.topology is None and not holds_names else options.topology
    stride = 1 if options.stride is None else options.stride
    cell, group = structure.cell, structure.space_group
    found, frames = read_ensemble(file, topology, cell, group, atoms.select, stride)
    if found.n_atoms != structure.n_atoms:
        raise InputError(
            f"{file}: expected frames of the {structure.n_atoms} atoms of {path}, "
            f"found {found.n_atoms}"
        )
    wrong = np.flatnonzero(found.elements != structure.elements)
    if len(wrong):
        first = int(wrong[0])
        raise InputError(
            f"{file}: expected the atoms of {path} in their order, atom {structure.label(first)}, "
            f"found {found.label(first)}"
        )
    other = np.flatnonzero(found.names != structure.names)
    if len(other):
        first = int(other[0])
        logger.warning(
            "%s: names of %d atoms are not those of %s, the first %s for %s",
            file, len(other), path, found.label(first), structure.label(first),
        )  # fmt: skip
    return frames
