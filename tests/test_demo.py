"""The demo: the responses of its server, and its page in a real browser."""

import asyncio
import contextlib
import copy
import http.client
import io
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import uvicorn
from PIL import Image

from jaxpose import cli
from jaxpose.checkpoints import packed
from jaxpose.checkpoints.metadata import Calibration
from jaxpose.demo import response, server
from jaxpose.errors import JaxposeError
from jaxpose.predict import PoseEstimator
from jaxpose.predict.boxes import MIN_CONFIDENCE
from tests.support import small_estimator
from tests.support.browser import open_browser

PAGE = pathlib.Path(server.__file__).parent / "page"
BOX = [60.0, 40.0, 90.0, 150.0]
BOX_QUERY = "box=60,40,90,150"
TOO_LARGE = 50_000_000  # bytes
METADATA = small_estimator.METADATA._replace(
    calibration=Calibration((0.0,) * len(small_estimator.METADATA.joints), presence=1.0, spread=0.0)
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of a network whose joints stay apart in all rounds of the search, as a trained one's do."""
    path = tmp_path_factory.mktemp("demo") / "tiny.npz"
    variables = copy.deepcopy(small_estimator.variables())
    variables["params"]["block1_b"]["heatmaps"] *= 3.0
    return packed.pack(variables, METADATA, path)


@pytest.fixture(scope="module")
def estimator(checkpoint):
    return PoseEstimator.from_checkpoint(checkpoint)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A PNG of 240x180 that its EXIF turns upright: 180x240."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(noise).resize((240, 180), Image.BICUBIC).save(path, exif=exif)
    return path


@contextlib.contextmanager
def started(checkpoint, **options):
    """The command's process, and the address that it printed."""
    command = [sys.executable, "-m", "jaxpose", "demo", "--port=0", "--checkpoint", checkpoint]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **pipes, **options)
    try:
        assert process.stdout.readline() == f"checkpoint: {checkpoint}\n"
        line = process.stdout.readline()
        says = r"open (http://127\.0\.0\.1:\d+/) in a browser; press Ctrl-C to stop\n"
        yield process, re.fullmatch(says, line)[1]
    finally:
        process.kill()
        process.communicate()


def ended(process):
    """Exit status of a process and what it printed last."""
    out, error = process.communicate(timeout=120)
    return process.returncode, out, error


@pytest.fixture(scope="module")
def address(checkpoint):
    with started(checkpoint) as (process, printed):
        yield printed
        process.send_signal(signal.SIGINT)
        assert ended(process) == (0, "", "")  # any fault of the server would have been printed


def ask(address, data=None, **headers):
    """(status, type, body) of an answer."""
    request = urllib.request.Request(address, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.headers["Content-Type"], response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()


def said(address, data=None, **headers):
    status, kind, body = ask(address, data, **headers)
    assert kind == "application/json"
    return status, json.loads(body)


# The server


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", {}),
        ("?max_persons=1", {"max_persons": 1}),
        (f"?{BOX_QUERY}&box=10,20,100,120", {"boxes": [BOX, [10, 20, 100, 120]]}),
    ],
    ids=["found", "one", "boxes"],
)
def test_a_photo_is_answered_as_the_estimator_does(query, options, address, estimator, photo):
    status, found = said(f"{address}predict{query}", photo.read_bytes())
    expected = estimator.predict(photo, **options)
    assert (status, found["size"]) == (200, [180, 240])
    persons = found["persons"]
    assert len(persons) == len(expected.boxes) >= 1
    np.testing.assert_allclose([p["score"] for p in persons], expected.scores, atol=1e-5)
    np.testing.assert_allclose([p["box"] for p in persons], expected.boxes, atol=1e-3)
    points = [[[joint["x"], joint["y"]] for joint in p["joints"]] for p in persons]
    assert np.ptp(points[0], axis=0).min() > 0.5  # the joints' answers differ
    np.testing.assert_allclose(points, expected.keypoints, atol=1e-3)
    confidence = [[joint["confidence"] for joint in p["joints"]] for p in persons]
    np.testing.assert_allclose(confidence, expected.confidence, atol=1e-5)
    names = [joint["name"] for joint in persons[0]["joints"]]
    assert names[:2] == ["right ankle", "right knee"]
    assert [0, 1] in found["limbs"]


