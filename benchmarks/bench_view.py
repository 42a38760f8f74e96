"""A map of 501³ voxels in the viewer: how soon it is there, how soon a section is turned.

Times are those of a person: from the command to the first section in a browser, from the key to
the drawn picture. Without Chromium the server alone is timed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

from benchmarks.results import Limit, finish, size_asked
from offbragg import DiffuseMap, HklGrid, write_map

CELL = (150.0, 160.0, 170.0, 80.0, 95.0, 100.0)
VOXELS = {"full": 250, "small": 30}  # on each side of the origin
SAMPLING, D_MIN = 3, {"full": 1.9, "small": 16.0}
OPEN_SECONDS, TURN_SECONDS = 3.0, 0.150
TURNS = 60
FLAGS = ["--disable-background-networking", "--disable-component-update", "--no-first-run"]


def write_large_map(path: Path, size: str) -> None:
    """Intensity that falls off, its noise, errors and counts."""
    axis = np.arange(-VOXELS[size], VOXELS[size] + 1) / SAMPLING
    grid = HklGrid(CELL, axis, axis, axis, (SAMPLING,) * 3, D_MIN[size])
    inv_d = grid.inv_d()
    beyond = inv_d > 1 / D_MIN[size]
    noise = np.random.default_rng(0).normal(0, 20, grid.shape)
    intensity = (1000 * np.exp(-2 * inv_d) + noise).astype(np.float32)
    sigma = np.full(grid.shape, 20, dtype=np.float32)
    for values in (intensity, sigma):
        values[beyond] = np.nan
    count = np.where(beyond, 0, 30).astype(np.int32)
    write_map(path, DiffuseMap(grid, intensity, sigma=sigma, count=count))


def start(path: Path) -> tuple[subprocess.Popen[str], str]:
    """The program, and the address that it prints."""
    program = str(Path(sys.executable).with_name("offbragg"))
    running = subprocess.Popen(
        [program, "view", str(path), "--no-browser"], stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    return running, running.stdout.readline().strip()


def time_server(url: str, levels: np.ndarray) -> list[float]:
    """Seconds until a section has come, one a level."""
    seconds = []
    for level in levels:
        begun = time.perf_counter()
        with urllib.request.urlopen(f"{url}maps/0/section?normal=l&level={level}") as answer:
            answer.read()
        seconds.append(time.perf_counter() - begun)
    return seconds


def time_page(page, action) -> float:
    """Seconds from an action to what it shows, on the page's own clock."""
    page.evaluate(
        """() => { window.begun = performance.now(); window.done = new Promise(resolve => {
             const stage = document.getElementById('stage');
             new MutationObserver((_, o) => {
               o.disconnect();
               requestAnimationFrame(() => resolve(performance.now() - window.begun));
             }).observe(stage, {attributes: true, attributeFilter: ['data-ready']}); }); }"""
    )
    action()
    return float(page.evaluate("() => window.done")) / 1000


def main() -> None:
    """Open and turn; reduced, a map of 61³."""
    size = size_asked()
    chromium = shutil.which("chromium")
    limits, notes = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.h5"
        write_large_map(path, size)
        begun = time.perf_counter()
        running, url = start(path)
        try:
            first = time_server(url, np.zeros(1))[0]
            served = time.perf_counter() - begun
            notes.append(
                f"server: first section {served:.2f} s after the command, itself {first:.2f} s"
            )
            last = (VOXELS[size] - 2) / SAMPLING
            jumps = time_server(url, np.random.default_rng(1).uniform(-last, last, TURNS))
            notes.append(f"server: jumps {np.median(jumps):.3f} s, at most {max(jumps):.3f} s")
            limits.append(Limit("server: first section [s]", served, at_most=OPEN_SECONDS))
            limits.append(
                Limit("server: median jump [s]", float(np.median(jumps)), at_most=TURN_SECONDS)
            )
            if chromium is None:
                notes.append("no Chromium: the page was not timed")
            else:
                browse(path, chromium, limits, notes)
        finally:
            running.terminate()
            running.wait()
    # What a small map takes says nothing: it is started and asked, no more.
    finish(limits if size == "full" else [], notes)


def browse(path: Path, chromium: str, limits: list[Limit], notes: list[str]) -> None:
    """The same as a person has it: a fresh program, and a browser that is open already."""
    from playwright.sync_api import sync_playwright

    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, *root])
        page = browser.new_page(viewport={"width": 1300, "height": 800})
        begun = time.perf_counter()
        running, url = start(path)
        try:
            page.goto(url)
            page.wait_for_function("document.getElementById('stage').dataset.ready")
            opened = time.perf_counter() - begun
            turns = [time_page(page, lambda: page.keyboard.press("]")) for _ in range(TURNS)]
            limits.append(Limit("page: open [s]", opened, at_most=OPEN_SECONDS))
            limits.append(
                Limit("page: median turn [s]", float(np.median(turns)), at_most=TURN_SECONDS)
            )
            limits.append(
                Limit(
                    "page: 9 of 10 turns [s]", float(np.quantile(turns, 0.9)), at_most=TURN_SECONDS
                )
            )
            notes.append(
                f"page: open {opened:.2f} s after the command; turning {np.median(turns):.3f} s, "
                f"at most {max(turns):.3f} s"
            )
        finally:
            running.terminate()
            running.wait()
            browser.close()


if __name__ == "__main__":
    main()
