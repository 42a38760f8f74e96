"""The server: who may ask, what it answers, what it says of wrong questions."""

import json
import socket

import numpy as np
import pytest

from offbragg import compare, compute_delta_pdf
from offbragg.errors import InputError
from offbragg.maps.patterson import DeltaPdfOptions
from offbragg.maps.shells import anisotropic_part
from offbragg.viewer import Collection, ViewerServer

RTOL, ATOL = 1e-6, 1e-4

# --- who may ask -----------------------------------------------------------


def test_it_listens_on_this_machine_only(server):
    assert server.parts.hostname == "127.0.0.1"
    own = socket.gethostbyname_ex(socket.gethostname())[2]
    for address in own:
        if not address.startswith("127."):
            with pytest.raises(OSError), socket.create_connection((address, server.parts.port), 2):  # noqa: PT011
                pass


def test_the_page_comes_with_the_token_and_without_it_nothing_does(server):
    status, headers, body = server.ask()
    assert status == 200
    assert b"offbragg" in body
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    token = server.parts.path.strip("/")
    assert len(token) >= 20
    for path in ("/", "/maps.json", "/x/maps.json", f"/{token[:-1]}/maps.json", f"/{token}"):
        status, _, body = server.ask_anywhere(path)
        assert (status, body[:8]) == (403, b"refused:"), path


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "example.org"},
        {"Host": "127.0.0.1"},
        {"Host": "example.org:{port}"},
        {"Origin": "http://example.org"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_other_pages_and_names_are_refused(server, headers):
    sent = {k: v.format(port=server.parts.port) for k, v in headers.items()}
    status, answered, body = server.ask("maps.json", **sent)
    assert status == 403
    assert body.startswith(b"refused: ")
    assert "access-control-allow-origin" not in answered


def test_its_own_page_is_not(server):
    own = f"{server.parts.scheme}://{server.parts.netloc}"
    assert server.ask("maps.json", Origin=own, Sec_Fetch_Site="same-origin")[0] == 200
    named = f"localhost:{server.parts.port}"
    assert server.ask("maps.json", Host=named)[0] == 200


@pytest.mark.parametrize("path", ["static/../app.py", "static/%2e%2e/app.py", "static//etc/passwd"])
def test_no_file_outside_the_page_is_served(server, path):
    assert server.ask(path)[0] == 404


def test_two_servers_have_two_tokens_and_a_taken_port_is_said(server):
    other = ViewerServer.bind(Collection([]))
    assert other.url.rsplit("/", 2)[-2] != server.parts.path.strip("/")
    other._socket.close()
    with pytest.raises(InputError, match=f"port {server.parts.port} cannot be used"):
        ViewerServer.bind(Collection([]), server.parts.port)


# --- what it answers -------------------------------------------------------


def test_sections_are_those_of_the_map(server, maps):
    one = next(iter(maps.values()))
    index = int(np.argmin(np.abs(one.grid.l - 1.5)))
    values, about = server.numbers("maps/0/section?normal=l&level=1.5&array=intensity")
    np.testing.assert_array_equal(values.reshape(about["shape"]), one.intensity[:, :, index])
    np.testing.assert_allclose(about["origin"], [one.grid.h[0], one.grid.k[0], 1.5])
    np.testing.assert_allclose(
        about["cartesian"]["u"], np.array(about["u"]) @ one.grid.cell.frac_matrix
    )
    values, about = server.numbers("maps/0/section?normal=h&level=0&array=anisotropic")
    part = anisotropic_part(one.intensity, one.grid.inv_d())
    expected = part[int(np.argmin(np.abs(one.grid.h)))]
    np.testing.assert_allclose(values.reshape(about["shape"]), expected, RTOL, ATOL)


def test_a_plane_by_its_points_and_by_three_vectors(server, maps):
    one = next(iter(maps.values()))
    section, about = server.numbers("maps/0/section?normal=k&level=1&array=sigma")
    query = "&".join(f"{x}={','.join(map(str, about[x]))}" for x in ("origin", "u", "v", "shape"))
    again, _ = server.numbers(f"maps/1/plane?{query}&array=sigma")
    np.testing.assert_array_equal(again, section)
    free, about = server.numbers("maps/0/plane?through=0,0,0&along=1,1,0&towards=0,0,1")
    middle = (about["shape"][0] - 1) // 2
    place = tuple(-one.grid.first_index)
    np.testing.assert_equal(free.reshape(about["shape"])[middle, middle], one.intensity[place])


def test_nodes_of_the_centring_and_planes_beyond_a_map(server):
    allowed = [x["allowed"] for x in json.loads(server.ask("maps.json")[2])["maps"]]
    assert allowed[0] == [[[True]]]
    assert allowed[2] == [[[True, True], [False, False]], [[False, False], [True, True]]]  # C
    section, about = server.numbers("maps/0/section?normal=l&level=5")
    query = "&".join(f"{x}={','.join(map(str, about[x]))}" for x in ("origin", "u", "v", "shape"))
    beyond, _ = server.numbers(f"maps/2/plane?{query}")
    assert len(beyond) == len(section)
    assert np.isnan(beyond).all()


def test_profiles_volumes_comparisons_and_delta_pdfs(server, maps):
    one, other = maps.values()
    table = json.loads(server.ask("maps/0/profile.json")[2])
    assert sum(table["count"]) == np.isfinite(one.intensity).sum()
    assert table["inv_d"][20] == pytest.approx(0.205)
    values, about = server.numbers("maps/0/volume?array=intensity&edge=8")
    assert values.size == about["edge"] ** 3 == 512
    found = json.loads(server.ask("compare.json?a=0&b=1")[2])
    expected = compare(one, other).overall
    assert found["overall"]["cc"] == pytest.approx(expected.cc, abs=1e-6)
    made = json.loads(server.ask("maps/0/delta-pdf.json")[2])
    assert (made["space"], made["axes"]) == ("real", ["x", "y", "z"])
    options = DeltaPdfOptions(holes="neighbours", subtract_mean=True, extent=1.0)
    pdf = compute_delta_pdf(one, options)
    values, about = server.numbers(f"maps/{made['map']}/section?normal=z&level=0")
    middle = int(np.argmin(np.abs(pdf.z)))
    scale = np.abs(pdf.values).max()
    np.testing.assert_allclose(
        values.reshape(about["shape"]), pdf.values[:, :, middle], rtol=1e-5, atol=1e-6 * scale
    )
    assert json.loads(server.ask("maps/0/delta-pdf.json")[2])["map"] == made["map"]


def test_images_nodes_and_pixels(server):
    (series,) = server.collection.frames
    values, about = server.numbers("frames/0/image?kind=raw&image=1")
    np.testing.assert_array_equal(values.reshape(about["shape"]), series.raw(1, 0))
    nodes = json.loads(server.ask("frames/0/nodes.json?image=1")[2])
    assert len(nodes) == len(series.nodes(1, 0))
    pixel = json.loads(server.ask("frames/0/pixel.json?image=1&panel=0&fast=9&slow=8")[2])
    assert pixel["raw"] == series.raw(1, 0)[8, 9]


# --- wrong questions -------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("maps/9/section", "map must be 0 to"),
        ("maps/0/section?normal=x", "normal must be one of h k l, got 'x'"),
        ("maps/0/section?level=x", "level must be a number, got 'x'"),
        ("maps/0/section?level=nan", "level must be a number, got 'nan'"),
        ("maps/0/section?level=1e308", "level must be a number, got '1e308'"),
        ("maps/0/section?level=900", "l must be -"),
        ("maps/0/plane?shape=2,2&origin=0,0,1e300&u=1,0,0&v=0,1,0", "origin must be 3 numbers"),
        ("maps/0/section?array=x", "array must be one of intensity, sigma, count"),
        ("maps/0/plane?origin=1,2", "shape must be 2 numbers with commas"),
        ("maps/0/plane?through=0,0,0&along=0,0,1&towards=0,0,2", "directions must not be parallel"),
        ("maps/0/mates.json?normal=x", "normal must be one of h k l, got 'x'"),
        ("maps/0/volume?edge=500", "edge must be 2 to 128, got 500"),
        ("compare.json?a=0", "b must be a number, got None"),
        ("frames/1/image", "series must be 0 to 0, got 1"),
        ("frames/0/image?kind=x", "kind must be one of raw, corrected, mask, got 'x'"),
        ("frames/0/image?image=7", "image must be 0 to 2, got 7"),
    ],
)
def test_a_wrong_question_gets_one_line(server, path, message):
    status, _, body = server.ask(path)
    assert status == 400
    error = json.loads(body)["error"]
    assert message in error
    assert "\n" not in error
