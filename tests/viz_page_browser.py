"""Opens pages of attention in a real browser: points, clicks and types, and reads what the page shows. Run with the
path of the program viz_page_files, which writes the pages, each with its expected content.

Needs chromium, chromium-driver and python3-selenium; without them the test is skipped (exit status 77).
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

try:
    from selenium import webdriver
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError as missing:
    print(f"skipped: {missing}; install python3-selenium")
    sys.exit(77)
if not (shutil.which("chromium") and shutil.which("chromedriver")):
    print("skipped: no browser; install chromium and chromium-driver")
    sys.exit(77)


def start_browser(folder):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    # The sandbox does not start for root; the pages are trusted.
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--window-size=1400,1000", f"--user-data-dir={folder}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.chrome.service.Service(shutil.which("chromedriver"))
    return webdriver.Chrome(service=service, options=options)


class Page:
    """An open page and its expected content."""

    def __init__(self, browser, folder, name):
        self.browser, self.address = browser, (folder / f"{name}.html").as_uri()
        self.expected = json.loads((folder / f"{name}.json").read_text())
        self.heads, self.sources = self.expected["heads"], self.expected["sources"]
        self.count = len(self.expected["tokens"])
        browser.get(self.address)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        found = self.all(selector)
        assert found, f"{self.address} has no {selector}"
        return found[0]

    def rows(self, selector):
        """The rows of a table: cell texts, whether the row is chosen, and data attributes."""
        return self.browser.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(row => ({"
            "cells: [...row.cells].map(td => td.innerText), chosen: row.classList.contains('chosen'), "
            "data: {...row.dataset}}))", selector)

    def cell(self, token, source):
        """A token's first element in a source's view."""
        return self.one(f'section[data-source="{source}"] .cell[data-i="{token}"]')

    def move_to(self, element):
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        ActionChains(self.browser, duration=0).move_to_element(element).perform()

    def click(self, element):
        self.move_to(element)
        ActionChains(self.browser, duration=0).click().perform()

    def keys(self, *keys):
        ActionChains(self.browser, duration=0).send_keys(*keys).perform()

    def query(self):
        return int(self.one("#token").get_attribute("data-query"))

    def weight(self, head, query, source, key):
        """The weight in the map; the mean over the heads if head is None."""
        if head is None:
            return sum(self.weight(h, query, source, key) for h in range(self.heads)) / self.heads
        place = ((head * self.count + query) * len(self.sources) + source) * self.count + key
        return self.expected["weights"][place]

    def share(self, head, query, source):
        return sum(self.weight(head, query, source, key) for key in range(query + 1))

    def log(self, kind):
        return self.browser.get_log(kind)


def same(shown, value, what):
    """Checks a weight shown with three digits and stored with an error of at most sqrt(w) / 65535."""
    number = float(re.match(r"[0-9.e-]+", shown).group())
    assert abs(number - value) <= 0.006 * abs(value) + 1e-7, f"{what}: the page shows {shown}, expected {value:.6g}"


def same_percent(shown, share, what):
    expected = 100 * share
    number = float(shown.removesuffix(" %"))
    assert abs(number - expected) < 0.06, f"{what}: the page shows {shown}, expected {expected:.4g} %"


def check_numbers(page, query, head, heads):
    """Checks the shares and strongest keys of the chosen query in the chosen head; None is the mean."""
    assert page.query() == query, f"{page.address}: token {page.query()} is chosen, not {query}"
    rows = page.rows("#shares tbody tr")
    assert len(rows) == len(heads)
    for row, h in zip(rows, heads):
        assert row["chosen"] == (h == head)
        for source, shown in enumerate(row["cells"][1:]):
            same_percent(shown, page.share(h, query, source), f"share of source {source} in head {h}")
    for source in range(len(page.sources)):
        shown = page.one(f'section[data-source="{source}"] .share .number').text
        same_percent(shown, page.share(head, query, source), f"share of source {source}")

    strongest = page.rows("#strongest tr")
    seen = len(page.sources) * (query + 1)
    assert len(strongest) == min(10, seen)
    weights = sorted((page.weight(head, query, s, k) for s in range(len(page.sources)) for k in range(query + 1)),
                     reverse=True)
    for rank, row in enumerate(strongest):
        source, key = int(row["data"]["source"]), int(row["data"]["key"])
        value = page.weight(head, query, source, key)
        assert abs(value - weights[rank]) < 1e-4 * weights[rank], f"{value} is not number {rank} of {weights[:10]}"
        same(row["cells"][2], value, f"weight of key {key} in source {source}")
        same(row["cells"][3], value * seen, f"multiple of even attention of key {key} in source {source}")


def brightness(page, element):
    """The distance of a cell's background from white; grows with the attention shown."""
    colour = page.browser.execute_script("return getComputedStyle(arguments[0]).backgroundColor", element)
    return 3 * 255 - sum(int(x) for x in re.findall(r"\d+", colour)[:3])


