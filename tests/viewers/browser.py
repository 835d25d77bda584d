"""OHIF in headless Chromium: open a study, open an object of it, read what the viewer shows, take a picture."""

import io
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import element_to_be_clickable, presence_of_element_located
from selenium.webdriver.support.wait import WebDriverWait

_FLAGS = (
    "--headless=new", "--no-sandbox", "--window-size=1400,850", "--hide-scrollbars", "--disable-dev-shm-usage",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist",
)
_LIMIT_S = 180
_FRAMES_LOADED = "return performance.getEntriesByType('resource').filter(one => one.name.includes('/frames/')).length"
_OUTLINE_PIXELS = 20
_LARGE_BYTES = 280_000
_BLANK = 0.013  # of the pixels: the frame around an empty viewport is less

ROUNDING = 3
"""Largest difference of a colour component: Recommended Display CIELab Value is a rounded RGB."""


class Viewer:
    """One browser window with OHIF in it."""

    def __init__(self, driver: webdriver.Chrome, url: str):
        self._driver = driver
        self._url = url
        self._wait = WebDriverWait(driver, _LIMIT_S)
        self.browser = f"Chromium {driver.capabilities['browserVersion']}"

    def open_study(self, study_instance_uid: str, *, series: int, images: int) -> None:
        """Open a study and wait until `series` of it are listed and its `images` are loaded.

        Until then OHIF is busy, and what is opened may be drawn late.
        """
        self._driver.get(f"{self._url}/viewer?StudyInstanceUIDs={study_instance_uid}")
        self._driver.execute_script("performance.setResourceTimingBufferSize(10000)")
        self._wait.until(lambda _: len(self._thumbnails()) >= series)
        self._wait.until(lambda driver: driver.execute_script(_FRAMES_LOADED) >= images)
        for skip in self._driver.find_elements(By.XPATH, "//*[normalize-space(text())='Skip all']"):
            skip.click()

    def open_object(self, description: str) -> None:
        """Double-click the series with this in its description."""
        found = next(one for one in self._thumbnails() if description in one.text)
        ActionChains(self._driver).double_click(found).perform()

    def load_segmentation(self) -> dict[str, tuple[int, int, int]]:
        """Load the opened SEG, show it in three planes and return the colour of each segment by its name."""
        self._click("[data-cy='yes-hydrate-btn']")
        self._steady()  # a layout that is chosen before the segments are drawn never gets them
        self._click("[data-cy='Layout']")
        self._wait.until(element_to_be_clickable((By.XPATH, "//*[normalize-space(text())='MPR']"))).click()
        self._wait.until(lambda _: len(self._driver.find_elements(By.CSS_SELECTOR, "[data-cy='viewport-pane']")) == 3)
        self._steady()
        self._click("[data-cy='panelSegmentation-btn']")
        rows = self._wait.until(lambda _: self._driver.find_elements(By.CSS_SELECTOR, "[data-cy='data-row']"))
        return {self._in(row, "data-row-title").text: _rgb(self._in(row, "data-row-colorhex")) for row in rows}

    def not_drawn(self, colours: Mapping[str, tuple[int, int, int]]) -> list[str]:
        """Return the segments whose outlines do not appear in the images in their colours."""
        missing = list(colours)

        def all_drawn(_: object) -> bool:
            pixels = self._images()
            missing[:] = [name for name, colour in colours.items()
                          if (np.abs(pixels - colour).max(axis=2) <= ROUNDING).sum() < _OUTLINE_PIXELS]
            return not missing

        with suppress(TimeoutException):
            WebDriverWait(self._driver, _LIMIT_S, poll_frequency=2).until(all_drawn)
        return missing

    def report(self, title: str) -> str | None:
        """Return the text of the opened report, None when OHIF fails to show it under this title."""
        self._steady()
        text = self._driver.find_element(By.TAG_NAME, "body").text
        return text if title in text else None

    def scroll_to(self, text: str) -> None:
        """Bring a text into view."""
        innermost = f"//*[contains(., '{text}')][not(*[contains(., '{text}')])]"
        element = self._wait.until(presence_of_element_located((By.XPATH, innermost)))
        self._driver.execute_script("arguments[0].scrollIntoView({block: 'start'})", element)

    def blank(self) -> bool:
        """Say whether the place of the images is empty: what OHIF leaves there when its scripts stop on an object."""
        return float((self._images() > 0).any(axis=2).mean()) < _BLANK

    def picture(self, path: Path) -> None:
        """Write what the window shows, once it has settled, as a PNG; a large one with a palette."""
        image = Image.open(io.BytesIO(self._steady())).convert("RGB")
        image.save(path, optimize=True)
        if path.stat().st_size > _LARGE_BYTES:
            image.quantize(256, kmeans=3, dither=Image.Dither.NONE).save(path, optimize=True)

    def _images(self) -> np.ndarray:
        grid = self._driver.find_element(By.CSS_SELECTOR, "[data-cy='viewport-grid']").screenshot_as_png
        return np.asarray(Image.open(io.BytesIO(grid)).convert("RGB"), int)

    def _steady(self) -> bytes:
        """Return the window's picture when it has not changed for some seconds."""
        last, same = b"", 0
        deadline = time.monotonic() + _LIMIT_S
        while same < 3 and time.monotonic() < deadline:
            time.sleep(1.5)
            now = self._driver.get_screenshot_as_png()
            same = same + 1 if now == last else 0
            last = now
        return last

    def _thumbnails(self) -> list[WebElement]:
        return self._driver.find_elements(By.CSS_SELECTOR, "[data-cy^='study-browser-thumbnail']")

    def _click(self, selector: str) -> None:
        self._wait.until(element_to_be_clickable((By.CSS_SELECTOR, selector))).click()

    @staticmethod
    def _in(row: WebElement, name: str) -> WebElement:
        return row.find_element(By.CSS_SELECTOR, f"[data-cy='{name}']")


def _rgb(element: WebElement) -> tuple[int, int, int]:
    red, green, blue = re.findall(r"\d+", element.value_of_css_property("background-color"))[:3]
    return int(red), int(green), int(blue)


@contextmanager
def viewer(url: str) -> Iterator[Viewer]:
    """Start Chromium (Debian: chromium, chromium-driver) and end it with the block."""
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    for flag in _FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Viewer(driver, url)
    finally:
        driver.quit()
