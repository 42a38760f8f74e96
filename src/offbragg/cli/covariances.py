"""Covariances from files and from bases, as the command line names them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offbragg.cli.arrays import read_numbers
from offbragg.cli.fit_options import RefineOptions
from offbragg.cli.model_options import ModelOptions
from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder import BasisCovariance, Covariance, DisorderModel, bodies_of
from offbragg.disorder.bases import KINDS_OF_BASES, basis_of, start_in_basis
from offbragg.disorder.bodies import KINDS_OF_BODIES
from offbragg.errors import InputError
from offbragg.inference import low_rank_start
from offbragg.maps.diffuse_map import DiffuseMap


def covariance_model(options: ModelOptions, structure: AtomicStructure) -> DisorderModel:
    """Make the model that --covariance, --covariance-factor or --basis stands for.

    Raises
    ------
    InputError, FormatError, MissingFileError
        If not one of the three is given, or it cannot be read or does not fit the structure.
    """
    given = (options.covariance, options.covariance_factor, options.basis)
    if sum(x is not None for x in given) != 1:
        raise InputError(
            "--model covariance needs one of --covariance FILE.npy, --covariance-factor FILE.npy "
            "and --basis NAME"
        )
    _check_alone(options)
    if options.basis is not None:
        return start_in_basis(structure, _basis(options.basis, options, structure))
    if options.covariance is not None:
        return Covariance(read_numbers("--covariance", options.covariance))
    factor = options.covariance_factor or Path()
    return Covariance(factor=read_numbers("--covariance-factor", factor))


def freed_in_rank(
    model: DisorderModel,
    observed: DiffuseMap,
    structure: AtomicStructure,
    choice: RefineOptions,
) -> DisorderModel:
    """Put the largest motions that a map shows in a model's basis in its place, each atom's free.

    Raises
    ------
    InputError
        If no model has a basis, or as `low_rank_start`.
    """
    models = getattr(model, "models", (model,))
    with_basis = [m for m in models if isinstance(m, BasisCovariance)]
    if not with_basis or choice.rank is None:
        raise InputError("--rank needs --model covariance with --basis")
    share = 0.7 if len(models) == 1 else 0.5  # the other motions have theirs
    freed = low_rank_start(
        observed, structure, choice.rank, basis=with_basis[0].basis, share=share,
        d_min=choice.d_min, d_max=choice.d_max, background=choice.background,
    )  # fmt: skip
    total, *others = (freed if m is with_basis[0] else m for m in models)
    for other in others:
        total = total + other
    return total


def _check_alone(options: ModelOptions) -> None:
    """Check that no option of another basis was given; other models may take it."""
    for value, flag, kind in (
        (options.n_modes, "--n-modes", "modes"),
        (options.bodies, "--bodies", "tls"),
    ):
        if value is not None and options.basis != kind and len(options.model) == 1:
            raise InputError(f"{flag} belongs to --basis {kind}, got {options.basis or 'none'}")


def _basis(kind: str, options: ModelOptions, structure: AtomicStructure) -> FloatArray:
    """Displacements that a name or a file of --basis stands for."""
    if kind.endswith(".npy"):
        return read_numbers("--basis", Path(kind))
    if kind not in KINDS_OF_BASES:
        expected = f"one of {' '.join(KINDS_OF_BASES)} or a .npy file"
        raise InputError(f"--basis must be {expected}, got {kind!r}")
    values: dict[str, Any] = {}
    if kind == "modes" and options.n_modes is not None:
        values["n_modes"] = options.n_modes
    if kind == "tls" and options.bodies is not None:
        values["bodies"] = bodies_asked(structure, options.bodies)
    return basis_of(structure, kind, **values)


def bodies_asked(structure: AtomicStructure, names: Sequence[str]) -> tuple[IntArray, ...]:
    """Atoms of each body that --bodies names: a kind, or one selection a body."""
    is_kind = len(names) == 1 and names[0] in KINDS_OF_BODIES
    return bodies_of(structure, names[0] if is_kind else names)