def test_nobody_may_be_found(photo):
    unsure = METADATA.calibration._replace(bias=(-9.0,) * len(METADATA.joints))
    estimator = PoseEstimator(small_estimator.variables(), METADATA._replace(calibration=unsure))
    assert response.predict_photo(estimator, photo.read_bytes())["persons"] == []


def test_the_keypoints_are_those_that_the_command_writes(address, checkpoint, photo, tmp_path):
    query = f"keypoints?{BOX_QUERY}&min_confidence=0.9&file_name=photo.png"
    _, found = said(address + query, photo.read_bytes())
    command = ["predict", str(photo), "--checkpoint", str(checkpoint), "--min-confidence", "0.9"]
    command += ["--box", ",".join(map(str, BOX)), "-o", str(tmp_path / "photo.json")]
    assert cli.main(command) == 0
    expected = json.loads((tmp_path / "photo.json").read_text())
    expected["images"][0]["file_name"] = "photo.png"  # the command writes the path it was given
    assert found == expected
    assert "at least 0.9" in found["info"]["visibility"] and len(found["annotations"]) == 1


def test_the_file_has_the_chosen_found_persons_then_those_in_boxes(estimator, photo):
    data, expected = photo.read_bytes(), estimator.predict(photo)
    assert len(expected.boxes) > 1
    file = json.loads(response.keypoints_file(estimator, data, [BOX], found=[1], max_persons=10))
    boxed = estimator.predict(photo, [BOX])
    for annotation, points in zip(
        file["annotations"], (expected.keypoints[1], boxed.keypoints[0]), strict=True
    ):
        np.testing.assert_allclose(
            np.reshape(annotation["keypoints"], (-1, 3))[:, :2] + 0.5, points, atol=0.01
        )
    empty = json.loads(response.keypoints_file(estimator, data, found=[]))
    assert empty["annotations"] == []
    with pytest.raises(JaxposeError, match="there is no person 9"):
        response.keypoints_file(estimator, data, found=[9])


def test_found_persons_that_are_no_numbers_get_a_message(address, photo):
    status, found = said(f"{address}keypoints?found=first", photo.read_bytes())
    assert status == 400 and "'first' is not a list of persons" in found["error"]


def test_the_maps_are_images(address, photo):
    _, found = said(f"{address}predict?{BOX_QUERY}", photo.read_bytes())
    (person,) = found["persons"]
    for url in (person["part_maps"], *(joint["map"] for joint in person["joints"])):
        kind, _, data = url.partition(",")
        assert kind == "data:image/webp;base64"
        with urllib.request.urlopen(url) as file:
            assert np.asarray(Image.open(io.BytesIO(file.read()))).std() > 5


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("multipart/form-data; boundary=x", "a multipart form (multipart/form-data)"),
        ("Application/JSON; charset=utf-8", "JSON (application/json)"),
    ],
)
def test_an_upload_that_is_not_the_file_itself_is_named(kind, named, address, photo):
    """What `curl -F` and the json argument of HTTP libraries send."""
    status, found = said(f"{address}predict", photo.read_bytes(), **{"Content-Type": kind})
    assert status == 415
    assert f"the body is {named}; send the photo's file itself" in found["error"]


@pytest.mark.parametrize("relation", ["cross-site", "same-site"])
def test_requests_of_other_sites_pages_are_refused(relation, address, photo):
    headers = {"Sec-Fetch-Site": relation, "Content-Type": "text/plain"}
    for name in ("predict", "keypoints"):
        status, found = said(f"{address}{name}", photo.read_bytes(), **headers)
        assert status == 403 and "another site's page" in found["error"]
    headers["Sec-Fetch-Site"] = "same-origin"
    assert said(f"{address}predict?{BOX_QUERY}", photo.read_bytes(), **headers)[0] == 200


@pytest.mark.parametrize("value", ["nan", "inf", "5", "-1"])
def test_a_min_confidence_that_is_no_probability_is_refused(value, address, photo):
    status, found = said(f"{address}keypoints?min_confidence={value}", photo.read_bytes())
    assert status == 400 and f"min_confidence is {value}; give a number" in found["error"]


