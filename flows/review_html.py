"""Page data -> HTML: one self-contained page, its style and scripts inline and named by their hash.

Knows no run. Document text reaches the page as JSON only, in which nothing ends a script element;
the scripts write it with textContent. The Content-Security-Policy allows what stands in the page
and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# One module in this order: every file may use what those before it define.
SCRIPTS = (
    "elements",
    "decisions",
    "evidence",
    "sound",
    "texts",
    "fields",
    "lists",
    "records",
    "summary",
    "keys",
    "app",
)
STYLES = ("base", "records", "record", "evidence", "summary")

# Ends a script or starts a comment in HTML, ends a line in old JavaScript, or is half a character.
_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Page:
    """data: what the scripts read; media: (entry's id, what is shown beside it); parts: (name,
    address) of the pages of a large run; served: saved by a server, not in the browser."""

    title: str
    data: Mapping[str, Any]
    media: Iterable[tuple[str, Mapping[str, Any]]] = ()
    parts: tuple[tuple[str, str], ...] = ()
    part: int = 0
    linked: bool = False
    served: bool = False


def render(page: Page) -> Iterator[str]:
    """The page in pieces: a large one need not be in memory."""
    style, script = _joined("css", STYLES), _joined("js", SCRIPTS)
    return (
        _environment()
        .get_template("page.html")
        .generate(
            page=page,
            policy=policy(linked=page.linked, served=page.served),
            style=Markup(style),
            script=Markup(script),
            script_json=script_json,
        )
    )


def policy(*, linked: bool = False, served: bool = False) -> str:
    """The Content-Security-Policy. linked: pictures lie in a folder beside the page."""
    near = " 'self'" if linked or served else ""
    rules = {
        "default-src": "'none'",
        "script-src": f"'sha256-{_hash(_joined('js', SCRIPTS))}'",
        "style-src": f"'sha256-{_hash(_joined('css', STYLES))}'",
        "img-src": f"data:{near}",
        "media-src": f"data: blob:{near}",
        "connect-src": "'self'" if served else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",  # no markup is ever made of text
        "trusted-types": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def script_json(value: object) -> Markup:
    """JSON that is safe inside a script element, whatever the texts in it say."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


@cache
def _joined(ending: str, names: tuple[str, ...]) -> str:
    folder = files("flows") / "review_page"
    parts = [(folder / f"{name}.{ending}").read_text(encoding="utf-8") for name in names]
    return "\n" + "\n".join(parts)


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("flows", "review_page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
