"""Disorder models from options of the command line."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np

from offbragg.disorder import Covariance, DisorderModel, LiquidLike, RigidBody, Uncorrelated
from offbragg.errors import FormatError, InputError, MissingFileError

ModelName = Literal["uncorrelated", "rigid-body", "liquid-like", "covariance"]

_BELONGS = {
    "rms_displacement": "liquid-like",
    "correlation_length": "liquid-like",
    "kernel": "liquid-like",
    "coherence": "liquid-like",
    "order": "liquid-like",
    "translation": "rigid-body",
    "covariance": "covariance",
}


@dataclass(frozen=True)
class ModelOptions:
    """How the atoms move.

    Attributes
    ----------
    model : str
        Disorder model.
    rms_displacement : float or None
        Liquid-like: σ [Å], per axis.
    correlation_length : float or None
        Liquid-like: γ [Å].
    kernel : str or None
        Liquid-like: how the correlation falls off.
    coherence : str or None
        Liquid-like: which atoms are correlated.
    order : str or None
        Liquid-like: "exact", or a whole number for the series up to that power.
    translation : tuple of float or None
        Rigid body: T [Å²], one number, or six: xx yy zz xy xz yz.
    covariance : Path or None
        Covariance: a .npy file of V_ij [Å²], (n, n) or (n, n, 3, 3).
    """

    model: ModelName
    rms_displacement: float | None = None
    correlation_length: float | None = None
    kernel: Literal["exponential", "gaussian"] | None = None
    coherence: Literal["asu", "cell"] | None = None
    order: str | None = None
    translation: tuple[float, ...] | None = None
    covariance: Path | None = None


def build_model(options: ModelOptions, *, for_fit: bool = False) -> DisorderModel:
    """Build the model that the options name.

    Parameters
    ----------
    options : ModelOptions
    for_fit : bool
        Fill numbers that were not given with a start for a fit.

    Raises
    ------
    InputError
        If a number that the model needs is missing, or an option is of another model.
    """
    for f in fields(options):
        owner = _BELONGS.get(f.name)
        if owner and getattr(options, f.name) is not None and owner != options.model:
            raise InputError(
                f"--{f.name.replace('_', '-')} belongs to --model {owner}, got {options.model}"
            )
    if options.model == "uncorrelated":
        return Uncorrelated()
    if options.model == "liquid-like":
        return _liquid_like(options, for_fit=for_fit)
    if options.model == "rigid-body":
        return RigidBody(translation=_tensor(options.translation))
    return Covariance(_read_covariance(options.covariance))


def _liquid_like(options: ModelOptions, *, for_fit: bool) -> LiquidLike:
    sigma, length = options.rms_displacement, options.correlation_length
    if for_fit:
        sigma = 0.4 if sigma is None else sigma
        length = 8.0 if length is None else length
    if sigma is None or length is None:
        raise InputError("--model liquid-like needs --rms-displacement and --correlation-length")
    order: str | int = options.order or "exact"
    if order != "exact":
        try:
            order = int(order)
        except ValueError:
            raise InputError(f"--order must be exact or a whole number, got {order!r}") from None
    return LiquidLike(
        rms_displacement=sigma,
        correlation_length=length,
        kernel=options.kernel or "exponential",
        coherence=options.coherence or "asu",
        order=order,
    )


def _tensor(numbers: tuple[float, ...] | None) -> np.ndarray:
    if numbers is None:
        raise InputError("--model rigid-body needs --translation")
    if len(numbers) == 1:
        return numbers[0] * np.eye(3)
    if len(numbers) != 6:
        raise InputError(
            f"--translation must be one number or six (xx yy zz xy xz yz), got {len(numbers)}"
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
