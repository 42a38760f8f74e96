"""Macromolecular diffuse X-ray scattering, from images to maps to correlated motions."""

import lazy_loader

# The names are those of `__init__.pyi`, each imported when it is first used: all take seconds.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
