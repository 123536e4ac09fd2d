"""flows/review_html.py: nothing in a document becomes part of the page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flows.review_html import Page, data_url, policy, render, script_json
from tests.review_run import HOSTILE

ANY_TEXT = st.text(st.characters(), max_size=60)  # halves of characters too
JSON = st.recursive(st.none() | st.booleans() | st.integers() | ANY_TEXT, st.lists, max_leaves=8)


@given(JSON | st.dictionaries(ANY_TEXT, ANY_TEXT) | st.sampled_from([HOSTILE, "<!--", "]]>"]))
def test_json_in_a_script_element_cannot_end_it_and_comes_back(value: object) -> None:
    text = str(script_json(value))
    assert not set("<>&\u2028\u2029") & set(text)
    text.encode("utf-8")
    assert json.loads(text) == value


class Elements(HTMLParser):
    """(tag, attributes, text) of every element of a page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes), ""))
        self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)

    def of(self, tag: str, **wanted: str) -> list[tuple[str, dict[str, str | None], str]]:
        return [e for e in self.found if e[0] == tag and wanted.items() <= e[1].items()]


def made(**options: Any) -> str:
    data = {"title": HOSTILE, "subtask": "extract", "served": False, "entries": [{"path": HOSTILE}]}
    media = [("0" * 16, {"text": HOSTILE})]
    page = Page(title=HOSTILE, data=data, media=media, parts=((HOSTILE, HOSTILE),), **options)
    return "".join(render(page))


@given(ANY_TEXT)
def test_a_document_full_of_markup_adds_no_element(text: str) -> None:
    plain = Page(title="a", data={"entries": ["a"]}, media=[("id", {"text": "a"})])
    hostile = Page(title=text, data={"entries": [text]}, media=[("id", {"text": text})])
    shapes = [
        [element[0] for element in Elements("".join(render(page))).found]
        for page in (plain, hostile)
    ]
    assert shapes[0] == shapes[1]


def test_the_page_shows_hostile_names_as_text() -> None:
    page = Elements(made())
    assert len(page.of("script")) == 3 and not page.of("script", src="x")
    (data,) = page.of("script", id="data")
    assert json.loads(data[2])["entries"] == [{"path": HOSTILE}]
    assert page.of("title")[0][2].startswith("</script>")


def test_the_policy_allows_exactly_what_stands_in_the_page() -> None:
    page = Elements(made())
    (meta,) = page.of("meta", **{"http-equiv": "Content-Security-Policy"})
    content = meta[1]["content"]
    assert content == policy()
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        text = page.of(tag)[-1][2]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}';" in f"{content};"
    assert "default-src 'none'" in content and "unsafe" not in content and "http" not in content
    assert "connect-src 'none'" in content and "connect-src 'self'" in policy(served=True)
    assert "img-src data:;" in content and "img-src data: 'self'" in policy(linked=True)


def test_the_page_asks_for_nothing_outside() -> None:
    page = Elements(made())
    for _, attributes, _ in page.found:
        assert not attributes.keys() & {"src", "srcset", "action", "ping"}
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    addresses = [attributes["href"] for _, attributes, _ in page.found if "href" in attributes]
    within = {"#record", "#summary", "data:,"}
    assert set(addresses) <= {*within, HOSTILE}  # the last: a part's file name
    script = page.of("script")[-1][2]
    assert "innerHTML" not in script and "insertAdjacentHTML" not in script
    outside = set(re.findall(r"https?://[^\s\"'`]+", made().replace(HOSTILE, "")))
    assert outside <= {"http://www.w3.org/2000/svg"}  # a name, never fetched


def test_a_picture_is_inside_the_page() -> None:
    assert data_url("image/webp", b"\0\1") == "data:image/webp;base64,AAE="
