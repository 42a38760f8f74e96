"""Figures of proofs and timings: gathered, judged against limits, written as small JSON."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class Limit:
    """A figure and the range that it must lie in."""

    name: str
    value: float
    at_least: float = float("-inf")
    at_most: float = float("inf")

    @property
    def holds(self) -> bool:
        return self.at_least <= self.value <= self.at_most

    def __str__(self) -> str:
        bounds = []
        if self.at_least > float("-inf"):
            bounds.append(f">= {self.at_least:g}")
        if self.at_most < float("inf"):
            bounds.append(f"<= {self.at_most:g}")
        verdict = "" if self.holds else "   MISSED"
        return f"  {self.name}: {self.value:.5g}  ({', '.join(bounds) or 'no limit'}){verdict}"


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def machine() -> dict[str, object]:
    """What the figures were measured on, without names or paths."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def commit() -> str:
    """The commit that was measured, with a + where files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def run_all(kind: str, names: list[str], size: str) -> int:
    """Run each part in a process of its own, print its figures, keep those of full size."""
    parts, failed = {}, False
    for name in names:
        sys.stdout.write(f"{kind} {name} ({size})\n")
        sys.stdout.flush()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "figures.json"
            module = f"benchmarks.{kind}_{name}"
            command = [sys.executable, "-m", module, "--size", size, "--out", str(out)]
            done = subprocess.run(command, cwd=ROOT, check=False)
            if done.returncode != 0 or not out.is_file():
                failed = True
                sys.stdout.write(f"  FAILED with exit code {done.returncode}\n")
                continue
            figures = json.loads(out.read_text())
            if "skipped" in figures:  # it keeps its last figures
                sys.stdout.write(f"  SKIPPED: {figures['skipped']}\n")
                continue
            parts[name] = figures
        for entry in parts[name].get("limits", []):
            limit = Limit(**entry)
            failed |= not limit.holds
            sys.stdout.write(f"{limit}\n")
        for line in parts[name].get("notes", []):
            sys.stdout.write(f"  {line}\n")
    if size == "full":
        path = ROOT / "docs" / "results" / f"{kind}.json"
        kept = json.loads(path.read_text())["parts"] if path.is_file() else {}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for part in parts.values():
            part |= {"commit": commit(), "time": now, "machine": machine()}
        record = {"command": f"make {kind}", "parts": kept | parts}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if failed else 0


def skip(reason: str) -> None:
    """Say why a part cannot run here, in place of figures: no limit is missed by that."""
    out = Path(sys.argv[sys.argv.index("--out") + 1])
    out.write_text(json.dumps({"skipped": reason}))


def finish(limits: list[Limit], notes: list[str], **figures: object) -> None:
    """Write one part's figures where the command line says."""
    out = Path(sys.argv[sys.argv.index("--out") + 1])
    entries = [
        {
            "name": x.name,
            "value": x.value,
            **({"at_least": x.at_least} if x.at_least > float("-inf") else {}),
            **({"at_most": x.at_most} if x.at_most < float("inf") else {}),
        }
        for x in limits
    ]
    out.write_text(json.dumps({"limits": entries, "notes": notes, **figures}))


def parts_asked(every: list[str]) -> list[str]:
    """The parts named in PARTS, or all; those that are not run keep their last figures."""
    return os.environ.get("PARTS", "").split() or every


def size_asked() -> str:
    """``"full"`` or ``"small"``, from the command line or SIZE."""
    if "--size" in sys.argv:
        return sys.argv[sys.argv.index("--size") + 1]
    return os.environ.get("SIZE", "full")
