"""The page in a browser: what is drawn and read is what is in the files.

Positions on the screen are worked out here from the cell by gemmi, and from the radius of a
resolution ring that the page draws.
"""

import base64
import csv
import json
import os
import re
import shutil
from io import StringIO

import gemmi
import numpy as np
import pytest
from tests.viewer.conftest import D_MIN, TRICLINIC

from offbragg import compare, compute_delta_pdf
from offbragg.maps.patterson import DeltaPdfOptions
from offbragg.maps.shells import anisotropic_part

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = next(
    (x for name in ("chromium", "chromium-browser", "google-chrome") if (x := shutil.which(name))),
    None,
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")

#: Without these a browser asks for updates at start; the last two draw 3D without a graphics card.
FLAGS = [
    "--disable-background-networking", "--disable-component-update", "--disable-quic",
    "--disable-sync", "--no-first-run", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
]  # fmt: skip

# The page writes four digits.
RTOL = 6e-4
TIMEOUT_MS = 60_000


@pytest.fixture(scope="module")
def browser():
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *root])
        yield opened
        opened.close()


class Viewer:
    """A page, the requests that it made, and whatever it complained of."""

    def __init__(self, page, server):
        self.page, self.server = page, server
        self.requests, self.errors = [], []
        page.set_default_timeout(TIMEOUT_MS)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)

    def open(self, state=""):
        self.page.goto("about:blank")
        self.page.goto(f"{self.server.url}#{state}")
        self.settle(1)

    def settle(self, at_least):
        """Wait until what was asked for is drawn, and nothing more is coming."""
        self.page.wait_for_function(
            f"Number(document.getElementById('stage').dataset.ready ?? 0) >= {at_least}"
        )
        self.idle()

    def idle(self):
        """Wait until no answer of the server is awaited."""
        self.page.wait_for_function("document.body.ariaBusy !== 'true'")

    def do(self, action):
        """Something that changes what is shown; waits for it."""
        drawn = int(self.page.get_attribute("#stage", "data-ready"))
        action()
        self.settle(drawn + 1)

    @property
    def state(self):
        return self.page.evaluate("location.hash")

    def readout(self, x, y, figure=0):
        """What is written when the mouse is at a place of a picture, in CSS pixels."""
        box = self.page.locator(".picture").nth(figure).bounding_box()
        self.page.mouse.move(box["x"] + x, box["y"] + y)
        self.page.wait_for_timeout(60)
        self.idle()
        return self.page.inner_text("#readout")

    def size(self, figure=0):
        box = self.page.locator(".picture").nth(figure).bounding_box()
        return box["width"], box["height"]


@pytest.fixture
def viewer(browser, server):
    page = browser.new_page(viewport={"width": 1000, "height": 700})
    made = Viewer(page, server)
    yield made
    page.close()
    assert made.errors == []
    # Nothing is asked of any other place.
    assert all(url.startswith((server.url, "about:", "data:", "blob:")) for url in made.requests)


def numbers_after(text, name):
    """The numbers that follow ``name =`` in a line."""
    found = re.search(rf"(?:^|\s){re.escape(name)} = ([-−0-9.e+ ]+)", text)
    assert found, f"{name} not in {text!r}"
    return [float(x.replace("−", "-")) for x in found.group(1).split()]


