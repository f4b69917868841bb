"""The pages in a real browser, on a real server, with a real scan of the simulated beamline."""

import io
import threading

import numpy as np
import pytest
from bluesky import RunEngine

from bluesky_powder import PowderReduction
from bluesky_powder.publish import TiledPublisher
from bluesky_powder.server import PowderServer
from bluesky_powder.sim import Beamline, arm_scan
from browser import until
from derived_runs import derived_run
from no_websockets import ProxyWithoutWebsockets
from pattern_runs import documents_of

POSITIONS, EXPOSURES, NPT = (0.0, 8.0), 4, 300
FRAMES = EXPOSURES * len(POSITIONS)
POWDER = "/custom/powder/"


class Gate:
    """Lets so many primary events pass; the scan is over meanwhile, the page sees a run at the pace of the test."""

    def __init__(self, taker):
        self.taker = taker
        self.allowed = threading.Semaphore(0)
        self.uid, self.primary = None, None

    def __call__(self, name, document):
        if name == "start":
            self.uid = document["uid"]
        if name == "descriptor" and document["name"] == "primary":
            self.primary = document["uid"]
        if name == "event" and document["descriptor"] == self.primary:
            assert self.allowed.acquire(timeout=120)
        self.taker(name, document)

    def allow(self, frames):
        self.allowed.release(frames)


@pytest.fixture(scope="module")
def server(tmp_path_factory, browser):  # noqa: ARG001 - nothing is started where there is no browser
    with PowderServer(tmp_path_factory.mktemp("served"), api_key="sesame") as server:
        yield server


@pytest.fixture(scope="module")
def publisher(server):
    with TiledPublisher(server.uri, api_key=server.api_key, spool=server.spool) as publisher:
        yield publisher


@pytest.fixture(scope="module")
def scan(tmp_path_factory, publisher):
    """A scan that is reduced, but whose frames wait at the gate."""
    RE = RunEngine({})
    beamline = Beamline(tmp_path_factory.mktemp("raw"), detector="Pilatus 100k")
    recipe = beamline.recipe(POSITIONS, npt=NPT)
    with PowderReduction(recipe) as reduction:
        gate = Gate(publisher)
        reduction.subscribe(gate)
        RE.subscribe(publisher)
        RE.subscribe(reduction)
        RE(arm_scan(beamline, POSITIONS, EXPOSURES, md={"sample_name": "<b>CeO2</b>"}))
        yield gate
        gate.allow(FRAMES)
        assert reduction.wait(120)


def store(publisher, documents):
    """Publish documents of a run and wait for them to be there; return its uid."""
    documents = list(documents)
    for name, document in documents:
        publisher(name, document)
    assert publisher.wait(120)
    return documents[0][1]["uid"]


def test_page_without_a_key_says_so_and_takes_one(browser, server):
    browser.open(f"{server.uri}{POWDER}")
    assert "wants a key or a login" in until(lambda: browser.text(".banner"))
    browser.js("document.querySelector('#powder-key').value = 'wrong'")
    browser.click("button[type=submit]")
    assert until(lambda: "does not accept this key" in browser.text(".banner"))
    browser.js("document.querySelector('#powder-key').value = 'sesame'")
    browser.click("button[type=submit]")
    assert until(lambda: browser.data("status") == "live")
    assert "No powder run yet" in browser.text("main")
    assert browser.js("document.cookie") == ""
    assert browser.faults() == []


def test_run_appears_grows_and_completes_without_a_reload(browser, server, scan):
    browser.open("about:blank")  # or the page would only be told of another fragment, and load itself again later
    browser.open(f"{server.uri}{POWDER}#api_key=sesame")
    until(lambda: browser.data("runs") == "1")
    assert "<b>CeO2</b>" in browser.text("tbody tr")
    assert "running" in browser.text("tbody tr")
    until(lambda: "sesame" not in browser.js("location.href"))
    browser.click("tbody a")
    until(lambda: browser.data("status") == "live" and "No pattern yet" in browser.text(".waiting"))
    scan.allow(3)
    until(lambda: browser.data("frames") == "3" and browser.data("numbers") == "3")
    browser.js("document.body.dataset.here = 'still'")
    before = browser.js("document.querySelector('.map canvas').toDataURL()")
    scan.allow(2)
    until(lambda: browser.data("frames") == "5" and browser.data("numbers") == "5")
    until(lambda: browser.data("shown") == "primary 4")
    assert browser.data("status") == "live"
    assert browser.js("document.querySelector('.map canvas').toDataURL()") != before
    scan.allow(FRAMES - 5)
    until(lambda: browser.data("status") == "complete")
    assert browser.data("here") == "still"
    assert browser.js("window.__powder.errors") == []
    assert browser.faults() == []


