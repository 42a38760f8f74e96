"""A local web page to look at maps and images.

`offbragg.viewer.frames` is apart: it needs all that reads images, which a map does not wait for.
"""

from offbragg.viewer.collection import Collection
from offbragg.viewer.serve import ViewerServer, open_browser

__all__ = ["Collection", "ViewerServer", "open_browser"]
