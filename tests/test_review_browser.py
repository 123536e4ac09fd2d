"""The review page in a real browser: it loads, filters, corrects, and keeps what was said."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.review_files import write_review
from flows.review_server import Review, ReviewServer
from tests.browser import chromium, missing, problems
from tests.review_run import (
    HOSTILE,
    Document,
    Run,
    calling,
    cleaned,
    failed,
    invoice,
    make_run,
    receipt,
    recording,
    text_document,
)

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

# The lowest contrast of any text with the ground behind it, by WCAG's formula.
CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
};
const linear = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = rgba(getComputedStyle(at).backgroundColor);
    if (colour[3] === 1) return colour;
  }
  return [255, 255, 255, 1];
};
const bad = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!own || !element.checkVisibility() || element.closest("script, option")) continue;
  const [one, two] = [light(rgba(getComputedStyle(element).color)), light(ground(element))];
  const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
  if (contrast < 4.5) bad.push(`${element.outerHTML.slice(0, 90)} ${contrast.toFixed(2)}`);
}
return bad;
"""
# Controls that a screen reader could not name, and ids that stand twice.
UNNAMED = """
const bad = [...document.querySelectorAll("button, a, input, select, textarea, audio, img")]
  .filter((e) => e.checkVisibility() && !(e.textContent.trim() || e.ariaLabel || e.alt ||
    e.labels?.length || e.title))
  .map((e) => e.outerHTML.slice(0, 90));
const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
return [...bad, ...ids.filter((id, at) => ids.indexOf(id) !== at)];
"""


