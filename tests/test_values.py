from __future__ import annotations

import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.values import Locale, parse_date, parse_datetime, parse_number

BRITISH, AMERICAN, GERMAN = Locale(), Locale(date_order="MDY"), Locale(decimal_point=",")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("19/10/2018", "2018-10-19"),
        ("18-11-18", "2018-11-18"),
        ("03/04/2024", "2024-04-03"),
        ("2024-03-05", "2024-03-05"),
        ("20240305", "2024-03-05"),
        ("5 March 2024", "2024-03-05"),
        ("MAR 5, 2024 14:00", "2024-03-05"),
        ("15 JUN 18", "2018-06-15"),
        ("31/02/2024", None),
        ("March 2024", None),
        ("today", None),
        ("12345", None),
        ("", None),
        ("TOTAL", None),
    ],
)
def test_dates(text: str, expected: str | None) -> None:
    assert parse_date(text, BRITISH) == (expected and datetime.date.fromisoformat(expected))


def test_the_locale_decides_what_is_ambiguous() -> None:
    assert parse_date("03/04/2024", AMERICAN) == datetime.date(2024, 3, 4)
    assert parse_number("1.234", BRITISH) == Decimal("1.234")
    assert parse_number("1.234", GERMAN) == Decimal("1234")
    assert parse_number("1,234", BRITISH) == Decimal("1234")


def test_times_are_kept() -> None:
    assert parse_datetime("19/10/2018 20:49", BRITISH) == datetime.datetime(2018, 10, 19, 20, 49)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("60.30", "60.30"),
        ("RM 1,234.50", "1234.50"),
        ("1.234,50 EUR", "1234.50"),
        ("1 234,50", "1234.50"),
        ("1'234.50", "1234.50"),
        ("1,234,567", "1234567"),
        ("12,5", "12.5"),
        ("(12.50)", "-12.50"),
        ("12.50-", "-12.50"),
        ("-RM5", "-5"),
        ("$-5.00", "-5.00"),
        ("7 %", "7"),
        ("1.2.3", None),
        ("3 x 4", None),
        ("12,34,56.7", None),
        ("none", None),
        ("", None),
    ],
)
def test_numbers(text: str, expected: str | None) -> None:
    assert parse_number(text, BRITISH) == (expected and Decimal(expected))


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=2, allow_nan=False))
def test_written_amounts_come_back(value: Decimal) -> None:
    assert parse_number(f"RM{value:,.2f}", BRITISH) == value
    swapped = f"{value:,.2f}".translate(str.maketrans(".,", ",."))
    assert parse_number(swapped, BRITISH) == value


@given(st.text(max_size=30))
def test_any_text_is_survived(text: str) -> None:
    parse_number(text, BRITISH)


@given(st.dates(datetime.date(1970, 1, 1), datetime.date(2068, 12, 31)))
def test_written_dates_come_back(date: datetime.date) -> None:
    for form in ("%d/%m/%Y", "%Y-%m-%d", "%d %B %Y", "%d.%m.%Y"):
        assert parse_date(date.strftime(form), BRITISH) == date
