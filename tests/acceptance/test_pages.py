"""The pages in a real browser, over a real node: sign in, look, try again, judge findings, and see the report arrive."""

import os
import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from node_harness import Node, dciodvfy_errors, dicom_destination, free_port, storescu, wait_for
from ovcf_node.demo import phantom
from ovcf_node.domain.identity import uid_from
from web_browser import chromium, whole_page

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.browser]

SERIES = uid_from("phantom", "demo", "series")
SR = "1.2.840.10008.5.1.4.1.1.88.34"
PASSWORD = "spine reader 2026"
KEEP = os.environ.get("OVCF_SCREENSHOTS")  # a folder: for the operator's guide


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A node with pages that has read the phantom; one destination is a folder, the other a PACS that is away."""
    folder = tmp_path_factory.mktemp("pages")
    phantom.write_series(phantom.load(), folder / "phantom")
    port = free_port()
    destinations = (
        f'[[destinations]]\nname = "archive"\ntype = "folder"\npath = "{folder / "archive"}"\n'
        + dicom_destination("pacs", "PACS", free_port())
    )
    node = Node(folder / "node", destinations, extra=f'[web]\nenabled = true\nport = {port}\nusers = "users.toml"\n')
    for account, name, roles in (("anna", "Bergmann^Anna", ("reader", "operator")), ("vera", "Vogel^Vera", ("viewer",))):
        options = [part for role in roles for part in ("--role", role)]
        done = subprocess.run(
            [*node.program, "users", "add", account, "--name", name, *options, "--password-stdin", "--config",
             str(node.configuration)], input=PASSWORD + "\n", capture_output=True, text=True, timeout=60,
        )
        assert done.returncode == 0, done.stderr
    with node.running():
        storescu(node.port, folder / "phantom")
        wait_for(lambda: node.newest(SERIES) and node.newest(SERIES).answered, 240, "the phantom is read")
        wait_for(lambda: len(list((folder / "archive").glob("*.dcm"))) == 4, 60, "the folder has everything")
        yield {"node": node, "folder": folder, "url": f"http://127.0.0.1:{port}", "archive": folder / "archive"}
    assert node.exit_status == 0
    log = node.log.read_text()
    assert not any(word in log for word in ("PHANTOM-1", "Phantom^Demo", "DEMO0001", PASSWORD)) and "defect" not in log


@pytest.fixture
def browse(site, tmp_path):
    """Return a function that opens a browser on the site, signed in."""

    def open_(account: str = "anna", **look):
        return _SignedIn(site["url"], tmp_path / "profile", account, look)

    return open_


class _SignedIn:
    def __init__(self, url: str, profile: Path, account: str, look: dict):
        self.url, self.account, self._context = url, account, chromium(profile, **look)

    def __enter__(self):
        self.driver = self._context.__enter__()
        self.driver.get(self.url)
        sign_in(self.driver, self.account)
        return self.driver

    def __exit__(self, *failure):
        # What the content security policy blocks, and every other complaint, stands in the console.
        complaints = [] if failure[0] else self.driver.get_log("browser")
        self._context.__exit__(*failure)
        assert complaints == []


def settles(driver, check) -> None:
    """Return when `check` is true; a page that is being replaced meanwhile, or replaces its parts, is looked at again."""
    passing = (NoSuchElementException, StaleElementReferenceException)
    WebDriverWait(driver, 30, ignored_exceptions=passing).until(lambda _: check())


def sign_in(driver, account: str) -> None:
    driver.find_element(By.ID, "account").send_keys(account)
    driver.find_element(By.ID, "password").send_keys(PASSWORD, Keys.ENTER)
    settles(driver, lambda: driver.find_element(By.TAG_NAME, "h1").text == "Status")


def open_study(driver) -> None:
    def opened() -> bool:
        if "/study/" not in driver.current_url:
            driver.find_element(By.CSS_SELECTOR, "section[aria-labelledby=studies] tbody a").click()
        return "/study/" in driver.current_url

    settles(driver, opened)
    wait_for(lambda: driver.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth)"), 10,
             "the picture is there")


def picture(driver, name: str, folder: Path) -> None:
    if KEEP:  # a headless browser without a graphics card now and then hangs on a picture: only where one is wanted
        whole_page(driver, folder / f"{name}.png")
        shutil.copy(folder / f"{name}.png", Path(KEEP) / f"{name}.png")


def fits(driver) -> bool:
    """Say whether the page, and every table on it, is no wider than the screen."""
    return driver.execute_script("""
      const wide = [document.documentElement, ...document.querySelectorAll(".scroll")];
      return window.innerWidth <= screen.width && wide.every(e => e.scrollWidth <= e.clientWidth);""")


def contrasts(driver) -> list[str]:
    """Return texts whose contrast with what lies behind them is below WCAG's 4.5."""
    return driver.execute_script("""
      const parse = c => c.match(/[\\d.]+/g).map(Number);
      const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
      const light = rgb => [.2126, .7152, .0722].reduce((sum, w, i) => sum + w * linear(rgb[i] / 255), 0);
      const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
        if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
      const poor = [];
      for (const e of document.querySelectorAll("body *")) {
        const text = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent.trim()).join("");
        if (!text || !e.checkVisibility() || e.closest("option, optgroup")) continue;
        const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
        const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        if (ratio < 4.5) poor.push(`${text.slice(0, 40)} ${ratio.toFixed(2)}`);
      }
      return poor;""")


