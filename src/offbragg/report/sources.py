"""What a path given to `offbragg report` is: a map, or what fit, infer or rank wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.inference.ranking import RankedModel
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.io import read_map
from offbragg.maps.provenance import hash_file
from offbragg.report.facts import MapFacts
from offbragg.report.records import FitRecord, InferredRecord, read_ranking

_Record = TypeVar("_Record")
_EXPECTED = "expected a map (.h5), a folder of fit or infer, or a .json file of fit, infer or rank"
_FILES = ("parameters.json", "inferred.json", "ranking.json")


@dataclass(frozen=True, eq=False)
class Source:
    """One thing to report on; one of the four last fields is given.

    Attributes
    ----------
    path : Path
    digest : str
        SHA-256 of the file that says what it is.
    observed : DiffuseMap or None
        Of a fit or an inference, the map that it was made from, as far as it was fitted.
    """

    path: Path
    digest: str
    facts: MapFacts | None = None
    fit: FitRecord | None = None
    inferred: InferredRecord | None = None
    ranking: Sequence[RankedModel] | None = None
    observed: DiffuseMap | None = None

    @property
    def name(self) -> str:
        """Name of the file or folder, without those that it lies in."""
        return self.path.resolve().name

    @property
    def kind(self) -> str:
        """Map, fit, inference or ranking."""
        if self.facts is not None:
            return "map"
        if self.fit is not None:
            return "fit"
        return "inference" if self.inferred is not None else "ranking"


def read_source(path: str | Path) -> Source:
    """Read what a path holds.

    Raises
    ------
    MissingFileError
        If it is not there, or a folder lacks a map that belongs to it.
    FormatError
        If it is none of the kinds that reports are made of, or damaged.
    InputError
        If a map's group does not fit it, or no voxel is measured.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"{path}: no such file or folder")
    if path.is_dir():
        found = [path / name for name in _FILES if (path / name).is_file()]
        if not found:
            raise FormatError(f"{path}: {_EXPECTED}, found a folder without {' or '.join(_FILES)}")
        return _read_results(found[0], path)
    if path.suffix.lower() == ".json":
        return _read_results(path, path)
    try:
        diffuse_map = read_map(path)
    except FormatError as error:
        raise FormatError(f"{error} ({_EXPECTED})") from None
    try:
        return Source(path, hash_file(path), facts=MapFacts.of(diffuse_map))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read_results(file: Path, named: Path) -> Source:
    """Read a JSON file, and the maps beside it."""
    try:
        figures = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"{file}: expected JSON, {error}") from None
    keys = set(figures) if isinstance(figures, Mapping) else set()
    digest = hash_file(file)
    if "ranking" in keys:
        ranked = _converted(file, read_ranking, figures)
        if not ranked:
            raise FormatError(f"{file}: ranking: expected at least one model, found none")
        return Source(named, digest, ranking=ranked)
    if {"linear", "exact"} <= keys:
        model_map, observed = _maps_beside(file)
        inferred = _converted(file, lambda x: InferredRecord.read(x, model_map), figures)
        return Source(named, digest, inferred=inferred, observed=observed)
    if {"parameters", "statistics"} <= keys:
        model_map, observed = _maps_beside(file)
        fit = _converted(file, lambda x: FitRecord.read(x, model_map), figures)
        return Source(named, digest, fit=fit, observed=observed)
    raise FormatError(f"{file}: {_EXPECTED}, found JSON of something else")


def _converted(
    file: Path, convert: Callable[[Mapping[str, Any]], _Record], figures: Mapping[str, Any]
) -> _Record:
    try:
        return convert(figures)
    except KeyError as error:
        raise FormatError(f"{file}: {error.args[0]}: expected an entry, found none") from None
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise FormatError(f"{file}: not as the command wrote it: {error}") from None


def _maps_beside(file: Path) -> tuple[DiffuseMap, DiffuseMap]:
    """Read the model's map, and the observed one, which is that and the residual."""
    model_map, residual = (read_map(file.parent / name) for name in ("model.h5", "residual.h5"))
    if not model_map.grid.same_voxels(residual.grid):
        raise FormatError(f"{file.parent}: model.h5 and residual.h5 must have the same voxels")
    return model_map, replace(
        residual,
        intensity=model_map.intensity + residual.intensity,
        statistics={},
        provenance=model_map.provenance[:-1],
    )
