"""Timings and memory (SIZE=small: reduced), as ratios to yardsticks measured in the same run."""

import sys

from benchmarks.results import parts_asked, run_all, size_asked

PARTS = [
    "simulate", "adjoint", "gemm", "scaling", "voxelize", "images", "scale", "inference", "view",
]  # fmt: skip

if __name__ == "__main__":
    sys.exit(run_all("bench", parts_asked(PARTS), size_asked()))
