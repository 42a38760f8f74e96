"""The page in a browser: what is drawn and read is what is in the files.

Positions on the screen are worked out here from the cell by gemmi, and from the radius of a
resolution ring that the page draws.
"""

import csv
import json
import os
import re
import shutil
from io import BytesIO, StringIO

import gemmi
import matplotlib.pyplot as plt
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
# Dashed rings that are drawn twice may differ by one step of 256.
SHADE = 1.5 / 255

#: An address that is there already changes nothing: the page is told of it all the same.
TYPE_ADDRESS = """hash => {
  if ((location.hash || '#') === hash) window.dispatchEvent(new HashChangeEvent('hashchange'));
  else location.hash = hash;
}"""


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
        self.listeners = {
            "request": lambda request: self.requests.append(request.url),
            "pageerror": lambda error: self.errors.append(str(error)),
            "console": lambda m: self.errors.append(m.text) if m.type == "error" else None,
        }
        for event, listener in self.listeners.items():
            page.on(event, listener)

    def open(self, state=""):
        """Load the page, or type another address into the one that is open: the state is that."""
        address = f"{self.server.url}#{state}"
        if not self.page.url.startswith(self.server.url):
            self.page.goto(address)
            self.settle(1)
        else:
            self.do(lambda: self.page.evaluate(TYPE_ADDRESS, f"#{state}"))

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
        return self.told(lambda: self.page.mouse.move(box["x"] + x, box["y"] + y))

    def told(self, action):
        """What is written after something that makes the page read a value."""
        self.page.evaluate("document.getElementById('readout').textContent = ''")
        action()
        self.page.wait_for_function("document.getElementById('readout').textContent")
        self.idle()
        return self.page.inner_text("#readout")

    def size(self, figure=0):
        box = self.page.locator(".picture").nth(figure).bounding_box()
        return box["width"], box["height"]


@pytest.fixture(scope="module")
def page(browser):
    """One page for all tests: to load it takes longer than most of them."""
    made = browser.new_page(viewport={"width": 1000, "height": 700})
    yield made
    made.close()


@pytest.fixture
def viewer(page, server):
    made = Viewer(page, server)
    yield made
    for event in ("request", "pageerror", "console"):
        page.remove_listener(event, made.listeners[event])
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
    box = viewer.page.locator("#slider").bounding_box()
    y = box["y"] + box["height"] / 2
    seen = set()
    viewer.page.mouse.move(box["x"] + 5, y)
    viewer.page.mouse.down()
    for share in (0.2, 0.5, 0.8):
        viewer.do(lambda x=box["x"] + share * box["width"]: viewer.page.mouse.move(x, y))
        seen.add(viewer.page.inner_text("figcaption"))
        assert viewer.page.get_attribute("#slider", "aria-valuetext") in viewer.page.inner_text(
            "figcaption"
        )
    viewer.page.mouse.up()
    assert len(seen) == 3


def test_the_cursor_reads_without_a_mouse(viewer, maps):
    one = next(iter(maps.values()))
    viewer.open("level=1")
    viewer.page.focus(".picture")
    assert viewer.page.get_attribute(".picture", "aria-label").startswith("first.h5, l = 1: ")
    viewer.page.keyboard.press("ArrowRight")
    text = viewer.told(lambda: viewer.page.keyboard.press("ArrowUp"))
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
    viewer.page.wait_for_function("location.hash.includes('zoom=')")
    viewer.page.dblclick(".picture")
    # The address is not written at each step of the mouse, but the last one is.
    viewer.page.wait_for_function("!location.hash.includes('zoom=')")


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
    viewer.open(f"array={array}&contrast={contrast}&colours=gray&level=1")
    values = anisotropic_part(one.intensity, one.grid.inv_d()) if array == "anisotropic" else (
        getattr(one, array).astype(float)
    )  # fmt: skip
    found, grey = [], []
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


def test_maps_of_other_cells_and_extents_are_linked_by_their_indices(viewer):
    viewer.open("maps=0,2&array=intensity&nodes=1&level=1")
    # Drawn to one scale, though the second goes to a lower resolution; d is by its own cell.
    place = place_of(viewer, (2.0, -3.0, 1.0), 2)
    for figure, cell in ((0, TRICLINIC), (1, (21.4, 24.3, 27.2, 81, 95, 104))):
        text = viewer.readout(*place, figure=figure)
        assert numbers_after(text, "h k l") == [2, -3, 1]
        d = gemmi.UnitCell(*cell).calculate_d([2, -3, 1])
        assert numbers_after(text, "d")[0] == pytest.approx(d, rel=RTOL)
    nodes = viewer.page.evaluate(
        """() => [...document.querySelectorAll('figure')].map(figure =>
             [...figure.querySelectorAll('circle.node')].map(c => c.dataset.hkl))"""
    )
    hkl = np.array([x.split() for x in nodes[1]], dtype=int)
    assert len(hkl) > 20
    assert np.all((hkl[:, 0] + hkl[:, 1]) % 2 == 0)  # C is centred
    assert {"2 -3 1", "2 -2 1"} <= set(nodes[0])
    viewer.open("maps=0,2&array=intensity&level=5")  # beyond the second
    assert "other.h5" in viewer.page.locator("figcaption").nth(1).inner_text()
    assert viewer.page.inner_text("#status") == ""


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