def check_page(page):
    """Checks what text, music and speech have in common."""
    browser, last = page.browser, page.count - 1
    heads = [None, *range(page.heads)]
    check_numbers(page, last, None, heads)

    # The pointer chooses a token; a click holds it, and the pointer then reads weights.
    query = page.count // 2
    page.move_to(page.cell(query, 0))
    check_numbers(page, query, None, heads)
    page.click(page.cell(query, 0))
    assert page.one("#token").text.find("held") >= 0
    for key in (0, query // 2, query):
        page.move_to(page.cell(key, len(page.sources) - 1))
        assert page.query() == query and page.one("#tip").get_attribute("data-key") == str(key)
        rows = page.rows("#tip tr")
        assert len(rows) == len(page.sources)
        for source, row in enumerate(rows):
            value = page.weight(None, query, source, key)
            same(row["cells"][1], value, f"tip, weight of {key} in {source}")
            same(row["cells"][2], value * len(page.sources) * (query + 1), f"tip, multiple of {key} in {source}")
    page.move_to(page.cell(query + 1, 0))
    assert page.query() == query and "not visible" in page.one("#tip").text
    assert "hidden" in page.cell(query + 1, 0).get_attribute("class")
    assert "hidden" not in page.cell(query, 0).get_attribute("class")

    # Heads are chosen by button, table and key.
    head = page.heads - 1
    page.click(page.all("#heads label")[1 + head])
    check_numbers(page, query, head, heads)
    page.click(page.all("#shares tbody tr")[1])
    check_numbers(page, query, 0, heads)
    page.keys("h")
    check_numbers(page, query, 1, heads)
    page.keys("H", "H")
    check_numbers(page, query, None, heads)

    # The strongest key has a stronger colour than the weakest; the other measure has another legend.
    page.click(page.all("#heads label")[1])
    order = sorted((page.weight(0, query, 0, key), key) for key in range(query))
    assert brightness(page, page.cell(order[-1][1], 0)) > brightness(page, page.cell(order[0][1], 0)) + 100
    legend = page.one("#ticks").text
    assert "even" in legend
    page.keys("m")
    assert page.one("#ticks").text != legend and "even" not in page.one("#ticks").text
    check_numbers(page, query, 0, heads)
    page.click(page.all("#measure label")[0])
    assert page.one("#ticks").text == legend

    # Keys move to a token and hold it; Escape releases it.
    page.click(page.cell(query, 0))  # releases the token, and takes the focus off the radio buttons
    page.keys(Keys.HOME)
    check_numbers(page, 0, 0, heads)
    page.keys(Keys.END)
    check_numbers(page, last, 0, heads)
    page.keys(Keys.ESCAPE)
    page.move_to(page.cell(1, 0))
    assert page.query() == 1

    # The bars of shares and NLLs choose tokens, too.
    page.click(page.one(f'.column[data-i="{query}"]'))
    check_numbers(page, query, 0, heads)
    nll = page.expected["nll"][query]
    same(re.search(r"NLL (\S+) nats", page.one("#token").text).group(1), nll, "NLL")
    assert len(page.all("#every canvas")) == page.heads

    # No window width needs horizontal scrolling. Text contrasts with the background in light and dark schemes.
    for width in (600, 1400):
        browser.set_window_size(width, 1000)
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth"), width
    for scheme in ("dark", "light"):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                                {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        ink, ground = browser.execute_script(
            "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]")
        ink, ground = [sum(int(x) for x in re.findall(r"\d+", c)[:3]) for c in (ink, ground)]
        assert ground - ink > 500 if scheme == "light" else ink - ground > 500


def check_quiet(page):
    """Checks that the browser logged nothing and requested only the file itself."""
    complaints = page.log("browser")
    assert not complaints, complaints
    asked = [json.loads(entry["message"])["message"] for entry in page.log("performance")]
    requests = [m["params"] for m in asked if m["method"] == "Network.requestWillBeSent"]
    # Ignore requests by the browser's start page (chrome:, chrome-untrusted:).
    addresses = {r["request"]["url"] for r in requests if not r["documentURL"].startswith("chrome")}
    assert addresses == {page.address}, f"{page.address} asked for {addresses}"


def text_of(page, source=0):
    return page.one(f'section[data-source="{source}"] .running').get_attribute("textContent")


def check_bytes(page):
    check_page(page)
    title = page.expected["title"]
    assert page.browser.title == title and page.one("h1").text == title
    assert not page.all("img") and len(page.all("script")) == 2
    # Every token appears once per source; invalid bytes are escaped.
    assert len(page.all(".running .cell")) == len(page.sources) * page.count
    text = text_of(page).replace("\u25c2", "")
    assert text == ("Caf\u00e9 \u4e16\u754c said: \"</script><img src=x onerror=alert(1)>\"\u00b6\n'<!--' & ${x}\\ "
                    "\\x00\\x1b\\xff\\xe2\\x80 \\u{202e}end\\u{2028}."), text
    # The first byte of a character shows the character; single tokens are shown as bytes.
    page.click(page.cell(3, 0))
    assert page.cell(3, 0).text == "\u00e9" and page.cell(4, 0).text == "\u25c2" and "\\xc3" in page.one("#token").text
    # Up and down move between lines.
    first_of_second_line = page.expected["tokens"].index(10) + 1
    page.click(page.cell(first_of_second_line, 0))
    page.keys(Keys.ARROW_UP)
    assert page.query() == 0, page.query()
    page.keys(Keys.ARROW_DOWN)
    assert page.query() == first_of_second_line, page.query()
    page.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert page.query() == first_of_second_line + 1


def check_words(page):
    assert page.browser.title == "Sub-words & \"names\""
    assert [e.text for e in page.all("h2")[:3]][2].startswith("depth </b>")
    assert "even" not in page.one("#ticks").text  # the option: starts with weights
    text = text_of(page)
    assert text.startswith("In the beginning God created the heaven and the earth.\u00b6\n"
                           "</script>\"\u2205\u00bb\t]]><!--"), text
    assert "\U0001f600\u25c2__proto__&lt; and the" in text, text
    check_numbers(page, page.count - 1, None, [None, *range(page.heads)])
    assert page.expected["nll"] == [] and "NLL" not in page.one("body").text


def check_mean(page):
    check_numbers(page, page.count - 1, None, [None])
    assert [e.text for e in page.all("#heads label")] == ["mean of 8"]
    page.keys("h")
    page.keys("m")
    check_numbers(page, page.count - 1, None, [None])


def box(element):
    r = element.rect
    return r["x"], r["y"], r["width"], r["height"]


def check_music(page):
    check_page(page)
    # Onset sets a note's horizontal place, duration its width, pitch its height. Two notes of the first bar: tokens 1
    # (72, at 0 s for 0.42 s) and 8 (55, at 0.25 s for 0.24 s); and the last note of pitch 71, token 152 (at 7.5 s).
    tokens = page.expected["tokens"]
    last_71 = len(tokens) - 1 - tokens[::-1].index(71)
    first, second, late = [box(page.cell(i, 0)) for i in (1, tokens.index(55), last_71)]
    pixels = (late[0] - first[0]) / 7.5
    assert abs(second[0] - first[0] - 0.25 * pixels) < 1.5 and abs(first[2] - 0.42 * pixels) < 1.5
    assert abs((second[1] - first[1]) / (late[1] - first[1]) - 17) < 0.1  # semitones
    page.click(page.cell(1, 0))
    assert "C5, at 0 s for 0.42 s" in page.one("#token").text and "on 72" in page.one("#token").text
    # Tokens without a note are in the strip; all tokens are named below.
    names = [page.all(".chips .cell")[i].text for i in (0, 1, 2, 4, 5)]
    assert names == ["vel 20", "on 72", "vel 10", "+250 ms", "off 48"], names
    page.click(page.all(".strip .cell")[4])
    check_numbers(page, 4, 0, [None, *range(page.heads)])
    page.click(page.all(".chips .cell")[5])
    check_numbers(page, 5, 0, [None, *range(page.heads)])
    page.keys(Keys.ARROW_DOWN)  # the next note
    assert page.query() == tokens.index(55), page.query()
    page.keys(Keys.ARROW_UP, Keys.ARROW_LEFT)
    assert page.query() == 2


def check_speech(page):
    check_page(page)
    # Token 0 has no frame; 1 to 4 are stacked in the first frame; 5 begins the second.
    first, below, right = [box(page.cell(i, 0)) for i in (1, 2, 5)]
    assert below[0] == first[0] and below[1] > first[1]
    assert right[1] == first[1] and abs(right[0] - first[0] - first[2]) < 1.5
    names = [e.text for e in page.all('section[data-source="0"] .names span')]
    assert names == ["vq 1", "vq 2", "energy", "<i>pitch", "tokens"], names
    times = [e.text for e in page.all('section[data-source="0"] .time span')]
    assert times[0] == "2 s" and "3 s" in times, times  # 1.6 s, starting at 2 s
    page.click(page.cell(6, 0))
    assert "vq 2 of frame 1, at 2.04 s" in page.one("#token").text, page.one("#token").text
    for key, token in ((Keys.ARROW_RIGHT, 10), (Keys.ARROW_DOWN, 11), (Keys.ARROW_LEFT, 7), (Keys.ARROW_UP, 6)):
        page.keys(key)
        assert page.query() == token, (page.query(), token)
    page.click(page.all(".strip .cell")[0])
    check_numbers(page, 0, 0, [None, *range(page.heads)])


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        subprocess.run([sys.argv[1], folder], check=True)
        browser = start_browser(folder / "profile")
        try:
            for kind in ("bytes", "words", "mean", "music", "speech"):
                page = Page(browser, folder, kind)
                globals()[f"check_{kind}"](page)
                check_quiet(page)
                print(f"{kind}: as expected")
        finally:
            browser.quit()


main()
