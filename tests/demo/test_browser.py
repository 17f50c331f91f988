# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The page in a real browser: what a visitor does and sees, at a desk and on a phone."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from helpers.page_process import start_page
from PIL import Image

from cgrseg_hf.inference import Segmenter

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
BROWSER_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--lang=en"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,1400"),
)
# A name that would change the page's title if it were taken for HTML.
HOSTILE_NAME = "<img src=x onerror=\"document.title='taken over'\">"


class Browser:
    """What a visitor does and sees."""

    def __init__(self, driver):
        self.driver = driver

    def wait(self, condition: Callable[[], object]):
        """Wait until a condition holds; parts of the page that are just being replaced do not count."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        waiting = WebDriverWait(self.driver, 60, ignored_exceptions=[StaleElementReferenceException])
        return waiting.until(lambda _: condition())

    def find(self, selector: str, text: str = ""):
        """Wait for an element whose text has this part."""
        found = self.driver.find_elements
        return self.wait(lambda: next((one for one in found("css selector", selector) if text in one.text), None))

    def click(self, selector: str, text: str = "") -> None:
        element = self.find(selector, text)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def upload(self, path: Path) -> None:
        self.find("#photo input[type=file]").send_keys(str(path))

    def source(self, selector: str) -> str:
        """Where an image comes from: another one when it is drawn anew."""
        return self.find(f"{selector} img").get_attribute("src")

    def requested_hosts(self) -> set[str]:
        """Hosts that the browser has asked for anything since it was started."""
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        requests = (one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent")
        return {urlsplit(url).hostname for url in requests if url.startswith(("http", "ws"))}

    def fits_the_window(self) -> bool:
        return self.driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


@pytest.fixture
def browser(tmp_path) -> Iterator[Browser]:
    webdriver = pytest.importorskip("selenium.webdriver")
    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip("needs Chromium and its driver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*BROWSER_OPTIONS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "downloads")})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


@pytest.fixture
def hostile_folder(decided_folder, tmp_path) -> Path:
    """The tiny model with classes of hostile names."""
    folder = shutil.copytree(decided_folder, tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(class_id): f"class {class_id} {HOSTILE_NAME}" for class_id in range(5)}
    config["label2id"] = {name: int(class_id) for class_id, name in config["id2label"].items()}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.long
def test_a_visit(browser, hostile_folder, photos, tmp_path):
    street = Path(shutil.copy(photos / "000000015517.jpg", tmp_path / "street & <b>cars.jpg"))
    segmentation = Segmenter.from_pretrained(hostile_folder, "torch")(street)
    with start_page(tmp_path, "--model", str(hostile_folder)) as page:
        browser.driver.get(page.address)
        browser.upload(street)
        overlay = browser.source("#overlay")
        names = list(segmentation.area_shares)
        table = browser.find("#classes", names[-1]).text
        assert sorted(names, key=table.index) == names  # the largest first

        # a click in the middle of the image shows the class there
        browser.click("#overlay img")
        browser.find("#scores", "Pixel (320, 240)")
        browser.find("#scores", segmentation.id2label[int(segmentation.label_map[240, 320])])

        # the opacity and the class of the heat map draw anew
        browser.find("#opacity input[type=range]").send_keys("\ue012" * 4)  # arrow to the left
        browser.wait(lambda: browser.source("#overlay") != overlay)
        browser.click("button[role=tab]", "Heat map")
        heat_map = browser.source("#heat-map")
        browser.click("#heat-class input")
        browser.click("ul[role=listbox] li", segmentation.id2label[segmentation.class_ids[-1]])
        browser.wait(lambda: browser.source("#heat-map") != heat_map)

        # the label map is saved as what it is
        browser.click("button[role=tab]", "Classes")
        browser.click("#download")
        saved = browser.wait(lambda: next((tmp_path / "downloads").glob("*_classes.png"), None))
        with Image.open(saved) as label_map:
            np.testing.assert_array_equal(np.asarray(label_map), segmentation.label_map)

        # a mistake is said in words, and the results of the photo before are gone
        browser.click("#photo button[aria-label='Remove Image']")
        (tmp_path / f"{street.stem} broken.jpg").write_bytes(street.read_bytes()[:9000])
        browser.upload(tmp_path / f"{street.stem} broken.jpg")
        browser.find(".toast-body", "damaged")
        assert not browser.driver.find_elements("css selector", "#overlay img")

        # examples, on a phone
        screen = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.driver.get(page.address)
        assert browser.fits_the_window()
        browser.click("#examples button img")
        assert browser.find("#overlay img").get_attribute("alt")
        assert browser.fits_the_window()

        assert browser.driver.title == "CGRSeg"
        assert browser.requested_hosts() == {"127.0.0.1"}
        assert [one for one in browser.driver.get_log("browser") if one["level"] == "SEVERE"] == []
