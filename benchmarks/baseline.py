"""Rules for real receipts: what no model has to be there for. The bar that a model must clear.

Knows no engine: lines of text in, the four fields of a receipt out, each as written or None.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_MONTH = "(?:JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)[A-Z]*"
_DATE = re.compile(
    r"\b(?:\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}|\d{4}[/.-]\d{1,2}[/.-]\d{1,2}|20\d{2}[01]\d[0-3]\d"
    rf"|\d{{1,2}}[ -]?{_MONTH}[ ,-]{{0,2}}\d{{2,4}}|{_MONTH} \d{{1,2}}, \d{{4}})\b",
    re.IGNORECASE,
)
_AMOUNT = re.compile(r"\d{1,3}(?:,\d{3})*\.\d{2}(?!\d)|\d+\.\d{2}(?!\d)")
_TOTAL = re.compile(r"\b(?:grand |nett? )?total\b|amount due|payable", re.IGNORECASE)
_NOT_TOTAL = re.compile(
    r"sub ?-?total|qty|quantity|items?\b|excl|discount|saving|tender|change", re.IGNORECASE
)
_ADDRESS = re.compile(
    r"\b(?:no|lot|jalan|jln|lorong|taman|tmn|persiaran|road|street|avenue|plaza|floor|kawasan|bandar|"
    r"kampung|selangor|johor|kuala|lumpur|penang|\d{5})\b",
    re.IGNORECASE,
)
_ADDRESS_ENDS = re.compile(
    r"\b(?:tel|fax|gst|phone|hp|email|reg|invoice|receipt|date|cash)\b", re.IGNORECASE
)
_HEAD = 10


def receipt(lines: Sequence[str]) -> dict[str, str | None]:
    """The first line is the company; see the functions for the others."""
    return {
        "company": lines[0] if lines else None,
        "date": date(lines),
        "address": address(lines),
        "total": total(lines),
    }


def date(lines: Sequence[str]) -> str | None:
    """The first date."""
    return next((found[0] for line in lines if (found := _DATE.search(line))), None)


def total(lines: Sequence[str]) -> str | None:
    """The largest amount of the lines about a total, else the largest of all.

    A line that names the total without an amount speaks of the line behind it.
    """
    named: list[str] = []
    for at, line in enumerate(lines):
        if _TOTAL.search(line) and not _NOT_TOTAL.search(line):
            named += _AMOUNT.findall(line) or _AMOUNT.findall("".join(lines[at + 1 : at + 2]))
    found = named or _AMOUNT.findall("\n".join(lines))
    return max(found, key=lambda text: float(text.replace(",", "")), default=None)


def address(lines: Sequence[str]) -> str | None:
    """The run of lines near the top that look like parts of an address."""
    chosen: list[str] = []
    for line in lines[1:_HEAD]:
        if _ADDRESS.search(line) and not _ADDRESS_ENDS.search(line):
            chosen.append(line)
        elif chosen:
            break
    return " ".join(chosen) or None