@contextlib.contextmanager
def served(app):
    """The address (host, port) of a server of the application, in a thread of this process."""
    listening = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()
    finally:
        running.should_exit = True
        thread.join(60)
        listening.close()


def test_requests_that_are_aborted_while_they_wait_are_not_computed(monkeypatch):
    computed, release = [], threading.Event()

    def predict_photo(estimator, data, **options):
        computed.append(data[:1])
        assert release.wait(60)
        return {}

    def request(place, mark):
        """Send a photo of a size at which the server pauses reading."""
        connection = socket.create_connection(place, timeout=60)
        body = mark + bytes(200_000)
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        return connection

    monkeypatch.setattr(server, "predict_photo", predict_photo)
    app = server.make_app(None, threading.Lock(), hosts=["*"], life=None)
    with served(app) as place:
        first = request(place, b"a")
        while not computed:
            time.sleep(0.01)
        aborted = [request(place, b"b") for _ in range(3)]
        time.sleep(0.5)  # they wait for their turn
        for connection in aborted:
            connection.close()
        last = request(place, b"c")
        time.sleep(0.5)
        release.set()
        for connection in (first, last):
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            connection.close()
    assert computed == [b"a", b"c"]


def status_of(host, allowed):
    """The status with which the application answers a request for its page under a host's name."""

    async def nothing():
        return {"type": "http.request", "body": b"", "more_body": False}

    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"",
        "headers": [(b"host", host.encode())], "http_version": "1.1", "scheme": "http",
        "root_path": "", "server": ("::1", 8000), "client": ("::1", 1),
    }  # fmt: skip
    app = server.make_app(None, None, hosts=server._hosts(allowed), life=None)
    asyncio.run(app(scope, nothing, send))
    return sent[0]["status"]


@pytest.mark.parametrize("allowed", ["127.0.0.1", "::1"])
def test_a_local_server_is_reached_under_its_names_and_no_other(allowed):
    for host in ("127.0.0.1:8000", "localhost:8000", "[::1]:8000", "[::1]"):
        assert status_of(host, allowed) == 200, host
    for host in ("example.org", "[::2]:8000"):
        assert status_of(host, allowed) == 400, host


WRONG = {
    "no image": ("", b"no image", "the file is not an image"),
    "a cut image": ("", b"\x89PNG\r\n\x1a\n", "the file is not an image"),
    "an empty file": ("", b"", "the file is not an image"),
    "a phone's photo": ("", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "the file is a HEIC image"),
    "a box that is none": ("?box=a,b", None, "'a,b' is not a box"),
    "three numbers": ("?box=1,2,3", None, "give one x, y, width, height"),
    "a box outside": ("?box=900,900,10,10", None, "lies outside the image"),
    "a box without area": ("?box=1,1,0,10", None, "has no area"),
    "no person at most": ("?max_persons=0", None, "max_persons is 0; it must be 1 or more"),
    "a word as a number": ("?max_persons=all", None, "max_persons 'all' is not a number"),
    "a box that is not finite": ("?box=1,1,inf,nan", None, "has no area"),
}