def unnamed(driver) -> list[str]:
    """Return controls, pictures and landmarks that a screen reader could not name."""
    return driver.execute_script("""
      const named = e => e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length || e.alt
        || e.querySelector("img")?.alt || document.getElementById(e.getAttribute("aria-labelledby"))?.textContent;
      const wanted = "a, button, select, input:not([type=hidden]), img, nav, section, [role=region]";
      const found = [...document.querySelectorAll(wanted)];
      const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
      return [...found.filter(e => !named(e)).map(e => e.outerHTML.slice(0, 80)),
        ...ids.filter((id, i) => ids.indexOf(id) !== i).map(id => `twice: ${id}`)];""")


@pytest.mark.parametrize(("look", "name"), [
    ({}, "light"), ({"dark": True}, "dark"), ({"width": 390, "height": 844}, "phone"),
    ({"width": 320, "height": 640, "dark": True}, "small-phone"),
])
def test_pages_fit_and_are_readable(browse, tmp_path, look, name):
    with browse(**look) as driver:
        for page in ("status", "study", "configuration"):
            if page == "study":
                open_study(driver)
            if page == "configuration":
                driver.find_element(By.LINK_TEXT, "Configuration").click()
                settles(driver, lambda: driver.find_element(By.TAG_NAME, "h1").text == "Configuration")
            picture(driver, f"{page}-{name}", tmp_path)
            assert fits(driver), page
            assert contrasts(driver) == [], page
            assert unnamed(driver) == [], page
            assert "Research use only" in driver.find_element(By.TAG_NAME, "body").text
        driver.find_element(By.CSS_SELECTOR, ".who button").click()
        settles(driver, lambda: driver.find_element(By.ID, "account"))
        picture(driver, f"sign-in-{name}", tmp_path)
        assert fits(driver) and contrasts(driver) == [] and unnamed(driver) == []


def test_viewer_sees_the_finding_and_nobody_s_name(browse):
    with browse("vera") as driver:
        open_study(driver)
        text = driver.page_source
        assert "Suspected vertebral fracture: L1" in text
        assert not any(word in text for word in ("Phantom, Demo", "PHANTOM-1", "DEMO0001", "<select"))


def test_status_is_live_and_can_be_paused(site, browse):
    with browse() as driver:
        fresh = driver.find_element(By.ID, "fresh")
        before = fresh.text
        link = driver.find_element(By.CSS_SELECTOR, "section[aria-labelledby=studies] tbody a")
        link.send_keys("")  # the focus must survive the refresh
        address = link.get_attribute("href")
        wait_for(lambda: fresh.text != before, 12, "the page refreshes itself")
        assert driver.switch_to.active_element.get_attribute("href") == address
        pause = driver.find_element(By.ID, "pause")
        pause.click()
        assert pause.get_attribute("aria-pressed") == "true"


def test_screen_whose_session_ended_names_nobody(browse):
    with browse() as driver:
        board, told = driver.find_element(By.ID, "board"), driver.find_element(By.ID, "told")
        assert "Phantom, Demo" in board.text
        driver.delete_all_cookies()
        wait_for(lambda: "signed out" in told.get_attribute("textContent"), 12, "the page says that the session ended")
        assert board.text == "" and "Phantom" not in driver.page_source
        assert all("401" in line["message"] for line in driver.get_log("browser"))