def documents() -> list[Document]:
    rtl = text_document("hebrew.txt", "\u05e7\u05d1\u05dc\u05d4 \u05de\u05e1 42", value="42")
    return [
        receipt("a.png"),
        receipt("b.png", "13.00", sure=0.3),
        cleaned("clean.txt"),
        failed("locked.pdf"),
        rtl,
        invoice("invoice.png"),
        recording("sound.wav"),
        text_document("xss.txt", HOSTILE, thoughts=[f"First.\n{HOSTILE}", "Then the total."]),
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = make_run(tmp_path_factory.mktemp("run"), documents())
    expected = {"company": "ACME", "total": "12.50", "date": "3 May"}
    line = {"file": "a.png", "subtask": "extract", "schema": "receipt", "output": expected}
    (made.inputs / "expected.jsonl").write_text(json.dumps(line))
    return made


@pytest.fixture(scope="module")
def page(run: Run) -> Path:
    return write_review(run.directory)


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


@pytest.fixture
def browser(opened: Any, page: Path) -> Iterator[Any]:
    """Fresh of what earlier tests decided; no test may leave a complaint in the console."""
    opened.get(page.as_uri())
    opened.execute_script("localStorage.clear()")
    yield opened
    assert problems(opened) == []


def element(driver: Any, css: str) -> Any:
    """Waits for the first one: a record is shown after its source was read."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 60).until(
        lambda browser: next(iter(browser.find_elements(By.CSS_SELECTOR, css)), None)
    )


def texts(driver: Any, css: str) -> list[str]:
    """What can be seen or heard of the elements, white space aside."""
    script = (
        "return [...document.querySelectorAll(arguments[0])]"
        ".filter((e) => e.checkVisibility()).map((e) => e.innerText || e.textContent)"
    )
    return [" ".join(text.split()) for text in driver.execute_script(script, css)]


def press(driver: Any, keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(driver).send_keys(keys).perform()


def open_record(driver: Any, page: Path | str, run: Run, name: str) -> None:
    base = page if isinstance(page, str) else page.as_uri()
    driver.get(f"{base}#{run.ids[name]}")
    until(driver, lambda: texts(driver, "h2")[:1] == [name] and texts(driver, ".side, .failure"))


def until(driver: Any, wanted: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 60).until(lambda _: wanted())


def test_a_value_and_its_box_find_each_other(browser: Any, run: Run, page: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    open_record(browser, page, run, "a.png")
    box, row = element(browser, ".box"), element(browser, '[data-path="total"]')
    image = element(browser, ".sheet img")
    edges = 8  # border and padding stand outside of the words
    assert abs(box.rect["width"] - edges - 0.4 * image.rect["width"]) < 2
    assert abs(box.rect["x"] + edges / 2 - image.rect["x"] - 0.5 * image.rect["width"]) < 2
    ActionChains(browser).move_to_element(row).perform()
    until(browser, lambda: "marked" in box.get_attribute("class"))
    ActionChains(browser).move_to_element(box).perform()
    until(browser, lambda: "marked" in row.get_attribute("class"))
    box.click()
    assert browser.execute_script("return document.activeElement.closest('.field').dataset.path")
    assert texts(browser, '[data-path="company"] .state') == ["Not in the source"]
    assert texts(browser, '[data-path="date"] .value') == ["absent"]


def test_a_document_with_markup_shows_it_as_text(browser: Any, run: Run, page: Path) -> None:
    open_record(browser, page, run, "xss.txt")
    assert texts(browser, ".paper")[0].startswith("</script><script>alert(1)</script><img")
    assert browser.execute_script("return document.querySelectorAll('main img').length") == 0
    assert texts(browser, ".value")[0].startswith("</script><script>")


def test_thoughts_are_folded_marked_and_shown_as_text(browser: Any, run: Run, page: Path) -> None:
    open_record(browser, page, run, "xss.txt")
    assert texts(browser, ".thoughts li") == []
    summary = element(browser, ".thoughts summary")
    assert summary.text == "Thoughts of the model, no part of the record's values: 2"
    summary.click()
    until(browser, lambda: len(texts(browser, ".thoughts li")) == 2)
    first, second = texts(browser, ".thoughts li")
    assert first.startswith("First. </script><script>alert(1)</script><img")
    assert second == "Then the total."
    assert browser.execute_script("return document.querySelectorAll('main img').length") == 0
    assert texts(browser, ".thoughts .edit, .thoughts button") == []
    assert browser.execute_script(CONTRAST) == [] == browser.execute_script(UNNAMED)
    open_record(browser, page, run, "a.png")
    assert texts(browser, ".thoughts") == []


def test_calls_stand_above_their_arguments(browser: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path, [calling("a.txt")])
    open_record(browser, write_review(run.directory), run, "a.txt")
    assert texts(browser, ".calls li") == [
        'calls[0] find_supplier ran {"id": 17}',
        "calls[1] file_invoice proposed: nothing was done",
        "calls[2] notify failed no result within 30 s",
    ]
    assert texts(browser, ".calls .words")[0].startswith("Filed. </script><script>alert(1)")
    assert texts(browser, '[data-path="calls[0].arguments.name"] .value') == ["ACME"]
    assert browser.execute_script(CONTRAST) == [] == browser.execute_script(UNNAMED)


def test_corrections_survive_a_reload_and_can_be_taken_back(
    browser: Any, run: Run, page: Path
) -> None:
    open_record(browser, page, run, "b.png")
    press(browser, "e")  # the least sure one
    assert element(browser, '[data-path="total"] input').get_attribute("value") == "13.00"
    press(browser, "13.50\n")
    until(browser, lambda: texts(browser, ".value.corrected ins") == ["13.50"])
    assert texts(browser, ".value.corrected del") == ["13.00"]
    open_record(browser, page, run, "a.png")
    press(browser, "a")
    until(browser, lambda: texts(browser, "h2") == ["b.png"])
    browser.refresh()
    until(browser, lambda: texts(browser, ".value.corrected ins") == ["13.50"])
    assert texts(browser, "#rows .decision")[:2] == ["\u2713 Accepted", "\u270e Corrected"]
    assert texts(browser, "#progress") == ["2 of 7 looked at"]
    press(browser, "k")
    until(browser, lambda: texts(browser, "h2") == ["a.png"])
    press(browser, "u")
    until(browser, lambda: texts(browser, "#progress") == ["1 of 7 looked at"])


def test_items_of_a_list_are_added_and_removed_by_keyboard(
    browser: Any, run: Run, page: Path
) -> None:
    open_record(browser, page, run, "invoice.png")
    assert texts(browser, ".item .name") == ["items[0]", "items[1]"]
    browser.execute_script("""document.querySelector('[data-path="items[1]"] button').focus()""")
    press(browser, "x")
    until(browser, lambda: texts(browser, ".item.gone .name") == ["items[1] removed"])
    assert texts(browser, ".field .name") == ["items[0].name", "items[0].price"]
    press(browser, "n")
    element(browser, ".item.end input")
    press(browser, "bread\t3.10\n")
    until(browser, lambda: texts(browser, ".value.corrected ins") == ["bread", "3.10"])
    added = ["items[0].name", "items[0].price", "items[2].name", "items[2].price"]
    assert texts(browser, ".field .name") == added
    assert texts(browser, ".state.added") == ["Added", "Added"]
    browser.refresh()
    until(browser, lambda: texts(browser, ".value.corrected ins") == ["bread", "3.10"])
    assert texts(browser, ".decided") == ["Corrected"]
    assert browser.execute_script(UNNAMED) == []
    element(browser, ".item.gone button").click()
    until(browser, lambda: not texts(browser, ".item.gone"))
    browser.execute_script("""document.querySelector('[data-path="items[2]"] button').focus()""")
    press(browser, "x")
    until(browser, lambda: not texts(browser, ".decided"))
    assert texts(browser, ".value.corrected") == []


def test_the_summary_says_what_failed_how_right_and_what_it_cost(
    browser: Any, run: Run, page: Path
) -> None:
    browser.get(page.as_uri())
    element(browser, ".side")
    press(browser, "s")
    until(browser, lambda: texts(browser, "h2") == ["Summary of the run"])
    seen = dict(zip(texts(browser, ".card h3"), texts(browser, ".card"), strict=True))
    assert "encrypted 1 Save a copy without the password" in seen["What failed, and why"]
    assert "2 of 2 values are right, 100 %" in seen["How right it is"]
    assert "No value was given 1" in seen["How right it is"]
    assert "Of 1 records" in seen["How right it is"]
    assert "date 0.00" in seen["Right by field"]
    assert "700 tokens read, 140 written" in seen["What it cost"]
    drawings = "return [...document.querySelectorAll('.drawing')].map((e) => e.ariaLabel)"
    assert len(browser.execute_script(drawings)) == 4 == len(texts(browser, ".drawing"))
    assert all(browser.execute_script(drawings))
    element(browser, ".card details summary").click()
    assert texts(browser, ".card details[open] tbody tr")[-1].startswith("95 % to 100 %")
    element(browser, ".card a[href]").click()
    until(browser, lambda: texts(browser, "h2") != ["Summary of the run"])


def test_filters_by_status_field_confidence_and_words(browser: Any, run: Run, page: Path) -> None:
    browser.get(page.as_uri())
    element(browser, "#rows li")
    assert texts(browser, "#count") == ["8 records"]
    element(browser, ".chip.failed").click()
    assert texts(browser, "#rows .file") == ["locked.pdf"]
    element(browser, ".chip.failed").click()
    element(browser, ".filters summary").click()
    element(browser, "#field option[value=total]").click()
    assert texts(browser, "#rows .file") == ["a.png", "b.png"]
    slide = "const s = document.getElementById('sure'); s.value = 50;"
    browser.execute_script(f"{slide} s.dispatchEvent(new Event('input'))")
    assert texts(browser, "#rows .file") == ["b.png"]
    element(browser, ".filters details button").click()
    element(browser, "#words").send_keys("13.00")
    assert texts(browser, "#rows .file") == ["b.png"]


def test_a_failure_says_what_to_do(browser: Any, run: Run, page: Path) -> None:
    open_record(browser, page, run, "locked.pdf")
    assert "What to do: Save a copy without the password" in texts(browser, ".failure")[0]
    assert texts(browser, ".choice") == []


def test_what_cleaning_changed_and_left_is_marked(browser: Any, run: Run, page: Path) -> None:
    open_record(browser, page, run, "clean.txt")
    assert texts(browser, ".difference del") == ["removed: Tbe"]
    assert texts(browser, ".difference ins") == ["added: The"]
    assert texts(browser, ".difference .kept") == ["edit refused: 12.5O"]
    assert texts(browser, ".difference .guarded") == ["3"]
    press(browser, "e")
    assert element(browser, ".output textarea").get_attribute("value").startswith("The sum")


def test_a_cue_that_is_clicked_is_heard(browser: Any, run: Run, page: Path) -> None:
    open_record(browser, page, run, "sound.wav")
    assert len(texts(browser, ".cue")) == 2 and element(browser, ".wave path").get_attribute("d")
    element(browser, ".cues li:nth-child(2) .cue").click()
    now = "return document.querySelector('audio').currentTime"
    until(browser, lambda: browser.execute_script(now) >= 1.5)
    until(browser, lambda: element(browser, ".cues li:nth-child(2)").get_attribute("class"))


def test_text_from_right_to_left_runs_so(browser: Any, run: Run, page: Path) -> None:
    open_record(browser, page, run, "hebrew.txt")
    script = "return getComputedStyle(document.querySelector('.paper')).direction"
    assert browser.execute_script(script) == "rtl"


@pytest.mark.parametrize("dark", [False, True])
def test_everything_has_contrast_and_a_name_and_fits_a_phone(
    run: Run, page: Path, dark: bool
) -> None:
    with chromium(360, 740, dark=dark) as driver:
        for name in run.ids:
            open_record(driver, page, run, name)
            assert driver.execute_script(CONTRAST) == []
            assert driver.execute_script(UNNAMED) == []
            wide = "return document.documentElement.scrollWidth"
            assert driver.execute_script(wide) <= 360, name
        driver.get(f"{page.as_uri()}#summary")
        until(driver, lambda: texts(driver, ".card"))
        assert driver.execute_script(CONTRAST) == [] == driver.execute_script(UNNAMED)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 360
        element(driver, "#list-open").click()
        assert texts(driver, "#rows .file") == sorted(run.ids)
        assert driver.execute_script(CONTRAST) == []
        assert problems(driver) == []


def test_served_corrections_are_saved_at_once(browser: Any, run: Run) -> None:
    review = Review(run.directory)
    with ReviewServer(review) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            browser.get(server.address)
            base = browser.current_url.partition("#")[0]
            assert "token" not in base
            open_record(browser, base, run, "b.png")
            assert element(browser, ".sheet img").rect["width"] == 400
            press(browser, "r")
            until(browser, lambda: texts(browser, "h2") == ["clean.txt"])
            made = review.corrections.all()[run.ids["b.png"]]
            assert [(row.field, row.verdict) for row in made] == [("", "rejected")]
            open_record(browser, base, run, "sound.wav")
            length = "return document.querySelector('audio').duration"
            until(browser, lambda: browser.execute_script(length))
        finally:
            server.shutdown()
            thread.join()
    review.close()


def test_a_thousand_records_load_and_filter(browser: Any, tmp_path: Path) -> None:
    many = [text_document(f"{at:04}.txt", f"shop {at}\ntotal {at}.00") for at in range(1000)]
    run = make_run(tmp_path, many)
    browser.get(write_review(run.directory).as_uri())
    element(browser, ".side")
    assert texts(browser, "#count") == ["1000 records"]
    element(browser, "#words").send_keys("shop 777")
    assert texts(browser, "#rows .file") == ["0777.txt"]
    element(browser, "#rows li:not([hidden]) a").click()
    until(browser, lambda: texts(browser, "h2") == ["0777.txt"])
    browser.execute_script("document.getElementById('words').value = ''")
    element(browser, "#words").send_keys("7")
    press(browser, "\ue00c")  # Escape leaves the field, so that letters are keys again
    press(browser, "j")
    until(browser, lambda: texts(browser, "h2") == ["0778.txt"])
