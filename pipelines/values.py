"""Words that the model pointed at -> values: dates, numbers. The model points, code parses.

Knows no model and no schema class. What cannot be parsed is None, never a guess; what is ambiguous
is read as the Locale says.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

_GROUPED = r"\d{1,3}(?:[ \u00a0\u202f'’]\d{3})+|\d+"  # spaces and apostrophes only group
_NUMBER = re.compile(rf"(?P<whole>{_GROUPED})(?P<rest>(?:[.,]\d+)*)")


@dataclass(frozen=True)
class Locale:
    """How ambiguous words are read. date_order: of 03/04/2024; decimal_point: of 1.234 and 1,234.

    languages: of month and day names, as `dateparser` names them.
    """

    date_order: Literal["DMY", "MDY", "YMD"] = "DMY"
    decimal_point: Literal[".", ","] = "."
    languages: tuple[str, ...] = ("en",)


def parse_date(text: str, locale: Locale) -> datetime.date | None:
    """A date with day, month and year: `18-11-18`, `5 March 2024`, `20240305`, `MAR 5, 2024 14:00`.

    A year of two digits is of this century up to 68. None without all three parts.
    """
    moment = parse_datetime(text, locale)
    return moment.date() if moment else None


def parse_datetime(text: str, locale: Locale) -> datetime.datetime | None:
    """As `parse_date`, with the time where the words have one, else midnight."""
    words = " ".join(unicodedata.normalize("NFKC", text).split())
    if iso := _iso(words):
        return iso
    import dateparser  # 0.4 s, so only when a date is parsed

    return dateparser.parse(  # type: ignore[no-any-return]
        words,
        languages=list(locale.languages),
        settings={
            "DATE_ORDER": locale.date_order,
            "PREFER_LOCALE_DATE_ORDER": False,
            "REQUIRE_PARTS": ["day", "month", "year"],
            "RETURN_AS_TIMEZONE_AWARE": False,
            "PARSERS": ["absolute-time"],  # no "today", no bare numbers as timestamps
        },
    )


def _iso(words: str) -> datetime.datetime | None:
    """Year first, and eight digits, mean the same in every locale."""
    found = re.match(r"(\d{4})[-/. ]?(\d{2})[-/. ]?(\d{2})(?!\d)", words)
    if not found or not 1900 <= int(found[1]) <= 2100:
        return None
    try:
        return datetime.datetime(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return None


def parse_number(text: str, locale: Locale) -> Decimal | None:
    """The one number in the words: `RM 1,234.50`, `1.234,50 EUR`, `(12.50)`, `12.50-`, `-3 %`.

    A minus sign on either side or brackets around make it negative. None where there is no number
    or more than one.
    """
    words = unicodedata.normalize("NFKC", text).replace("−", "-").strip()
    found = list(_NUMBER.finditer(words))
    if len(found) != 1:
        return None
    number = found[0]
    value = _decimal(re.sub(r"\D", "", number["whole"]), number["rest"], locale)
    before, after = words[: number.start()].strip(), words[number.end() :].strip()
    negative = before.endswith("-") or before.startswith("-") or after.startswith("-")
    bracketed = "(" in before and ")" in after and not re.search(r"\w", before + after)
    return -value if value is not None and (negative or bracketed) else value


def _decimal(whole: str, rest: str, locale: Locale) -> Decimal | None:
    """`rest`: groups of digits, each after a point or comma."""
    marks, groups = re.findall(r"[.,]", rest), re.findall(r"\d+", rest)
    if not marks:
        return Decimal(whole)
    last_is_point = marks[-1] not in marks[:-1] and (
        len(set(marks)) == 2 or len(groups[-1]) != 3 or marks[-1] == locale.decimal_point
    )
    thousands, fraction = (groups[:-1], groups[-1]) if last_is_point else (groups, "")
    kinds = set(marks[:-1] if last_is_point else marks)
    if len(kinds) > 1 or any(len(group) != 3 for group in thousands):
        return None
    return Decimal(whole + "".join(thousands) + ("." + fraction if fraction else ""))