def test_keyboard_alone_reaches_and_works_everything(site, browse):
    node = site["node"]
    with browse() as driver:
        keys = ActionChains(driver)
        keys.send_keys(Keys.TAB, Keys.ENTER).perform()  # "skip to the content" is first
        assert driver.switch_to.active_element.get_attribute("id") == "main"
        for _ in range(10):
            ActionChains(driver).send_keys(Keys.TAB).perform()
            if "/study/" in (driver.switch_to.active_element.get_attribute("href") or ""):
                break
        outline = driver.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        ActionChains(driver).send_keys(Keys.ENTER).perform()
        before = node.ledger.destinations.of("pacs").failures  # it is away: trying again is one more probe
        for _ in range(10):
            ActionChains(driver).send_keys(Keys.TAB).perform()
            if driver.switch_to.active_element.text == "Try again now":
                break
        ActionChains(driver).send_keys(Keys.ENTER).perform()
        settles(driver, lambda: driver.find_element(By.CSS_SELECTOR, "[role=status]").text == "It is tried again.")
    wait_for(lambda: node.ledger.destinations.of("pacs").failures > before, 30, "it is probed")
    assert any("by anna" in e.text for e in node.ledger.events.of_series(SERIES) if e.kind == "retried")


def reports(archive: Path) -> list[pydicom.Dataset]:
    found = [pydicom.dcmread(path) for path in archive.glob("*.dcm")]
    return sorted((ds for ds in found if ds.SOPClassUID == SR), key=lambda ds: ds.InstanceNumber)


def test_second_reading_arrives_as_a_report(site, browse, tmp_path):
    with browse() as driver:
        open_study(driver)
        Select(driver.find_element(By.NAME, "said-L1")).select_by_value("accepted")
        Select(driver.find_element(By.NAME, "said-L3")).select_by_value("rejected")
        Select(driver.find_element(By.NAME, "said-L4")).select_by_value("corrected:L5")
        driver.find_element(By.XPATH, "//button[text()='Store my second reading']").click()
        stored = "Your second reading is stored"
        settles(driver, lambda: driver.find_element(By.CSS_SELECTOR, "[role=status]").text.startswith(stored))
        wait_for(lambda: len(reports(site["archive"])) == 2, 90, "the second report arrives")
        driver.refresh()
        picture(driver, "second-reading", tmp_path)
        text = driver.find_element(By.TAG_NAME, "main").text
        assert "SECOND READING by a person: L1 accepted, L3 REJECTED, L4 corrected to L5." in text
        assert "Second reading by Anna Bergmann (anna)" in text
    first, second = reports(site["archive"])
    assert second.SeriesInstanceUID == first.SeriesInstanceUID
    [before] = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert before.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert second.VerificationFlag == "UNVERIFIED" and "Bergmann^Anna" in second.to_json()
    assert dciodvfy_errors(site["archive"] / f"{second.SOPInstanceUID}.dcm") == []
    assert len(list(site["archive"].glob("*.dcm"))) == 5  # the segmentations and the picture stay as they are
    revisions = site["node"].ledger.revisions.of_series(SERIES)
    assert [r.state for r in revisions] == ["SUPERSEDED", "ENCODED"]
    waiting = {d.role for d in site["node"].ledger.deliveries.of_revision(revisions[-1].id, "pacs")}
    assert waiting == {"seg_vertebrae", "seg_fractures", "summary", "sr"}  # what the PACS lacks travels with it


def test_hold_stops_delivery_until_released(site, browse):
    ledger = site["node"].ledger
    with browse() as driver:
        open_study(driver)
        driver.find_element(By.XPATH, "//button[text()='Hold']").click()
        settles(driver, lambda: driver.find_element(By.XPATH, "//button[text()='Release']"))
        assert [hold.reason_code for hold in ledger.holds.all()] == ["by_person"]
        assert driver.find_elements(By.TAG_NAME, "select") == []
        driver.get(site["url"])
        assert "1 study is held" in driver.find_element(By.CSS_SELECTOR, ".alarms").text
        open_study(driver)
        driver.find_element(By.XPATH, "//button[text()='Release']").click()
        settles(driver, lambda: driver.find_element(By.XPATH, "//button[text()='Hold']"))
    assert ledger.holds.all() == []