def test_page_shows_the_numbers_that_are_stored(browser, server, scan):
    run = server.client()[scan.uid]
    browser.open(f"{server.uri}{POWDER}run/{scan.uid}")
    until(lambda: browser.data("shown") == f"primary {FRAMES - 1}")
    radial = run["axes"]["radial"].read()[0]
    patterns = run["primary"]["intensity"].read()
    np.testing.assert_array_equal(browser.js("[...window.__powder.data.axes.radial]"), radial)
    shown = browser.js("[...window.__powder.curve.intensity].map((v) => Number.isNaN(v) ? null : v)")
    np.testing.assert_array_equal(np.array(shown, dtype=float), patterns[-1])
    top = radial[np.nanargmax(patterns[-1])]
    assert f"2θ (°) {float(f'{top:.4g}'):g}" in browser.js("document.querySelector('.pattern').ariaLabel")
    rows = "[...window.__powder.data.rows.primary.intensity.mapped].sort((a, b) => a[0] - b[0])"
    mapped = browser.js(f"{rows}.map(([_, row]) => [...row].map((v) => v || null))")
    np.testing.assert_allclose(np.nansum(np.array(mapped, dtype=float), 1), np.nansum(patterns, 1), rtol=1e-6)
    table = run["cumulative"].base["internal"].read()
    told = browser.js("window.__powder.data.scalars.cumulative.last.map((row) => [row.frames, row.union_spottiness])")
    np.testing.assert_array_equal(told, table[["frames", "union_spottiness"]].to_numpy())
    positions = browser.js("window.__powder.data.scalars.primary.last.map((row) => row.pos)")
    assert positions == [p for p in POSITIONS for _ in range(EXPOSURES)]
    assert browser.js("document.querySelector('a.raw').href").endswith(run.metadata["start"]["raw_uid"])
    for chart, least in {".map": 50, ".pattern": 5, ".spottiness": 5, ".positions": 5}.items():
        assert browser.colours(f"{chart} canvas") > least, chart


def test_any_frame_the_sum_and_the_merge_are_chosen_by_keyboard_too(browser, server, scan):
    run = server.client()[scan.uid]
    browser.open(f"{server.uri}{POWDER}run/{scan.uid}")
    until(lambda: browser.data("shown") == f"primary {FRAMES - 1}")
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    slider = browser.driver.find_element("css selector", "input[type=range]")
    slider.send_keys(keys.HOME, keys.ARROW_RIGHT)
    until(lambda: browser.data("shown") == "primary 1")
    assert browser.text("output") == "frame 2"
    for which, stream in {"cumulative": "cumulative", "merged": "merged"}.items():
        browser.click(f"input[value={which}]")
        until(lambda stream=stream: browser.data("shown").startswith(stream))
        shown = browser.js("window.__powder.curve.intensity.reduce((sum, v) => sum + (v || 0), 0)")
        assert shown == pytest.approx(np.nansum(run[stream]["intensity"].read()[-1]), rel=1e-12)
    browser.click(".controls input[type=checkbox]")
    until(lambda: browser.js("window.__powder.charts.pattern.plot.scales.y.distr") == 3)
    assert browser.js("window.__powder.errors") == []
    assert browser.faults() == []


def test_patterns_are_downloaded_as_files(browser, server, scan, tmp_path):
    run = server.client()[scan.uid]
    browser.download_to(tmp_path / "downloads")
    browser.open(f"{server.uri}{POWDER}run/{scan.uid}")
    until(lambda: browser.data("shown") == f"primary {FRAMES - 1}")
    slider = "document.querySelector('input[type=range]')"
    browser.js(f"({slider}.value = 3, {slider}.dispatchEvent(new Event('input')))")
    until(lambda: browser.data("shown") == "primary 2")
    links = "[...document.querySelectorAll('.downloads a')]"
    names = browser.js(f"{links}.map((link) => link.download)")
    stem = f"b_CeO2_b-{scan.uid[:8]}"
    patterns = {"merged": {"which": "merged"}, "cumulative": {}, "frame3": {"which": "frame", "frame": 3}}
    patterns["cumulative"]["which"] = "cumulative"
    assert names == [f"{stem}-{which}.{kind}" for which in patterns for kind in ("xye", "chi", "fxye", "h5", "csv")]
    for row, name in enumerate(names):
        browser.click(".downloads:not([open]) summary")
        browser.js(f"{links}[{row}].click()")
        file = tmp_path / "downloads" / name
        until(lambda file=file: file.is_file() and not browser.js("document.querySelector('.downloads').open"))
        content = until(file.read_bytes)
        which, _, kind = name.removeprefix(f"{stem}-").rpartition(".")
        if kind == "h5":  # which has the time in it
            assert content.startswith(b"\x89HDF"), name
            continue
        run.export(expected := io.BytesIO(), format=kind, **patterns[which])
        assert content == expected.getvalue(), name
    assert browser.js("window.__powder.errors") == []
    assert browser.faults() == []