def test_three_dimensions_are_not_blank_and_seen_from_where_the_address_says(viewer):
    viewer.page.set_viewport_size({"width": 620, "height": 360})
    red, blue = {}, {}
    for surface in ("isosurface", "volume"):
        viewer.open(f"view=volume&surface={surface}&iso=1&camera=1,1.2,0.9,0,0,0,0,0,1")
        png = viewer.page.locator("#volume canvas").first.screenshot()
        pixels = plt.imread(BytesIO(png))
        red[surface] = np.sum(pixels[..., 0] > pixels[..., 2] + 8 / 255)
        blue[surface] = np.sum(pixels[..., 2] > pixels[..., 0] + 8 / 255)
    viewer.page.evaluate(
        """() => Plotly.relayout('volume', {'scene.camera': {
             eye: {x: 2, y: 1, z: 0.5}, center: {x: 0, y: 0, z: 0}, up: {x: 0, y: 0, z: 1}}})"""
    )
    viewer.page.wait_for_function("decodeURIComponent(location.hash).includes('camera=2,1,0.5,')")
    viewer.page.set_viewport_size({"width": 1000, "height": 700})
    assert min(red["isosurface"], blue["isosurface"]) > 500  # both signs are there
    assert red["volume"] + blue["volume"] > 2000


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
    viewer.page.wait_for_function("location.hash.includes('maps=')")
    address = viewer.page.url
    other = Viewer(browser.new_page(viewport={"width": 1000, "height": 700}), server)
    other.page.goto(address)
    other.settle(1)
    for name in ("#plane", "#level", "#array", "#contrast"):
        assert other.page.input_value(name) == viewer.page.input_value(name)
    assert (
        other.page.locator("figcaption").all_inner_texts()
        == viewer.page.locator("figcaption").all_inner_texts()
    )
    viewer.page.evaluate("document.activeElement.blur()")
    seen = viewer.page.locator("#stage").screenshot()
    again = other.page.locator("#stage").screenshot()
    pictures = (plt.imread(BytesIO(png)) for png in (seen, again))
    np.testing.assert_allclose(*pictures, atol=SHADE)
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


def test_what_the_server_cannot_do_is_said_and_can_be_changed(viewer):
    """With an address that names no view, and directions of no plane."""
    viewer.page.evaluate(TYPE_ADDRESS, "#view=x&pdf=x&plane=free&along=1,0,0&towards=2,0,0")
    viewer.page.wait_for_function(
        "document.getElementById('status').textContent.includes('parallel')"
    )
    assert "plane: directions must not be parallel" in viewer.page.inner_text("#status")
    red, green, blue = (
        int(x)
        for x in re.findall(
            r"\d+",
            viewer.page.evaluate("getComputedStyle(document.getElementById('status')).color"),
        )[:3]
    )
    assert red > green + 50
    assert red > blue + 50
    assert viewer.page.get_attribute("#tab-sections", "aria-selected") == "true"
    viewer.do(lambda: viewer.page.select_option("#plane", "hk"))
    assert viewer.page.inner_text("#status") == ""
    viewer.errors = [x for x in viewer.errors if "400" not in x]


def test_what_comes_late_is_not_drawn_over_another_view(viewer):
    viewer.open("maps=2&level=2")  # of which no profile has been asked for, and kept
    held = []
    viewer.page.route("**/profile.json", lambda route: held.append(route))
    with viewer.page.expect_request("**/profile.json"):
        viewer.page.click("#tab-profile")
    viewer.page.wait_for_function("document.activeElement.id === 'tab-profile'")
    viewer.page.keyboard.press("ArrowRight")  # images, by the keyboard, and all the way round
    viewer.page.keyboard.press("ArrowRight")
    viewer.page.wait_for_selector("figcaption:has-text('other.h5, l = 2')")
    with viewer.page.expect_response("**/profile.json"):
        held[0].continue_()
    viewer.idle()
    viewer.page.unroute("**/profile.json")
    assert viewer.page.evaluate("document.activeElement.id") == "tab-sections"
    assert "other.h5, l = 2" in viewer.page.inner_text("figcaption")
    assert viewer.page.locator("#profile").count() == 0


def test_limits_of_contrast(viewer):
    """Worked out by the page's own module, of 10⁵ numbers that differ from column to column."""
    viewer.open()
    values = np.arange(400 * 250) % 250 - 50.0
    found = viewer.page.evaluate(
        """async () => {
          const { limitsOf } = await import('./static/colours.js');
          const values = Float32Array.from({ length: 400 * 250 }, (_, k) => k % 250 - 50);
          const common = { percentile: 2, low: '', high: '', about0: false };
          const limits = (more) => limitsOf(values, { ...common, ...more });
          return [
            limits({ contrast: 'linear' }), limits({ contrast: 'percentile' }),
            limits({ contrast: 'linear', about0: true }),
            limits({ contrast: 'percentile', about0: true }),
            limits({ contrast: 'log', about0: true, low: '-7', high: '3' }),
            limits({ contrast: 'log', high: '-5' }),
          ];
        }"""
    )
    two_sided = np.quantile(np.abs(values), 0.98)
    # Logarithms below a limit that has none: still positive, and rising.
    low, high = found.pop()
    assert 0 < low < high
    expected = [
        (-50, 199), tuple(np.quantile(values, [0.02, 0.98])), (-199, 199),
        (-two_sided, two_sided), (-7, 7),
    ]  # fmt: skip
    np.testing.assert_allclose(found, expected, atol=1.5)


def test_limits_of_resolution_are_the_maps(viewer):
    viewer.open()
    labels = viewer.page.locator("svg .label").all_text_contents()
    rings = [float(x.removesuffix(" Å")) for x in labels if x.endswith(" Å")]
    assert rings
    assert min(rings) >= D_MIN * 0.99