def place_of(viewer, hkl, normal, figure=0):
    """Where a voxel of a section along an axis is on the screen, by gemmi's cell."""
    cell = gemmi.UnitCell(*TRICLINIC)
    to_cartesian = np.array(cell.frac.mat.tolist())  # rows: a*, b*, c*
    first, second = (i for i in range(3) if i != normal)
    along = to_cartesian[first] / np.linalg.norm(to_cartesian[first])
    up = to_cartesian[second] - (to_cartesian[second] @ along) * along
    up /= np.linalg.norm(up)
    s = np.array(hkl) @ to_cartesian
    height = np.array([0, 0, 0], dtype=float)
    height[normal] = hkl[normal]
    off = np.cross(along, up) @ (height @ to_cartesian)
    rings = viewer.page.evaluate(
        """figure => [...document.querySelectorAll('.picture')[figure]
               .querySelectorAll('circle.ring')]
             .filter(c => c.nextSibling.tagName === 'text')
             .map(c => ['cx', 'cy', 'r'].map(n => +c.getAttribute(n)))""",
        figure,
    )
    labels = viewer.page.evaluate(
        """figure => [...document.querySelectorAll('.picture')[figure].querySelectorAll('text')]
             .map(t => t.textContent).filter(t => t.endsWith('Å'))""",
        figure,
    )
    assert len(rings) == len(labels)
    (cx, cy, r), d = rings[-1], float(labels[-1].removesuffix(" Å"))
    scale = r / np.sqrt(1 / d**2 - off**2)
    return cx + scale * (s @ along), cy - scale * (s @ up)


# --- opening, scrolling, reading -------------------------------------------


def test_it_opens_with_a_section_and_its_controls(viewer, maps):
    viewer.open()
    assert "first.h5" in viewer.page.title()
    assert viewer.page.inner_text("figcaption").startswith("first.h5, l = 0")
    tabs = viewer.page.locator("[role=tab]").all_inner_texts()
    assert tabs == ["Sections", "3D", "Profile", "Images"]
    # Every control has a name that a screen reader says.
    unnamed = viewer.page.evaluate(
        """() => [...document.querySelectorAll('input, select, button')].filter(x =>
             !(x.labels?.length || x.getAttribute('aria-label') || x.textContent.trim())).length"""
    )
    assert unnamed == 0


@pytest.mark.parametrize(
    ("plane", "normal", "hkl"),
    [("hk", 2, (2.5, -1.0, 1.5)), ("hl", 1, (-3.0, 2.0, 0.5)), ("kl", 0, (1.0, 3.0, -2.0))],
)
def test_values_under_the_mouse_are_the_arrays(viewer, maps, plane, normal, hkl):
    one = next(iter(maps.values()))
    viewer.open(f"plane={plane}&level={hkl[normal]}")
    text = viewer.readout(*place_of(viewer, hkl, normal))
    assert numbers_after(text, "h k l") == pytest.approx(list(hkl), abs=1e-3)
    index = tuple(one.grid.index_of(hkl)[0])
    part = anisotropic_part(one.intensity, one.grid.inv_d())
    for name, value in {
        "d": 1 / np.linalg.norm(np.array(hkl) @ one.grid.cell.frac_matrix),
        "I": one.intensity[index],
        "I − ⟨I⟩": part[index],
        "σ": one.sigma[index],
        "n": one.count[index],
    }.items():
        assert numbers_after(text, name)[0] == pytest.approx(value, rel=RTOL, abs=1e-3), name


def test_keys_slider_and_field_turn_sections(viewer):
    viewer.open()
    viewer.do(lambda: viewer.page.keyboard.press("PageUp"))
    assert "l = 0.5" in viewer.page.inner_text("figcaption")
    viewer.do(lambda: viewer.page.keyboard.press("["))
    viewer.do(lambda: viewer.page.keyboard.press("["))
    assert "l = -0.5" in viewer.page.inner_text("figcaption")
    viewer.do(lambda: viewer.page.fill("#slider", "0"))
    assert "l = -10" in viewer.page.inner_text("figcaption")
    viewer.do(lambda: viewer.page.keyboard.press("Home"))
    assert "l = 0" in viewer.page.inner_text("figcaption")
    viewer.do(lambda: (viewer.page.fill("#level", "2"), viewer.page.keyboard.press("Enter")))
    assert "l = 2" in viewer.page.inner_text("figcaption")


