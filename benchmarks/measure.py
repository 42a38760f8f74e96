"""Time and memory of one thing: best of several runs, peaks that do not mask each other."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from benchmarks.results import ROOT, peak_memory_gib

T = TypeVar("T")
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Measured(Generic[T]):
    """What a call returned, its wall time [s] and how far memory rose above its start [MiB]."""

    result: T
    seconds: float
    memory_mib: float


def measured(run: Callable[[], T]) -> Measured[T]:
    """Run once; the peak is that of this call alone where the system lets it be reset (Linux)."""
    if _CLEAR.is_file():
        _CLEAR.write_text("5")
    before = _resident("VmRSS")
    start = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    return Measured(result, seconds, max(_resident("VmHWM") - before, 0.0))


def best_of(n: int, run: Callable[[], object]) -> float:
    """Shortest wall time [s] of n runs: on a shared machine the others had company."""
    times = []
    for _ in range(n):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_memory_gb() -> float:
    """Largest resident memory [10⁹ bytes] of this process.

    Not from getrusage where it can be helped: that carries the parent's peak over.
    """
    if _STATUS.is_file():
        return _resident("VmHWM") * 2**20 / 1e9
    return peak_memory_gib() * 2**30 / 1e9


def run_cases(
    module: str, names: Iterable[str], run: Callable[[str], dict[str, float]], size: str
) -> dict[str, dict[str, float]]:
    """Figures of each case, run in a process of its own so that no other's memory is seen.

    Reduced forms run here: starting processes would take longer than they do. In the process that
    was started for a case this does not return.
    """
    if "--case" in sys.argv:
        figures = run(sys.argv[sys.argv.index("--case") + 1])
        Path(sys.argv[sys.argv.index("--out") + 1]).write_text(json.dumps(figures))
        sys.exit(0)
    if size == "small":
        return {name: run(name) for name in names}
    return {name: _in_own_process(module, name, size) for name in names}


def _in_own_process(module: str, case: str, size: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "case.json"
        command = [sys.executable, "-m", module, "--case", case, "--size", size, "--out", str(out)]
        subprocess.run(command, cwd=ROOT, check=True)
        figures: dict[str, float] = json.loads(out.read_text())
    return figures


def _resident(key: str) -> float:
    """A line of the process's status [MiB]; 0 where there is none."""
    if not _STATUS.is_file():
        return 0.0
    lines = [line for line in _STATUS.read_text().splitlines() if line.startswith(key)]
    return float(lines[0].split()[1]) / 1024 if lines else 0.0
