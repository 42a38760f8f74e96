"""Write docs/accuracy.md from docs/results/accuracy.json; with --check, only tell if it is current.

make prove PARTS=accuracy
python docs/make_accuracy.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results" / "accuracy.json", HERE / "accuracy.md"
LIMIT = 1e-3

INTRODUCTION = """\
# How exact the forward models are

Every method and every model against plain double sums over atoms, at the same voxels: V written out
from its formula, the pairs of a crystal listed anew. Made by `make prove PARTS=accuracy`, commit
{commit}, {time}, {cores} cores ({processor}); this page is `python docs/make_accuracy.py`.

- **error / shell mean**: |computed − exact| over the mean of all voxels of the same 0.01 Å⁻¹ in
  1/d, largest and median. Nothing is left out but the node q = 0 itself, where the intensity is
  exactly 0. Where q → 0 the shell mean goes to 0 too, as q²: this is the hardest place.
- **/ map mean**: the largest error over the mean of the whole map.
- **compared**: for the peptides all voxels of half of the map; else those with d > 10 Å, 300 at
  most, a third of them the nearest to q = 0, and 200 by chance; fewer for the crystal.
- **s, MiB**: for as many voxels as said, on a machine that others may have used too; memory is what
  the call added at its highest, the map included.
- One copy in P 1, where errors of copies cannot cancel; motions across copies in the structure's
  own space group.
- "direct" is itself compared with the slow textbook sum (`scattering/reference.py`), at a few
  voxels.
- "one-phonon" is an approximation: one line says how exactly it gives its own formula, one how far
  that is from the truth. "sampled" is a mean over {n_samples} draws: its errors are to be read
  beside its standard error.

Exact methods must stay below {limit:g} of the shell mean at the default tolerance,
rtol = {default_rtol:g}; **bold**: they do not.
"""


def page(record: dict[str, Any]) -> str:
    """The whole page."""
    machine = record["machine"]
    text = INTRODUCTION.format(
        commit=f"`{record['commit']}`",
        time=record["time"][:10],
        cores=machine["cores"],
        processor=machine["processor"],
        n_samples=record["n_samples"],
        limit=LIMIT,
        default_rtol=record["default_rtol"],
    )
    lines = [text]
    for name, what in record["structures"].items():
        rows = [row for row in record["rows"] if row["structure"] == name]
        lines += [f"## {what}", "", *_main_table(rows, record["default_rtol"]), ""]
        lines += _ladder(rows)
    return "\n".join(lines).rstrip() + "\n"


def _main_table(rows: list[dict[str, Any]], default: float) -> Iterator[str]:
    """One line a model and method, at the default tolerance."""
    yield (
        "| model | method | compared | largest / shell mean | at d, Å | median / shell mean | "
        "largest / map mean | voxels | s | MiB |"
    )
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    shown = ""
    for row in rows:
        if row["rtol"] not in (None, default):
            continue
        model = row["model"] if row["model"] != shown else ""
        shown = row["model"]
        largest = _number(row["largest"])
        if row["kind"] == "exact" and row["largest"] > LIMIT:
            largest = f"**{largest}**"
        yield (
            f"| {model} | {_method(row)} | {_count(row['n_compared'])} | {largest} | "
            f"{row['at_d']:.1f} | {_number(row['median'])} | {_number(row['largest_of_mean'])} | "
            f"{_count(row['n_evaluated'])} | {_seconds(row['seconds'])} | "
            f"{row['memory_mib']:.0f} |"
        )


def _ladder(rows: list[dict[str, Any]]) -> Iterator[str]:
    """How the largest error falls with the tolerance asked for."""
    rtols = sorted({row["rtol"] for row in rows if row["rtol"] is not None}, reverse=True)
    lines = []
    for model, method in dict.fromkeys((row["model"], row["method"]) for row in rows):
        own = {
            row["rtol"]: row
            for row in rows
            if (row["model"], row["method"], row["kind"]) == (model, method, "exact")
        }
        if all(rtol in own for rtol in rtols) and len(rtols) > 1:
            errors = " | ".join(_number(own[rtol]["largest"]) for rtol in rtols)
            times = " | ".join(_seconds(own[rtol]["seconds"]) for rtol in rtols)
            lines.append(f"| {model} | {method} | {errors} | {times} |")
    if not lines:
        return
    yield "Largest error / shell mean, and seconds, by the tolerance asked for:"
    yield ""
    heads = " | ".join(f"{rtol:g}" for rtol in rtols)
    yield f"| model | method | {heads} | " + " | ".join(f"{rtol:g}: s" for rtol in rtols) + " |"
    yield "|---|---|" + "--:|" * (2 * len(rtols))
    yield from lines
    yield ""


def _method(row: dict[str, Any]) -> str:
    if row["kind"] == "approximation":
        return f"{row['method']} (approximation)"
    if row["kind"] == "sampled":
        share, z = _number(row["standard_error"]), row["rms_z"]
        return f"sampled (standard error {share}, rms error/σ {z:.2f})"
    against = "" if row["against"] == "direct sum" else f" v {row['against']}"
    return row["method"] + against


def _number(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return "0" if value == 0 else f"{mantissa}e{int(exponent)}"


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.0f}"


def _count(value: int) -> str:
    return f"{value:,}".replace(",", " ")


def main() -> int:
    """Write or check the page; 1 where a check finds a difference."""
    wanted = page(json.loads(RESULTS.read_text(encoding="utf-8")))
    if "--check" not in sys.argv:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    is_current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == wanted
    if not is_current:
        sys.stderr.write("docs/accuracy.md is not current: run python docs/make_accuracy.py\n")
    return 0 if is_current else 1


if __name__ == "__main__":
    sys.exit(main())