def test_the_cursor_reads_without_a_mouse(viewer, maps):
    one = next(iter(maps.values()))
    viewer.open("level=1")
    viewer.page.focus(".picture")
    viewer.page.keyboard.press("ArrowRight")
    viewer.page.keyboard.press("ArrowUp")
    viewer.page.wait_for_timeout(60)
    viewer.idle()
    text = viewer.page.inner_text("#readout")
    hkl = numbers_after(text, "h k l")
    index = tuple(one.grid.index_of(hkl)[0])
    assert numbers_after(text, "I")[0] == pytest.approx(one.intensity[index], rel=RTOL)
    assert viewer.page.get_attribute("#readout", "aria-live") == "polite"


def test_zoom_keeps_the_point_under_the_mouse(viewer):
    viewer.open("array=intensity&level=1")
    place = place_of(viewer, (3.0, 1.0, 1.0), 2)
    before = numbers_after(viewer.readout(*place), "h k l")
    viewer.do(lambda: viewer.page.mouse.wheel(0, -400))
    assert numbers_after(viewer.readout(*place), "h k l") == before
    assert "zoom=" in viewer.state


def test_nodes_and_rings_lie_where_they_should(viewer):
    viewer.open("nodes=1&level=1")
    circles = viewer.page.evaluate(
        """() => [...document.querySelectorAll('circle.node')]
             .map(c => ['cx', 'cy'].map(n => +c.getAttribute(n)))"""
    )
    wanted = np.array(place_of(viewer, (2.0, -3.0, 1.0), 2))
    assert np.min(np.linalg.norm(np.array(circles) - wanted, axis=1)) < 0.5
    viewer.do(lambda: viewer.page.keyboard.press("PageUp"))  # between nodes
    assert viewer.page.locator("circle.node").count() == 0


@pytest.mark.parametrize("contrast", ["linear", "log", "percentile"])
@pytest.mark.parametrize("array", ["anisotropic", "intensity", "count"])
def test_colours_follow_the_values(viewer, maps, contrast, array):
    """Brightness of pixels of the screen rises with the value where the colours are grey."""
    one = next(iter(maps.values()))
    viewer.open(f"array={array}&contrast={contrast}&colours=gray&rings=0&level=1")
    values = anisotropic_part(one.intensity, one.grid.inv_d()) if array == "anisotropic" else (
        getattr(one, array).astype(float)
    )  # fmt: skip
    found, grey = [], []
    viewer.do(lambda: viewer.page.check("#rings"))
    wanted = [(h, k, 1.0) for h in (-4.0, -2.5, 0.5, 2.0, 3.5) for k in (-4, -1, 2, 5)]
    places = [place_of(viewer, hkl, 2) for hkl in wanted]
    pixels = viewer.page.evaluate(
        """places => {
          const context = document.querySelector('.picture canvas').getContext('2d');
          return places.map(([x, y]) => [...context.getImageData(x, y, 1, 1).data]);
        }""",
        [[round(x), round(y)] for x, y in places],
    )
    for hkl, pixel in zip(wanted, pixels, strict=True):
        value = values[tuple(one.grid.index_of(hkl)[0])]
        if np.isnan(value):
            assert pixel[3] == 0  # not measured: nothing is drawn
            continue
        found.append(value)
        grey.append(pixel[0])
    order = np.argsort(found)
    assert np.all(np.diff(np.array(grey)[order]) >= -1)
    assert np.ptp(grey) > 60


# --- more than one map -----------------------------------------------------


def test_two_maps_side_by_side_are_linked(viewer, maps):
    one, other = maps.values()
    viewer.open("maps=0,1&level=1.5&array=intensity")
    assert viewer.page.locator("figure").count() == 2
    index = int(np.argmin(np.abs(one.grid.l - 1.5)))
    a, b = one.intensity[:, :, index], other.intensity[:, :, index]
    both = np.isfinite(a) & np.isfinite(b)
    text = viewer.page.locator(".cc").nth(1).inner_text()
    shown = float(text.rsplit(" ", 1)[-1])
    assert shown == pytest.approx(np.corrcoef(a[both], b[both])[0, 1], rel=RTOL)
    hkl = (2.0, 1.0, 1.5)
    text = viewer.readout(*place_of(viewer, hkl, 2, 1), figure=1)
    assert numbers_after(text, "I")[0] == pytest.approx(
        other.intensity[tuple(other.grid.index_of(hkl)[0])], rel=RTOL
    )
    viewer.do(lambda: viewer.page.keyboard.press("PageUp"))
    captions = viewer.page.locator("figcaption").all_inner_texts()
    assert all("l = 2" in caption for caption in captions)