@pytest.mark.parametrize(("query", "data", "says"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_answered_gets_a_message(query, data, says, address, photo):
    data = photo.read_bytes() if data is None else data
    status, found = said(f"{address}predict{query}", data)
    assert status == 400 and says in found["error"] and "\n" not in found["error"]


def test_a_file_that_is_too_large_gets_a_message(address):
    status, found = said(f"{address}predict", bytes(TOO_LARGE))
    assert (status, found["error"]) == (
        413,
        "the file is larger than 40 MB; resize the photo first",
    )


def test_of_an_endless_body_no_more_is_read_than_a_message_needs():
    count = 0

    async def endless():
        nonlocal count
        while True:
            count += 1
            yield bytes(1_000_000)

    with pytest.raises(server.TooLarge):
        asyncio.run(server._body(endless()))
    assert count == server.DISCARD_BYTES // 1_000_000 + 1


def test_only_this_computer_is_served_and_under_its_own_names(address):
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(ConnectionRefusedError):  # a server of every address would answer here
        socket.create_connection(("127.0.0.2", port), timeout=5)
    assert ask(f"{address}about", Host=f"localhost:{port}")[0] == 200
    assert ask(f"{address}about", Host=f"pages.example:{port}")[0] == 400
    assert server._hosts("0.0.0.0") == server._hosts("::") == ["*"]


def test_an_empty_host_is_not_every_host(capsys):
    assert cli.main(["demo", "--host", ""]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: --host is empty")


def test_files_outside_of_the_page_are_not_served(address):
    for name in ("server.py", "..%2Fserver.py", "index.html/..%2F..%2Fserver.py"):
        assert ask(address + name)[0] == 404


def test_a_port_that_is_taken_is_said_in_one_line(checkpoint, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert cli.main(["demo", "--checkpoint", str(checkpoint), "--port", port]) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(rf"error: cannot listen on 127.0.0.1, port {port} \(.*\); .*\n", error)


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_while_it_compiles_ends_it_in_order(checkpoint, times):
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": "off"}
    with started(checkpoint, env=environment) as (process, _):
        for _ in range(times):
            time.sleep(0.5 / times)  # the warm-up has only begun
            process.send_signal(signal.SIGINT)
        assert ended(process) == (0, "", "")


@pytest.mark.slow
def test_ctrl_c_during_a_prediction_prints_no_traceback(checkpoint, photo):
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": "off"}
    with started(checkpoint, env=environment) as (process, address):
        data = photo.read_bytes()
        for _ in range(3):  # they wait for the warm-up, which compiles
            threading.Thread(target=said_or_not, args=(f"{address}predict", data)).start()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        status, out, error = ended(process)
        assert (status, out) == (0, "") and "Traceback" not in error


def said_or_not(address, data):
    """Ask a server that may stop."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        ask(address, data)


@pytest.mark.parametrize("library", ["uvicorn", "starlette.applications"])
def test_a_missing_library_is_named(library, estimator, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(JaxposeError, match=r"is not installed; .* pip install '\.\[demo\]'"):
        server.serve(estimator, port=0)


# The page


def test_the_page_names_no_other_place():
    """What it needs comes from its own server; the browser's policy says the same."""
    for file in PAGE.glob("*.[!j]*"):
        text = re.sub(r'<a href="[^"]*"', "", file.read_text())  # a link is followed by a person
        addresses = set(re.findall(r"(?:https?:)?//[\w.]+[\w/.]*", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file.name


@pytest.fixture(scope="module")
def browser(tmp_path_factory, address):
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.open(address)
        opened.wait("document.getElementById('about').textContent")
        yield opened


@pytest.fixture
def shown(browser, photo, tmp_path):
    """The page with a photo and its answer."""
    browser.shape(1280, 900)
    browser.run("document.getElementById('joints').replaceChildren()")
    browser.type("#file", photo)
    browser.wait("document.querySelectorAll('#joints button').length == 17")
    yield browser
    assert browser.complaints() == []


def value(browser, name):
    return browser.run(f"return Number(document.getElementById('{name}').value)")


# Positions of the drawn joints, in pixels of the photo.
DOTS = """[...document.querySelectorAll('#poses circle')].map(
    c => [c.cx.baseVal.value, c.cy.baseVal.value])"""


def test_a_photo_gets_its_skeleton(shown, photo, estimator, tmp_path):
    assert response.about(estimator)["threshold"] == MIN_CONFIDENCE
    assert value(shown, "threshold") == 100 * MIN_CONFIDENCE
    text = shown.run("return document.getElementById('threshold_text').textContent")
    assert text == f"{100 * MIN_CONFIDENCE:g} %"
    expected = estimator.predict(photo)
    drawn = expected.keypoints[expected.confidence >= MIN_CONFIDENCE]
    assert len(drawn) > 8
    np.testing.assert_allclose(shown.run(f"return {DOTS}"), drawn, atol=0.01)
    # The photo is shown upright, and the drawing lies on it.
    photo_place, drawing_place = shown.run(
        "return ['image', 'overlay'].map(id => document.getElementById(id).getBoundingClientRect())"
    )
    assert photo_place == drawing_place
    natural = shown.run("const i = document.getElementById('image');"
                        "return [i.naturalWidth, i.naturalHeight]")  # fmt: skip
    assert natural == [180, 240]
    shown.screenshot(tmp_path / "page.png")
    assert np.asarray(Image.open(tmp_path / "page.png").convert("L")).std() > 10


def test_the_box_follows_mouse_keys_and_numbers(shown):
    def moved(change, name, by):
        before, drawn = value(shown, name), shown.run(f"return JSON.stringify({DOTS})")
        change()
        assert value(shown, name) - before == pytest.approx(by, abs=1.5)
        shown.wait(f"JSON.stringify({DOTS}) !== '{drawn}'")  # the answer for the new box

    shown.run("document.querySelectorAll('#persons button')[1].click()")
    unit = 180 / shown.run("return document.getElementById('overlay').clientWidth")
    moved(lambda: shown.drag("#box", 30, 0), "box_x", 30 * unit)
    moved(lambda: shown.drag("#handles g:nth-child(3) .handle", 0, -40), "box_height", -40 * unit)
    moved(lambda: shown.type("#box", "\ue015"), "box_y", 1.8)  # arrow down: a hundredth
    corner = "#handles g:nth-child(1) .handle"
    moved(lambda: shown.type(corner, "\ue012" * 3), "box_width", 3 * 1.8)  # arrow left
    change = 77 - value(shown, "box_width")
    moved(lambda: shown.type("#box_width", "\ue009a\ue00077\n"), "box_width", change)


def test_corners_beyond_the_photo_can_be_dragged(shown):
    shown.type("#box_x", "\ue009a\ue000-40\n")
    corner = "#handles g:nth-child(1) .handle"
    assert shown.run(f"return document.querySelector('{corner}').getAttribute('cx')") == "0"
    unit = 180 / shown.run("return document.getElementById('overlay').clientWidth")
    shown.drag(corner, 30, 0)
    assert value(shown, "box_x") == pytest.approx(30 * unit, abs=1.5)


def texts(browser, selector):
    return browser.run(
        f"return [...document.querySelectorAll('{selector}')].map(e => e.textContent)"
    )


def test_several_persons_have_colors_numbers_and_scores(shown, photo, estimator):
    expected = estimator.predict(photo)
    labels = [f"{n} · {100 * score:.0f} %" for n, score in enumerate(expected.scores, 1)]
    assert len(labels) >= 2
    assert texts(shown, "#persons button") == texts(shown, "#labels text") == labels
    colors = shown.run("""return [...document.querySelectorAll('.pose')].map(
        pose => [...pose.querySelectorAll('.limb')].map(l => l.getAttribute('stroke')))""")
    assert all(len(set(of_person)) <= 1 for of_person in colors)
    used = [of_person[0] for of_person in colors if of_person]
    assert len(set(used)) == len(used)
    for n in (2, 1):
        shown.click(f"#persons button:nth-child({n})")
        assert value(shown, "box_x") == pytest.approx(expected.boxes[n - 1][0], abs=0.51)
        pressed = "#persons [aria-pressed=true]"
        assert texts(shown, pressed) == [labels[n - 1]]


def test_persons_are_added_and_removed_and_limited(shown):
    count = len(texts(shown, "#persons button"))
    shown.click("#add")
    shown.wait(f"document.querySelectorAll('#labels text').length == {count + 1}")
    shown.wait(f"document.querySelectorAll('#labels text')[{count}].textContent.includes('%')")
    assert texts(shown, "#persons [aria-pressed=true]") == texts(shown, "#persons button")[-1:]
    shown.click("#remove")
    assert len(texts(shown, "#persons button")) == count
    shown.type("#max_persons", "\ue009a\ue0001\n")
    shown.wait("document.querySelectorAll('#persons button').length == 1")
    shown.click("#remove")
    assert texts(shown, ".pose") == [] and not shown.run(
        "return document.getElementById('chosen').checkVisibility()"
    )
    shown.type("#max_persons", "\ue009a\ue00010\n")
    shown.wait(f"document.querySelectorAll('#persons button').length == {count}")


def test_image_and_json_are_saved_as_they_are_shown(shown, photo, estimator, tmp_path):
    shown.protocol("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    shown.run("""const slider = document.getElementById('threshold');
        slider.value = 55; slider.dispatchEvent(new Event('input'))""")
    shown.click("#save_image")
    shown.click("#save_json")
    files = [tmp_path / "photo_pose.jpg", tmp_path / "photo_keypoints.json"]
    joints = shown.run("""return persons.map(
        person => person.prediction.joints.map(joint => [joint.x, joint.y]))""")
    end = time.monotonic() + 60
    while not all(file.exists() for file in files):
        assert time.monotonic() < end, sorted(tmp_path.iterdir())
        time.sleep(0.05)
    image = np.asarray(Image.open(files[0]).convert("RGB"), float)
    plain = estimator.predict(photo, [BOX]).image
    assert image.shape == plain.shape
    changed = np.abs(image - plain).max(axis=-1) > 60
    assert 0.01 < changed.mean() < 0.6
    expected = response.keypoints_file(
        estimator, photo.read_bytes(), min_confidence=0.55, file_name="photo.png"
    )
    found, expected = json.loads(files[1].read_text()), json.loads(expected)
    assert found["images"] == expected["images"] and found["info"] == expected["info"]
    assert len(found["annotations"]) == len(expected["annotations"])
    for ours, theirs in zip(found["annotations"], expected["annotations"], strict=True):
        np.testing.assert_allclose(ours["keypoints"], theirs["keypoints"], atol=0.01)
    saved = np.array([a["keypoints"] for a in found["annotations"]]).reshape(len(joints), -1, 3)
    np.testing.assert_allclose(saved[..., :2] + 0.5, joints, atol=0.01)


def test_a_map_is_laid_over_the_photo(shown):
    shown.click("#joints button:nth-child(4)")
    script = "const m = document.getElementById('map');"
    script += "return [m.getAttribute('visibility'), m.getAttribute('href').slice(0, 15)]"
    assert shown.run(script) == ["visible", "data:image/webp"]
    assert shown.run("return document.querySelectorAll('#joints [aria-pressed=true]').length") == 1
    shown.click("#joints button:nth-child(4)")
    assert shown.run(script)[0] == "hidden"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_wide_and_narrow_in_light_and_dark(width, dark, shown):
    shown.shape(width, 800, dark=dark)
    assert shown.run("return document.documentElement.scrollWidth") == width
    color = "return getComputedStyle(document.body).{}"
    ground, ink = (
        np.mean([int(part) for part in re.findall(r"\d+", shown.run(color.format(name)))[:3]])
        for name in ("backgroundColor", "color")
    )
    assert (ground < 60 and ink > 200) if dark else (ground > 200 and ink < 60)


def test_every_control_has_a_name_and_is_reached_by_keys(shown):
    names = shown.run("""
        return [...document.querySelectorAll('button, input, [tabindex]')].map(
          e => e.getAttribute('aria-label') || e.labels?.[0]?.innerText || e.innerText.trim())
    """)
    assert len(names) >= 25 and all(names)
    assert shown.run("return document.querySelectorAll('[tabindex=\"-1\"]').length") == 0


def test_the_sample_photo_is_shown_with_its_credit(browser, address):
    browser.open(address)
    browser.wait("document.getElementById('about').textContent")
    browser.click("#sample")
    browser.wait("document.getElementById('status').textContent.includes(' s')")
    assert browser.run("return document.getElementById('image').naturalWidth") == 560
    assert browser.run("return document.getElementById('credit').checkVisibility()")
    assert (PAGE / "sample.jpg").stat().st_size < 60_000
    assert browser.complaints() == []


def test_a_file_that_is_no_photo_gets_a_message_on_the_page(browser, tmp_path):
    wrong, large = tmp_path / "wrong.txt", tmp_path / "large.jpg"
    wrong.write_text("no image")
    with large.open("wb") as file:
        file.truncate(TOO_LARGE)
    text = "document.getElementById('message').textContent"
    for file, says in ((wrong, "The file is not an image"), (large, "larger than 40 MB")):
        browser.run(f"{text} = ''")
        browser.type("#file", file)
        assert says in browser.wait(text)
        assert browser.run("return document.getElementById('message').checkVisibility()")
    # The browser itself notes the refusal of the first; the second is not even sent.
    (note,) = browser.complaints()
    assert "status of 400" in note
