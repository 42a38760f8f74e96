"""Cells, symmetry, grids and structures: everything that gemmi knows, as arrays."""