def test_difference_and_cc_of_the_whole_maps(viewer, maps):
    one, other = maps.values()
    viewer.open("maps=0,1&mode=difference&array=intensity&level=1")
    assert viewer.page.locator("figure").count() == 3
    index = int(np.argmin(np.abs(one.grid.l - 1)))
    a, b = one.intensity[:, :, index], other.intensity[:, :, index]
    both = np.isfinite(a) & np.isfinite(b)
    scale = (a[both] @ b[both]) / (b[both] @ b[both])
    title = viewer.page.locator("figcaption").nth(2).inner_text()
    assert float(title.split()[2]) == pytest.approx(scale, rel=RTOL)
    hkl = (2.0, 1.0, 1.0)
    at = tuple(one.grid.index_of(hkl)[0])
    text = viewer.readout(*place_of(viewer, hkl, 2, 2), figure=2)
    expected = one.intensity[at] - scale * other.intensity[at]
    assert numbers_after(text, "I")[0] == pytest.approx(expected, abs=2e-2)
    viewer.page.click("#compare")
    viewer.page.wait_for_function("document.getElementById('whole-cc').textContent")
    found = re.search(r"parts ([-0-9.]+), R", viewer.page.inner_text("#whole-cc"))
    assert float(found.group(1)) == pytest.approx(compare(one, other).overall.cc, rel=RTOL)


def test_blinking_shows_one_and_then_the_other(viewer):
    viewer.open("maps=0,1&mode=blink")
    assert viewer.page.locator("figure").count() == 1
    for name in ("first", "second", "first"):
        viewer.page.wait_for_function(
            f"document.querySelector('figcaption').textContent.startsWith('{name}')"
        )


def test_mates_of_a_section(viewer):
    viewer.open("mode=mates&level=1")
    captions = viewer.page.locator("figcaption").all_inner_texts()
    assert len(captions) == 2  # -1: a section and its inversion
    assert "−h, −k" in captions[1]


def test_any_plane(viewer, maps):
    one = next(iter(maps.values()))
    viewer.open("plane=free&through=0,0,1&along=1,1,0&towards=0,1,0&array=intensity")
    width, height = viewer.size()
    text = viewer.readout(width / 2 + 40, height / 2 - 30)
    hkl = numbers_after(text, "h k l")
    assert hkl[2] == pytest.approx(1, abs=2e-3)
    index, inside = one.grid.index_of(hkl)
    assert inside
    assert numbers_after(text, "I")[0] == pytest.approx(one.intensity[tuple(index)], rel=RTOL)


# --- other views -----------------------------------------------------------


def test_the_profile_is_that_of_the_shells(viewer):
    viewer.open("view=profile&maps=0,1")
    lines = viewer.page.evaluate("() => document.getElementById('profile').data.map(t => t.y)")
    table = json.loads(viewer.server.ask("maps/0/profile.json")[2])
    assert len(lines) == 4
    shown = [x for x in lines[0] if x is not None]
    assert shown == pytest.approx([x for x in table["mean"] if x is not None])