def test_download_that_is_refused_is_told(browser, server, publisher):
    old = store(publisher, derived_run(2, npt=20))  # of a version that kept no sums
    browser.open(f"{server.uri}{POWDER}run/{old}")
    until(lambda: browser.data("shown"))
    browser.click(".downloads summary")
    browser.click(".downloads a")
    until(lambda: "kept intensities only" in browser.text(".downloads [role=alert]"))
    assert browser.faults() == []


def test_run_in_pattern_files_grows_and_is_shown_whole(browser, server):
    documents = list(documents_of(range(1, 31), streams=["cumulative"]))
    events = [k for k, (name, document) in enumerate(documents) if name == "event" and "sums" in document["data"]]
    with TiledPublisher(server.uri, api_key=server.api_key, spool=server.spool, storage="file") as publisher:
        uid = store(publisher, documents[: events[5]])
        browser.open(f"{server.uri}{POWDER}run/{uid}")
        until(lambda: browser.data("frames") == "5" and browser.data("numbers") == "5")
        assert until(lambda: browser.data("status") == "live")
        node = server.client()[uid, "primary"].base["intensity"]
        (source,) = node.include_data_sources().data_sources()
        assert source.mimetype == "application/x-hdf5"
        browser.js("document.body.dataset.here = 'still'")
        for name, document in documents[events[5] : events[20]]:
            publisher(name, document)
        until(lambda: browser.data("frames") == "20" and browser.data("shown") == "primary 19")
        np.testing.assert_array_equal(
            np.array(browser.js("[...window.__powder.curve.intensity].map((v) => v || null)"), dtype=float),
            node.refresh().read((slice(19, 20),))[0],
        )
        for name, document in documents[events[20] :]:
            publisher(name, document)
        until(lambda: browser.data("status") == "complete")
        until(lambda: browser.data("frames") == "30" and browser.data("numbers") == "30")
    until(lambda: browser.js("window.__powder.data.rows.primary.intensity.mapped.size") == 30)
    assert browser.data("here") == "still"
    assert browser.js("window.__powder.errors") == []
    assert browser.faults() == []


def test_page_polls_where_websockets_are_refused(browser, server, publisher):
    documents = list(documents_of(range(1, 9), streams=["cumulative"]))
    middle = [k for k, (name, document) in enumerate(documents) if name == "event" and "sums" in document["data"]][3]
    with ProxyWithoutWebsockets(int(server.uri.rpartition(":")[2])) as proxy:
        uid = store(publisher, documents[:middle])
        browser.open(f"http://127.0.0.1:{proxy.port}{POWDER}run/{uid}#api_key=sesame")
        until(lambda: browser.data("status") == "polling")
        assert browser.text(".status") == "updated every 2 s"
        until(lambda: browser.data("frames") == "3" and browser.data("numbers") == "3")
        assert proxy.refused
        browser.js("document.body.dataset.here = 'still'")
        for name, document in documents[middle:-1]:
            publisher(name, document)
        until(lambda: browser.data("frames") == "8" and browser.data("numbers") == "8")
        browser.driver.switch_to.new_window("tab")
        browser.open(f"http://127.0.0.1:{proxy.port}{POWDER}")
        until(lambda: browser.data("status") == "updated every 5 s")
        assert "running" in browser.text(f"[data-uid='{uid}']")
        browser.driver.close()
        browser.driver.switch_to.window(browser.driver.window_handles[0])
        publisher(*documents[-1])
        until(lambda: browser.data("status") == "complete")
        assert browser.data("here") == "still"
        assert browser.js("window.__powder.errors") == []
        browser.open("about:blank")  # before the proxy goes
    refused = [fault for fault in browser.faults() if "WebSocket" not in fault]
    assert refused == []


