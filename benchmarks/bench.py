"""Timings and memory (SIZE=small: reduced), as ratios to yardsticks measured in the same run."""

import sys

from benchmarks.results import run_all, size_asked

PARTS = ["simulate", "voxelize"]

if __name__ == "__main__":
    sys.exit(run_all("bench", PARTS, size_asked()))
