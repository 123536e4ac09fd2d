"""Dates, numbers and amounts that stand in a text, found by code: what a model may choose between.

    candidates("19/10/2018 TOTAL RM 12.50", "amount", Locale())    # ("12.50", "RM 12.50")

Knows no model and no schema. A candidate is a run of the text, every run of white space written as
one space, and `values.py` can parse it; no number or word is cut. An amount may be offered with and
without its currency or sign: the model says which form the document's field has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from pipelines.values import Locale, parse_date, parse_datetime, parse_number

Kind = Literal["date", "date-time", "number", "integer", "amount"]

MOST = 300  # a choice between more is none, and slow to compile

_CURRENCY = (
    r"(?:(?:US|[ACRS])?\$|[£€¥₹₩₽₺₪₫฿₦₱]|(?<!\w)(?:RM|Rs\.?|AUD|BRL|CAD|CHF|CNY|CZK|DKK|EUR|Fr\.?|"
    r"GBP|HKD|HUF|IDR|INR|JPY|kr\.?|Kč|KRW|MXN|MYR|NOK|NZD|PHP|PLN|RON|RUB|SEK|SGD|THB|TRY|TWD|"
    r"USD|VND|ZAR|zł))"
)
_NUMBER = r"(?<!\d)(?<!\d[.,'’])\d+(?:[.,'’]\d+)*(?![.,'’]?\d)"
_GROUPED = r"(?<![\d.,'’])(?<!\d )\d{1,3}(?: \d{3})+(?:,\d+)?(?![.,'’]?\d)"
_MONTH = r"[^\W\d_]{3,}"
_DAY = r"(?<!\d)\d{1,2}(?:st|nd|rd|th)?"
_YEAR = r"(?:\d{4}|'?\d{2})(?!\d)"
_DATES = [
    *(
        rf"(?<!\d)(?<!\d{mark}){a} ?{mark} ?\d{{1,2}} ?{mark} ?{b}(?!\d|{mark}\d)"
        for mark in ("/", "-", r"\.")
        for a, b in ((r"\d{1,2}", r"(?:\d{4}|\d{2})"), (r"\d{4}", r"\d{1,2}"))
    ),
    rf"{_DAY}[ ./-]*{_MONTH}\.?[ ,./-]*{_YEAR}",
    rf"{_DAY} (?:of|de) {_MONTH}(?:,| of| de)? {_YEAR}",
    rf"(?<![^\W\d_]){_MONTH}\.?[ ./-]*\d{{1,2}}(?:st|nd|rd|th)?[ ,./-]+{_YEAR}",
    r"(?<!\d)\d{4}[ ./-]*[^\W\d_]{3,}[ ./-]*\d{1,2}(?!\d)",
    r"(?<!\d)\d{4} ?年 ?\d{1,2} ?月 ?\d{1,2} ?日",
    r"(?<!\d)(?:19|20)\d{6}(?!\d)",
]
_TIME = r"(?:[ ,T]{0,2})\d{1,2}:\d{2}(?::\d{2})?(?: ?[AaPp]\.?[Mm]\b\.?)?"


def candidates(text: str, kind: Kind, locale: Locale) -> tuple[str, ...]:
    """In the order of the text, none twice; none at all where there are more than `MOST`.

    amount: numbers with a currency, or with a point or comma inside, and no percentages; where
    there are none, any number. integer: numbers without a fraction.
    """
    text = " ".join(text.split())
    found = list(_FINDERS[kind](text, locale))
    if kind == "amount":
        found = [each for each in found if _is_amount(text, *each)] or found
    forms = dict.fromkeys(form for _, form in sorted(found))
    if len(forms) > 4 * MOST:  # a parser takes a millisecond for each
        return ()
    fits = tuple(form for form in forms if _PARSERS[kind](form, locale))
    return fits if len(fits) <= MOST else ()


def _dates(text: str, _: Locale) -> Iterator[tuple[int, str]]:
    for pattern in _DATES:
        for found in re.finditer(pattern, text):
            yield found.start(), found[0]


def _moments(text: str, locale: Locale) -> Iterator[tuple[int, str]]:
    for start, date in _dates(text, locale):
        yield start, date
        if time := re.compile(_TIME).match(text, start + len(date)):
            yield start, date + time[0]


def _numbers(text: str, locale: Locale) -> Iterator[tuple[int, str]]:
    """Spaces group digits only where the comma is the decimal point: `2 100.00` are two numbers."""
    for number in (_NUMBER, *([_GROUPED] if locale.decimal_point == "," else [])):
        for pattern in (
            number,
            rf"(?<![\w.)])[-−] ?{number}",
            rf"(?<![\w.)])[-−]? ?{_CURRENCY} ?[-−]?{number}",
            rf"{number} ?{_CURRENCY}(?!\w)",
            rf"{number}[-−](?!\w)",
            rf"\((?:{_CURRENCY} ?)?{number}\)",
        ):
            for found in re.finditer(pattern, text):
                form = found[0]
                yield found.start() + len(form) - len(form.lstrip()), form.lstrip()


def _is_amount(text: str, start: int, form: str) -> bool:
    if re.match(r" ?%", text[start + len(form) :]):
        return False
    return bool(re.search(r"\d[.,'’ ]\d", form) or re.search(_CURRENCY, form))


def _is_number(form: str, locale: Locale) -> bool:
    return parse_number(form, locale) is not None


def _is_whole(form: str, locale: Locale) -> bool:
    value = parse_number(form, locale)
    return value is not None and value == value.to_integral_value()


_FINDERS: dict[Kind, Callable[[str, Locale], Iterable[tuple[int, str]]]] = {
    "date": _dates,
    "date-time": _moments,
    "number": _numbers,
    "integer": _numbers,
    "amount": _numbers,
}
_PARSERS: dict[Kind, Callable[[str, Locale], object]] = {
    "date": parse_date,
    "date-time": parse_datetime,
    "number": _is_number,
    "integer": _is_whole,
    "amount": _is_number,
}