def test_small_and_dark_screens_do(browser, server, scan):
    browser.size(400, 900)
    browser.prefer("dark")
    for path in ("", f"run/{scan.uid}"):
        browser.open(f"{server.uri}{POWDER}{path}")
        until(lambda path=path: browser.data("shown") if path else browser.text("tbody tr"))
        assert browser.js("document.documentElement.scrollWidth") <= 400
    browser.click(".downloads summary")
    left, right = browser.js(
        "(({left, right}) => [left, right])(document.querySelector('.menu').getBoundingClientRect())"
    )
    assert 0 <= left < right <= 400
    assert browser.js("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 29)"
    browser.size(1280, 1200)
    browser.prefer("light")


def test_ends_that_are_not_good_are_told(browser, server, publisher):
    documents = list(derived_run(2, npt=20))
    documents[-1][1].update(exit_status="abort", reason="the shutter closed")
    aborted = store(publisher, documents)
    documents = list(derived_run(0, npt=20))
    documents = [documents[0], documents[-1]]
    skipped = {
        "num_events": {},
        "frames_seen": 2,
        "frames_reduced": 0,
        "frames_skipped": 2,
        "skip_reasons": ["no monitor"],
    }
    documents[-1][1].update(exit_status="success", **skipped)
    empty = store(publisher, documents)
    browser.open(f"{server.uri}{POWDER}run/{aborted}")
    until(lambda: browser.data("status") == "complete")
    assert (
        browser.text(".banner") == "This run was aborted; what was reduced before is shown. Reason: the shutter closed."
    )
    assert browser.data("frames") == "2"
    browser.open(f"{server.uri}{POWDER}run/{empty}")
    until(lambda: browser.data("status") == "complete")
    assert browser.text(".banner") == "This run has no pattern. Reason: no monitor."
    browser.open(f"{server.uri}{POWDER}run/nosuchrun")
    assert until(lambda: browser.text(".banner")) == "There is no run nosuchrun here, or you may not see it."
    assert browser.faults() == []


def test_raw_run_leads_to_what_was_derived_from_it(browser, server, scan):
    raw_uid = server.client()[scan.uid].metadata["start"]["raw_uid"]
    browser.open(f"{server.uri}{POWDER}run/{raw_uid}")
    assert "these were derived from it" in until(lambda: browser.text(".banner"))
    assert browser.js("document.querySelector('main li a').href").endswith(f"/custom/powder/run/{scan.uid}")


def test_view_stands_in_tileds_own_pages(browser, server, scan):
    browser.open(f"{server.uri}/ui/browse/{scan.uid}")
    until(lambda: browser.data("status") == "complete" and browser.data("shown"))
    assert browser.colours(".powder .map canvas") > 50
    assert browser.js("document.querySelector('.powder-links a').href").endswith(f"/custom/powder/run/{scan.uid}")
    assert browser.js("window.__powder.errors") == []


def test_page_outlives_a_server_that_goes_and_comes_back(browser, tmp_path):
    documents = list(derived_run(6, npt=40))
    halves = documents[:10], documents[10:]
    with PowderServer(tmp_path, api_key="sesame") as server:
        port = int(server.uri.rsplit(":", 1)[1])
        with TiledPublisher(server.uri, api_key="sesame", spool=tmp_path / "spool") as publisher:
            for name, document in halves[0]:
                publisher(name, document)
            uid = halves[0][0][1]["uid"]
            until(lambda: uid in server.client())
            browser.open(f"{server.uri}{POWDER}run/{uid}#api_key=sesame")
            frames = until(lambda: int(browser.data("frames") or 0))
            browser.js("document.body.dataset.here = 'still'")
            server.close()
            until(lambda: browser.data("status") in ("away", "reconnecting"))
            assert "The server does not answer" in browser.text(".banner")
            assert int(browser.data("frames")) == frames
            with PowderServer(tmp_path, api_key="sesame", port=port):
                for name, document in halves[1]:
                    publisher(name, document)
                assert publisher.wait(90)
                until(lambda: browser.data("status") == "complete")
                until(lambda: browser.data("shown") == "primary 5")
                assert browser.data("numbers") == "6"
                assert browser.data("here") == "still"
                assert browser.js("window.__powder.errors") == []