@pytest.mark.parametrize("surface", ["isosurface", "volume"])
def test_three_dimensions_are_not_blank(viewer, surface):
    viewer.open(f"view=volume&surface={surface}&iso=1")
    png = viewer.page.locator("#volume canvas").first.screenshot()
    viewer.page.set_content("<body></body>")
    pixels = viewer.page.evaluate(
        """async data => {
          const image = new Image();
          image.src = 'data:image/png;base64,' + data;
          await image.decode();
          const c = new OffscreenCanvas(image.width, image.height);
          const context = c.getContext('2d');
          context.drawImage(image, 0, 0);
          const d = context.getImageData(0, 0, c.width, c.height).data;
          let red = 0, blue = 0;
          for (let i = 0; i < d.length; i += 4) {
            if (d[i] > d[i + 2] + 8) red += 1;
            if (d[i + 2] > d[i] + 8) blue += 1;
          }
          return [red, blue];
        }""",
        base64.b64encode(png).decode(),
    )
    assert sum(pixels) > 2000
    if surface == "isosurface":
        assert min(pixels) > 500  # both signs are there


def test_the_delta_pdf_is_in_angstrom(viewer, maps):
    one = next(iter(maps.values()))
    options = DeltaPdfOptions(holes="neighbours", subtract_mean=True, extent=1.0)
    pdf = compute_delta_pdf(one, options)
    viewer.open("pdf=0")
    assert viewer.page.inner_text("figcaption").startswith("ΔPDF of first.h5, z = 0")
    width, height = viewer.size()
    for dx, dy in ((0, 0), (60, 20)):
        text = viewer.readout(width / 2 + dx, height / 2 + dy)
        xyz = np.array(numbers_after(text, "x y z"))
        index = [
            int(np.argmin(np.abs(a - x))) for a, x in zip((pdf.x, pdf.y, pdf.z), xyz, strict=True)
        ]
        assert numbers_after(text, "ΔP")[0] == pytest.approx(pdf.values[tuple(index)], rel=RTOL)
        r = np.linalg.norm(pdf.separations()[tuple(index)])
        assert numbers_after(text, "r")[0] == pytest.approx(r, rel=RTOL, abs=1e-9)


def test_images_with_nodes_and_masks(viewer, experiment):
    viewer.open("view=images&image=1")
    (series,) = viewer.server.collection.frames
    nodes = series.nodes(1, 0)
    assert viewer.page.locator("circle.node").count() == len(nodes)
    assert "image 2 of 3, 1° to 2°" in viewer.page.inner_text("figcaption")
    node = nodes[0]
    x, y = viewer.page.evaluate(
        """hkl => ['cx', 'cy'].map(n =>
             +document.querySelector(`[data-hkl='${hkl}']`).getAttribute(n))""",
        " ".join(map(str, node.hkl)),
    )
    text = viewer.readout(x, y)
    viewer.page.wait_for_timeout(300)
    text = viewer.page.inner_text("#readout")
    fast, slow = (int(v) for v in re.match(r"fast (\d+) slow (\d+)", text).groups())
    assert (fast, slow) == (int(node.fast), int(node.slow))
    raw = float(re.search(r"raw (\S+)", text).group(1))
    assert raw == pytest.approx(series.raw(1, 0)[slow, fast], rel=RTOL)
    assert numbers_after(text, "h k l") == pytest.approx(list(node.hkl), abs=0.1)
    viewer.do(lambda: viewer.page.keyboard.press("PageDown"))
    assert "image 1 of 3" in viewer.page.inner_text("figcaption")


# --- the address, files, looks ---------------------------------------------


def test_an_address_brings_back_what_was_seen(viewer, browser, server):
    viewer.open()
    viewer.do(lambda: viewer.page.select_option("#plane", "kl"))
    viewer.do(lambda: viewer.page.keyboard.press("PageUp"))
    viewer.do(lambda: viewer.page.select_option("#array", "intensity"))
    viewer.do(lambda: viewer.page.select_option("#contrast", "log"))
    viewer.do(lambda: viewer.page.check("#nodes"))
    viewer.do(lambda: viewer.page.check("#map-1"))
    address = viewer.page.url
    seen = viewer.page.screenshot()
    other = Viewer(browser.new_page(viewport={"width": 1000, "height": 700}), server)
    other.page.goto(address)
    other.settle(1)
    for name in ("#plane", "#level", "#array", "#contrast"):
        assert other.page.input_value(name) == viewer.page.input_value(name)
    assert (
        other.page.locator("figcaption").all_inner_texts()
        == viewer.page.locator("figcaption").all_inner_texts()
    )
    other.page.wait_for_timeout(200)
    viewer.page.evaluate("document.activeElement.blur()")
    viewer.page.wait_for_timeout(200)
    seen = viewer.page.locator("#stage").screenshot()
    assert other.page.locator("#stage").screenshot() == seen
    other.page.close()


