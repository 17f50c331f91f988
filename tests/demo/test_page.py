# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The page as visitors have it: the real command in a process of its own, and a real browser."""

import contextlib
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from helpers.page_process import PACKAGE_PARENT, PATIENCE, Page, start_page
from PIL import Image

from cgrseg_hf.inference import Segmenter
from cgrseg_hf.pretrained import DEFAULT_MODEL

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMEDRIVER = shutil.which("chromedriver")
BROWSER_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--lang=en",
)
MAX_PIXELS = 400_000
# A class that would change the page's title if its name were taken for HTML.
HOSTILE_NAME = "<img src=x onerror=\"document.title='taken over'\">"


@pytest.fixture(scope="module")
def model_folder(decided_model, decided_folder, tmp_path_factory) -> Path:
    """The tiny model, with a class of a hostile name."""
    folder = shutil.copytree(decided_folder, tmp_path_factory.mktemp("page") / "tiny")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(class_id): f"class {class_id} {HOSTILE_NAME}" for class_id in range(5)}
    config["label2id"] = {name: int(class_id) for class_id, name in config["id2label"].items()}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def page(model_folder, tmp_path_factory) -> Iterator[Page]:
    arguments = ["--model", str(model_folder), "--model", str(DEFAULT_MODEL), "--max-pixels", str(MAX_PIXELS)]
    with start_page(tmp_path_factory.mktemp("server"), *arguments, "--allow-any-model") as page:
        yield page


