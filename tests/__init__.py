"""A package, so that a dependency that installs one of this name does not take its place."""