def test_a_wrong_token_shows_nothing(browser, server):
    page = browser.new_page()
    answer = page.goto(server.url.replace(server.parts.path, "/wrong/"))
    assert answer.status == 403
    assert "refused" in page.inner_text("body")
    page.close()


def test_another_page_cannot_ask(browser, server):
    """A page of another origin gets no answer, though the browser sends the request."""
    page = browser.new_page()
    page.route(
        "http://elsewhere.test/",
        lambda route: route.fulfill(body="<p>x</p>", content_type="text/html"),
    )
    page.goto("http://elsewhere.test/")
    outcome = page.evaluate(
        "url => fetch(url).then(a => a.text(), e => 'failed: ' + e)", f"{server.url}maps.json"
    )
    assert outcome.startswith("failed")
    page.close()


def test_numbers_and_pictures_are_saved(viewer, maps):
    one = next(iter(maps.values()))
    viewer.open("level=1.5")
    files = {}
    for kind in ("csv", "png", "svg"):
        with viewer.page.expect_download() as waiting:
            viewer.page.click(f"#save-{kind}")
        files[kind] = waiting.value.path().read_bytes()
        assert waiting.value.suggested_filename == f"first_hk_1.5.{kind}"
    assert files["png"].startswith(b"\x89PNG")
    assert b"<image" in files["svg"]
    assert b"circle" in files["svg"]
    gemmi_free = list(csv.DictReader(StringIO(files["csv"].decode())))
    index = int(np.argmin(np.abs(one.grid.l - 1.5)))
    assert len(gemmi_free) == np.isfinite(one.intensity[:, :, index]).sum()
    for row in gemmi_free[::17]:
        at = tuple(one.grid.index_of([float(row[x]) for x in "hkl"])[0])
        assert float(row["intensity"]) == pytest.approx(one.intensity[at], rel=1e-6)
        assert float(row["sigma"]) == pytest.approx(one.sigma[at], rel=1e-6)
        assert int(float(row["count"])) == one.count[at]


def test_dark_and_light(viewer):
    viewer.open()
    colours = {}
    for theme in ("light", "dark"):
        viewer.do(
            lambda t=theme: (
                viewer.page.select_option("#theme", t),
                viewer.page.keyboard.press("PageUp"),
            )
        )
        colours[theme] = viewer.page.evaluate("getComputedStyle(document.body).backgroundColor")
    light, dark = (sum(map(int, re.findall(r"\d+", colours[x])[:3])) for x in ("light", "dark"))
    assert light > 600 > 150 > dark


def test_what_the_server_cannot_do_is_said(viewer):
    viewer.page.goto(f"{viewer.server.url}#plane=free&along=1,0,0&towards=2,0,0")
    viewer.page.wait_for_function(
        "document.getElementById('status').textContent.includes('parallel')"
    )
    assert "plane: directions must not be parallel" in viewer.page.inner_text("#status")
    viewer.errors = [x for x in viewer.errors if "400" not in x]


def test_limits_of_resolution_are_the_maps(viewer):
    viewer.open()
    labels = viewer.page.locator("svg .label").all_text_contents()
    rings = [float(x.removesuffix(" Å")) for x in labels if x.endswith(" Å")]
    assert rings
    assert min(rings) >= D_MIN * 0.99