@pytest.fixture
def browser(page, tmp_path) -> Iterator["Browser"]:
    """A new browser with the page open."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip("needs Chromium and its driver (Debian: apt-get install chromium chromium-driver)")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*BROWSER_OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1280,1400"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "downloads")})
    driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
    try:
        browser = Browser(driver)
        browser.open(page.address)
        yield browser
    finally:
        driver.quit()


class Browser:
    """What a visitor does, and sees."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, address: str) -> None:
        self.driver.get(address)
        self.find("#examples button")

    def wait(self, condition: Callable[[], object]) -> object:
        """Wait until a condition holds; pieces of the page that are just being replaced do not count."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        waiting = WebDriverWait(self.driver, PATIENCE, ignored_exceptions=[StaleElementReferenceException])
        return waiting.until(lambda _: condition())

    def find(self, selector: str):
        return self.wait(lambda: next(iter(self.driver.find_elements("css selector", selector)), None))

    def sees(self, selector: str) -> bool:
        return bool(self.driver.find_elements("css selector", selector))

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def wait_for_text(self, selector: str, text: str) -> str:
        return self.wait(lambda: text in (shown := self.text(selector)) and shown)

    def upload(self, path: Path) -> None:
        self.find("#photo input[type=file]").send_keys(str(path))

    def picture(self, selector: str) -> np.ndarray:
        """The pixels of a picture, as the server sent them."""
        address = self.find(f"{selector} img").get_attribute("src")
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB"), dtype=int)

    def wait_for_other_picture(self, selector: str, before: np.ndarray) -> np.ndarray:
        def changed():
            now = self.picture(selector)
            return None if np.array_equal(now, before) else (now,)

        return self.wait(changed)[0]

    def type_into(self, selector: str, text: str) -> None:
        field = self.find(selector)
        field.send_keys("\ue009a\ue000", text)  # Ctrl+A: what was there goes

    def requested_hosts(self) -> set[str]:
        """Hosts that the browser has asked anything of since it was started."""
        hosts = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                address = urlsplit(message["params"]["request"]["url"])
                if address.scheme in ("http", "https", "ws", "wss"):
                    hosts.add(address.hostname)
        return hosts

    def is_as_wide_as_the_window(self) -> bool:
        return self.driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


@pytest.fixture
def street(tmp_path, photos) -> Path:
    """A photo of a street, in a file whose name is hostile too."""
    return Path(shutil.copy(photos / "000000015517.jpg", tmp_path / "street & <b>cars.jpg"))


@pytest.mark.long
def test_a_visit(browser, page, street, model_folder, tmp_path):
    browser.upload(street)
    browser.wait_for_text("#status", "640 × 480 pixels")
    segmentation = Segmenter.from_pretrained(model_folder, "torch")(street)
    overlay = browser.picture("#overlay")
    assert overlay.shape == (480, 640, 3)

    # the table lists the classes, the largest first, and their names are text
    rows = browser.driver.find_elements("css selector", "#classes tbody tr")
    assert [row.find_element("css selector", "th").text for row in rows] == list(segmentation.area_shares)
    largest = next(iter(segmentation.area_shares.values()))
    assert rows[0].find_element("css selector", ".cgrseg-share").text == f"{largest:.1%}"
    assert HOSTILE_NAME in rows[0].text

    # a click on the picture tells the class of that pixel
    from selenium.webdriver.common.action_chains import ActionChains

    picture = browser.find("#overlay img")
    browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", picture)
    ActionChains(browser.driver).move_to_element_with_offset(picture, 40, -60).click().perform()
    answer = browser.wait_for_text("#answer", "Pixel (")
    x, y = map(int, re.search(r"Pixel \((\d+), (\d+)\)", answer).groups())
    assert (x, y) == pytest.approx(
        (320 + 40 * 640 / picture.size["width"], 240 - 60 * 480 / picture.size["height"]), abs=3
    )
    assert segmentation.id2label[int(segmentation.label_map[y, x])] in answer
    assert "Next: class" in answer
    browser.wait(lambda: browser.find("#x input").get_attribute("value") == str(x))

    # so do its coordinates, with the keyboard alone
    browser.type_into("#x input", "5")
    browser.type_into("#y input", "470")
    browser.find("#ask").send_keys("\ue007")  # Enter
    assert segmentation.id2label[int(segmentation.label_map[470, 5])] in browser.wait_for_text("#answer", "(5, 470)")

    # the opacity changes the picture
    before = browser.wait_for_other_picture("#overlay", overlay)
    for _ in range(4):
        browser.find("#opacity input[type=range]").send_keys("\ue012")  # the left arrow
    fainter = browser.wait_for_other_picture("#overlay", before)
    with Image.open(street) as photo:
        pixels = np.asarray(photo.convert("RGB"), dtype=int)
    assert np.abs(fainter - pixels).mean() < np.abs(before - pixels).mean()

    # the label map is saved as what it is
    browser.find("#download").click()
    downloads = tmp_path / "downloads"
    saved = browser.wait(lambda: next(iter(downloads.glob("*_classes.png")), None))
    with Image.open(saved) as label_map:
        assert label_map.mode == "P"
        np.testing.assert_array_equal(np.asarray(label_map), segmentation.label_map)

    assert browser.driver.title != "taken over"
    assert not browser.driver.find_elements("css selector", "#classes img, #status img, #status b, #answer img")
    assert browser.requested_hosts() == {"127.0.0.1"}
    severe = [one["message"] for one in browser.driver.get_log("browser") if one["level"] == "SEVERE"]
    assert severe == []


@pytest.mark.long
def test_mistakes_are_said_in_words(browser, street, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(street.read_bytes()[:9000])
    Image.new("RGB", (1000, 500)).save(tmp_path / "large.png")
    browser.upload(street)
    browser.find("#overlay img")
    for name, message in (
        ("broken.jpg", "cannot be read"),
        ("large.png", "500,000 pixels"),
        (street.name, "Most of it"),
    ):
        browser.find("#photo button[aria-label='Remove Image']").click()
        browser.wait_for_text("#status", "Choose a photo")
        browser.upload(tmp_path / name)
        shown = browser.wait_for_text("#status", message)
        assert "Traceback" not in shown and str(tmp_path) not in shown
        is_good = name == street.name
        browser.wait(
            lambda is_good=is_good: bool(browser.driver.find_elements("css selector", "#overlay img")) == is_good
        )
    browser.type_into("#x input", "9")
    browser.find("#ask").click()
    browser.wait_for_text("#answer", "x goes from 0 to 639, y from 0 to 479")


@pytest.mark.long
def test_models_and_heat_maps(browser):
    browser.find("#examples button").send_keys("\ue007")  # an example, with the keyboard
    browser.find("#overlay img")
    choose(browser, "#model", "CGRSeg-T for street scenes")
    browser.wait_for_text("#description", "Trained on CamVid. It knows 11 classes")
    browser.wait_for_text("#status", "sky")
    browser.wait_for_text("#classes", "sky")
    next(
        tab for tab in browser.driver.find_elements("css selector", "button[role=tab]") if tab.text == "Heat map"
    ).click()
    of_sky = browser.picture("#heat-map")
    choose(browser, "#heat-class", "road")
    of_road = browser.wait_for_other_picture("#heat-map", of_sky)
    top, bottom = slice(0, 100), slice(320, 420)
    assert of_sky[top].mean() > of_road[top].mean() + 30
    assert of_road[bottom].mean() > of_sky[bottom].mean() + 30

    choose(browser, "#model", "Another model of the Hub")
    browser.find("#hub-id textarea, #hub-id input").send_keys("../user/model")
    browser.find("#use-hub-id").click()
    browser.wait_for_text("#description", "write it as owner/name")
    browser.wait_for_text("#status", "write it as owner/name")


def choose(browser: Browser, selector: str, option: str) -> None:
    """Choose in a list, with the mouse."""
    browser.find(f"{selector} input").click()

    def named():
        options = browser.driver.find_elements("css selector", "ul[role=listbox] li")
        return next((one for one in options if option in one.text), None)

    browser.wait(named).click()


@pytest.mark.long
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_on_a_phone(browser, page, color_scheme):
    browser.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    browser.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": color_scheme}]}
    )
    browser.open(page.address)
    assert browser.driver.execute_script("return window.innerWidth") == 390
    assert browser.is_as_wide_as_the_window()
    browser.find("#examples button").click()
    browser.find("#overlay img")
    assert browser.is_as_wide_as_the_window()
    browser.wait(
        lambda: (
            0
            <= browser.driver.execute_script("return document.getElementById('status').getBoundingClientRect().top")
            < 844
        )
    )  # the answer is in sight
    background = browser.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    brightness = np.mean([int(value) for value in re.findall(r"\d+", background)[:3]])
    assert (brightness < 60) if color_scheme == "dark" else (brightness > 200)


@pytest.mark.long
def test_every_field_has_a_name(browser):
    browser.find("#examples button").click()
    browser.find("#overlay img")
    unnamed = browser.driver.execute_script(
        """
        const named = (element) => element.getAttribute("aria-label") || element.innerText.trim() || element.title
            || element.querySelector("[aria-label], img[alt]:not([alt=''])")
            || [...(element.labels || [])].some((label) => label.innerText.trim());
        return [...document.querySelectorAll("button, input, textarea, a[href]")]
            .filter((element) => element.offsetParent !== null && !named(element)).map((element) => element.outerHTML);
        """
    )
    assert unnamed == []
    assert all(image.get_attribute("alt") is not None for image in browser.driver.find_elements("css selector", "img"))
    assert browser.find("#overlay img").get_attribute("alt")


@pytest.mark.long
def test_a_full_queue_is_said_in_words(browser, page, street):
    photo = {"path": page.upload(street), "meta": {"_type": "gradio.FileData"}}
    function, over = page.find_function("photo.change"), threading.Event()

    def fill_the_queue() -> None:
        while not over.is_set():
            with contextlib.suppress(urllib.error.HTTPError):
                page.join(function, [photo, "tiny", "", 55], "somebody")

    with ThreadPoolExecutor(4) as others:
        filling = [others.submit(fill_the_queue) for _ in range(4)]
        try:

            def is_told() -> bool:
                browser.find("#examples button").click()
                return "busy" in browser.text("body")

            browser.wait(is_told)
        finally:
            over.set()
        for one in filling:
            one.result()
    browser.wait(lambda: browser.find("#examples button").click() or browser.sees("#overlay img"))


@pytest.mark.long
def test_what_the_server_gives_out(page, tmp_path):
    status, content, headers = page.get("/")
    assert status == 200
    assert "default-src 'self'" in headers["content-security-policy"]
    config = json.loads(page.get("/config")[1])
    assert config["analytics_enabled"] is False
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    source = PACKAGE_PARENT / "cgrseg_hf" / "demo" / "page.py"
    for path in (secret, "/etc/passwd", source, page.temporary.parent / "log", "log", "../log"):
        assert page.get(f"/gradio_api/file={path}")[0] in (403, 404), path
    assert str(DEFAULT_MODEL).encode() not in content  # nor does it tell where things lie
    assert page.get("/gradio_api/info")[1] == b'{"named_endpoints":{},"unnamed_endpoints":{}}'


@pytest.mark.long
def test_only_uploaded_photos_are_opened(page, street, tmp_path):
    linked = page.temporary / "linked.jpg"
    linked.symlink_to(street)
    for photo in (
        {"path": str(street)},
        {"path": str(linked)},
        {"path": f"{page.temporary}/../{street}"},
        {"path": "http://127.0.0.1:1/photo.jpg"},
        {"path": None, "url": f"file://{street}"},
    ):
        answer = page.ask_for_classes(photo, "tiny")
        assert "Most of it" not in answer and "pixels" not in answer
    assert not list(page.temporary.rglob(street.name))  # nor were they copied to where they could be fetched
    uploaded = page.upload(street)
    assert "Most of it" not in page.ask_for_classes({"path": uploaded}, str(DEFAULT_MODEL))  # a path is no choice
    assert "Most of it" in page.ask_for_classes({"path": uploaded}, "tiny")


@pytest.mark.long
def test_who_waits_for_a_model_holds_up_nobody(model_folder, street, slow_hub, tmp_path):
    arguments = ["--model", str(model_folder), "--allow-any-model", "--time-limit", "3600"]
    variables = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": slow_hub.address, "NO_PROXY": "127.0.0.1"}
    with start_page(tmp_path, *arguments, variables=variables) as page:
        uploaded = {"path": page.upload(street)}
        said = page.ask_for_classes(uploaded, "Another model of the Hub", "user/model")
        assert "user/model is still being fetched" in said
        assert "Most of it" in page.ask_for_classes(uploaded, "tiny")
        page.process.send_signal(signal.SIGTERM)
        assert page.process.wait(timeout=PATIENCE) == 128 + signal.SIGTERM  # though the model is still being fetched
        assert not slow_hub.gate.is_set()


@pytest.mark.long
def test_nothing_is_left_behind(model_folder, tmp_path):
    with start_page(tmp_path, "--model", str(model_folder)) as page:
        assert page.get("/")[0] == 200
        assert list(page.temporary.glob("cgrseg-demo-*"))
        taken = urlsplit(page.address).port
        command = [sys.executable, "-m", "cgrseg_hf", "demo", "--model", str(model_folder), "--port", str(taken)]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert refused.returncode == 1
        assert f"Cannot listen on 127.0.0.1, port {taken}" in refused.stderr and "Traceback" not in refused.stderr
        page.process.send_signal(signal.SIGTERM)
        assert page.process.wait(timeout=PATIENCE) == 128 + signal.SIGTERM
        assert not list(page.temporary.glob("cgrseg-demo-*"))


def test_the_extra_is_named_where_gradio_is_missing():
    code = (
        "import sys; sys.modules['gradio'] = None; sys.argv[1:] = ['demo']\n"
        "from cgrseg_hf.commands.main import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1
    assert 'pip install "cgrseg_hf[demo]"' in ended.stderr and "Traceback" not in ended.stderr
