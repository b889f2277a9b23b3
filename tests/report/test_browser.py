"""What a person does with the page, in a real browser: read it, listen, search, hold it on a phone."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install audio-engram[dev]")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome on the path")
OFFLINE = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=BROWSER, args=OFFLINE)
        yield launched
        launched.close()


class Opened:
    """The report in a tab, with everything that went wrong in it."""

    def __init__(self, browser: object, run: Path, width: int = 1280, scheme: str = "light") -> None:
        self.troubles: list[str] = []
        self.requests: list[str] = []
        self.tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.tab.on("console", lambda m: self.troubles.append(m.text))
        self.tab.on("pageerror", lambda e: self.troubles.append(str(e)))
        self.tab.on("requestfailed", lambda r: self.troubles.append(r.url[:100]))
        self.tab.on("request", lambda r: self.requests.append(r.url[:5]))
        self.tab.goto((run / "report.html").resolve().as_uri())


def until(tab: object, condition: str) -> None:
    """Wait for a condition; playwright's own wait needs eval, which the page forbids."""
    for _ in range(100):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(100)
    raise AssertionError(condition)


@pytest.fixture
def opened(browser: object, run: Path) -> Iterator[Opened]:
    page = Opened(browser, run)
    yield page
    page.tab.close()


def test_it_opens_without_errors_and_without_a_network(opened: Opened) -> None:
    assert "Local structure is real but short" in opened.tab.locator("h1").inner_text()
    until(opened.tab, "[...document.querySelectorAll('audio')].every(a => a.readyState >= 1)")
    assert opened.troubles == []
    assert set(opened.requests) <= {"file:", "data:"}


def test_sound_plays_and_only_one_at_a_time(opened: Opened) -> None:
    first, second = opened.tab.locator("audio").nth(0), opened.tab.locator("audio").nth(1)
    first.evaluate("a => { a.muted = true; return a.play(); }")
    until(opened.tab, "document.querySelectorAll('audio')[0].currentTime > 0.1")
    second.evaluate("a => { a.muted = true; return a.play(); }")
    until(opened.tab, "document.querySelectorAll('audio')[1].currentTime > 0.1")
    assert first.evaluate("a => a.paused")
    assert opened.troubles == []


def test_the_full_table_can_be_searched(opened: Opened) -> None:
    opened.tab.locator("#everything summary").click()
    opened.tab.fill("#filter", "VMF free_running direction_cosine unrolled")
    assert opened.tab.locator("#matches").inner_text().startswith("0 of ")
    opened.tab.fill("#filter", "future mdn")
    rows = opened.tab.locator("table.everything tbody tr:visible")
    assert rows.count() == 4
    assert "a_metric_of_the_future" in rows.first.inner_text()


def test_the_contents_lead_to_their_sections(opened: Opened) -> None:
    links = opened.tab.locator("nav a")
    for place in range(links.count()):
        target = links.nth(place).get_attribute("href")
        assert opened.tab.locator(f"section{target} h2").count() == 1


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_page_is_wider_than_its_window(browser: object, run: Path, width: int) -> None:
    page = Opened(browser, run, width)
    page.tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= width
    page.tab.close()


CONTRAST = """
() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (color) => {
    canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v / 255);
  };
  const light = (color) => {
    const [r, g, b] = rgb(color).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const style = getComputedStyle(document.documentElement);
  const ratio = (one, two) => {
    const [a, b] = [light(style.getPropertyValue(one)), light(style.getPropertyValue(two))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const text = ['--ink', '--muted', '--link', '--pass', '--fail', '--undecided', '--unattainable'];
  const lines = ['--mdn', '--vmf', '--ar1', '--state', '--utterance', '--threshold'];
  lines.push('--mode-a', '--mode-b', '--mode-c', '--mode-d');
  return [...text.map((n) => [n, ratio(n, '--paper'), 4.5]), ...lines.map((n) => [n, ratio(n, '--card'), 3])];
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_lines_stand_out_in_both_schemes(browser: object, run: Path, scheme: str) -> None:
    page = Opened(browser, run, scheme=scheme)
    for name, ratio, wanted in page.tab.evaluate(CONTRAST):  # WCAG 2.2, 1.4.3 and 1.4.11
        assert ratio >= wanted, (name, ratio)
    page.tab.close()
