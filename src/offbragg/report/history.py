"""How a map came to be: its steps, the files that went in, and every option."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from offbragg.inference.options import FitOptions
from offbragg.maps.provenance import plain
from offbragg.reduction.options import MapOptions
from offbragg.reduction.standard_scaling import ScalingOptions
from offbragg.report.page import Page
from offbragg.simulation import SimulationOptions

_OPTIONS: Mapping[str, type] = {
    "map": MapOptions,
    "scale": ScalingOptions,
    "simulate": SimulationOptions,
    "fit": FitOptions,
}
#: What each step does, for people who did not run it.
_WORDS = {
    "map": "images corrected and averaged in voxels of reciprocal space",
    "scale": "observations brought to a common scale by their equivalents, outliers left out",
    "merge": "equivalent voxels averaged",
    "split-friedel": "Friedel mates split into mean and difference",
    "simulate": "computed from a structure and a model of its motions",
    "fit": "the fitted model's map",
    "infer": "the inferred covariance's map",
    "import": "read from a file of another program",
    "reindex": "indices changed",
    "absolute": "put on the scale of electrons",
}


def add_history(page: Page, provenance: Sequence[Mapping[str, Any]]) -> None:
    """Add how a map was made: steps, files with their hashes, and options.

    Options that differ from the defaults are shown, all others to be opened.
    """
    page.heading("How it was made")
    if not provenance:
        page.text("The file does not say.")
        return
    page.table(
        ("step", "what it does", "version", "time (UTC)"),
        [
            (
                step.get("command"),
                _WORDS.get(str(step.get("command")), ""),
                f"{step.get('program', '')} {step.get('version', '')}".strip(),
                str(step.get("time", "")).replace("T", " ").removesuffix("+00:00"),
            )
            for step in provenance
        ],
        "Steps, in their order",
    )
    files = [entry for step in provenance for entry in input_files(step)]
    if files:
        page.table(
            ("step", "file", "SHA-256"),
            files,
            "Files that went in",
            {"SHA-256": "a fingerprint of the file: the same one, the same content"},
        )
    for step in provenance:
        _add_options(page, step)


def input_files(step: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Step, name and hash of each file that a step read, and its images."""
    command = str(step.get("command", ""))
    inputs = step.get("inputs") or {}
    if isinstance(inputs, Mapping):
        named = list(inputs.items())
    else:
        named = [(entry.get("name", ""), entry.get("sha256", "")) for entry in inputs]
    found = [(command, str(name), str(digest)) for name, digest in named]
    for sweep in step.get("images") or ():
        found.append((command, f"{sweep['template']} ({sweep['n_images']} images)", "–"))
    return found


def _add_options(page: Page, step: Mapping[str, Any]) -> None:
    """The options of a step, those that differ from the defaults first."""
    command, options = str(step.get("command", "")), dict(step.get("options") or {})
    if step.get("model"):
        page.code(f"Model of {command}: ", str(step["model"]))
    if not options:
        return
    known = _OPTIONS.get(command)
    defaults = default_options(known) if known else {}
    words = option_words(known) if known else {}
    changed = {n: v for n, v in options.items() if n not in defaults or defaults[n] != v}
    heads = ("option", "value", "what it is") if words else ("option", "value")

    def rows(names: Mapping[str, Any]) -> list[tuple[object, ...]]:
        return [(n, told(v), words.get(n, "")) if words else (n, told(v)) for n, v in names.items()]

    if changed:
        said = "that are not the defaults" if defaults else ""
        page.table(heads, rows(changed), f"Options of {command} {said}".strip())
    rest = {name: value for name, value in options.items() if name not in changed}
    if rest:
        with page.details(f"{len(rest)} more options of {command}, all at their defaults"):
            page.table(heads, rows(rest), f"Options of {command} at their defaults")


def told(value: object) -> str:
    """Write an option's value for people.

    >>> told([3, 3, 3]), told(None), told(False), told(1e-6), told({"a": 1})
    ('3, 3, 3', '–', 'no', '1e-06', '{"a": 1}')
    """
    if value is None or value == [] or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list) and not any(isinstance(x, list | dict) for x in value):
        return ", ".join(told(x) for x in value)
    return value if isinstance(value, str) else json.dumps(value)


def default_options(kind: type) -> dict[str, Any]:
    """Defaults of a dataclass of options as they are stored; of those that have one.

    >>> default_options(MapOptions)["bragg"]
    'exclude'
    """
    found = {}
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            found[field.name] = plain(field.default)
    return found


def option_words(kind: type) -> dict[str, str]:
    """First sentence of what the docstrings of a dataclass and its bases say of each field.

    >>> option_words(MapOptions)["d_min"], option_words(MapOptions)["mask"]
    ('Resolution limit [Å].', 'File of pixels to exclude.')
    """
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        doc = inspect.cleandoc(base.__doc__ or "")
        _, _, attributes = doc.partition("Attributes\n----------\n")
        for part in re.split(r"\n(?=\S)", attributes.split("\n\n")[0]):
            head, _, body = part.partition("\n")
            text = re.sub(r",? see `\w+`", "", " ".join(body.split())).replace("`", "")
            sentence = re.split(r"(?<=[.])\s+(?=[A-Z0-9(])", text)[0]
            for name in head.partition(" : ")[0].split(", "):
                found[name] = sentence
    return {name: text for name, text in found.items() if text}
