"""Pictures of the viewer for the docs: `python docs/make_screenshots.py MAP MODEL_MAP EXPT`.

The demo makes all three: `make demo`, then demo-output/map.h5, fit/model.h5 and images/*.expt.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent / "images"
SIZE = {"width": 1000, "height": 640}
COLOURS = 128  # of a picture, to keep it small
FLAGS = [
    "--disable-background-networking", "--disable-component-update", "--no-first-run",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
]  # fmt: skip
VIEWS = {
    "viewer_sections": "maps=0&plane=hk&nodes=1",
    "viewer_difference": "maps=0,1&mode=difference&plane=hl",
    "viewer_mates": "mode=mates&level=2",
    "viewer_delta_pdf": "pdf=0",
    "viewer_3d": "view=volume&maps=1&iso=1.8",
    "viewer_profile": "view=profile&maps=0,1",
    "viewer_images": "view=images",
}


def main() -> None:
    """Start the viewer, look at each view, keep what is seen."""
    program = str(Path(sys.executable).with_name("offbragg"))
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with (
        subprocess.Popen(
            [program, "view", *sys.argv[1:], "--no-browser"], stdout=subprocess.PIPE, text=True
        ) as running,
        sync_playwright() as playwright,
    ):
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=[*FLAGS, *root]
        )
        page = browser.new_page(viewport=SIZE)
        for name, state in VIEWS.items():
            page.goto("about:blank")
            page.goto(f"{url}#{state}")
            page.wait_for_function("document.getElementById('stage').dataset.ready")
            page.wait_for_timeout(500)
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.quantize(COLOURS).save(IMAGES / f"{name}.png", optimize=True)
        browser.close()
        running.terminate()


if __name__ == "__main__":
    main()
