"""pipelines/candidates.py: what the model may choose between stands in the text and can be read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.candidates import MOST, Kind, candidates
from pipelines.values import Locale, parse_date, parse_datetime, parse_number

RECEIPTS = Path(__file__).parents[1].parent / "shared" / "data" / "receipts"
KINDS: list[Kind] = ["date", "date-time", "number", "integer", "amount"]
COMMA = Locale(decimal_point=",", languages=("en", "de", "fr"))


def found(text: str, kind: Kind, locale: Locale | None = None) -> list[str]:
    return list(candidates(text, kind, locale or Locale()))


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("19/10/2018 20:49:59 #01", ["19/10/2018"]),
        ("Date:18-11-18 bill 12345", ["18-11-18"]),
        ("ON 5 MARCH 2024, AND MAR 7, 2024", ["5 MARCH 2024", "MAR 7, 2024"]),
        ("05MAR18 or 5-Mar-2018 or 20180304", ["05MAR18", "5-Mar-2018", "20180304"]),
        ("2024-02-30 31/02/2024 99/99/2024", []),
        ("the 3rd of May 2021", ["3rd of May 2021"]),
        ("12 HIGH STREET 50000 TEL 03-1234-5678 10.10.10.10", []),
        ("paid on\n5 May\n2020", ["5 May 2020"]),
    ],
)
def test_dates(text: str, dates: list[str]) -> None:
    assert found(text, "date") == dates


def test_months_of_other_languages() -> None:
    assert found("am 3. März 2024", "date", COMMA) == ["3. März 2024"]
    assert found("le 3 février 2024", "date", COMMA) == ["3 février 2024"]


def test_moments_have_a_time_where_there_is_one() -> None:
    assert found("19/10/2018 20:49 and 1/2/2019", "date-time") == [
        *("19/10/2018", "19/10/2018 20:49", "1/2/2019"),
    ]


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("2 x 10.00 TOTAL RM 20.00", ["10.00", "RM 20.00", "20.00"]),
        ("$9.99 (5.00) DISC -5.59 GST 6.00%", ["$9.99", "9.99", "(5.00)", "5.00", "-5.59", "5.59"]),
        ("1,234.50 EUR on 14.10.2018", ["1,234.50", "1,234.50 EUR"]),
        ("3 pieces, 7 days", ["3", "7"]),  # without amounts any number
        ("INFORM12.50 USDA 7.00", ["12.50", "7.00"]),
        ("nothing here", []),
    ],
)
def test_amounts(text: str, amounts: list[str]) -> None:
    assert found(text, "amount") == amounts


def test_numbers_and_whole_numbers() -> None:
    assert found("3 boxes of 2.50 kg, 6%", "number") == ["3", "2.50", "6"]
    assert found("3 boxes of 2.50 kg, 4.00", "integer") == ["3", "4.00"]


def test_spaces_group_digits_where_the_comma_is_the_decimal_point() -> None:
    assert found("1 234,50", "number") == ["1", "234,50"]
    assert "1 234,50" in found("Summe 1 234,50 EUR", "amount", COMMA)


def test_too_many_are_no_choice() -> None:
    assert len(found(" ".join(f"{n}.50" for n in range(MOST)), "number")) == MOST
    assert found(" ".join(f"{n}.50" for n in range(MOST + 1)), "number") == []
    assert found(" ".join(f"{n}/{m}" for n in range(20_000) for m in (1, 2)), "amount") == []


WORDS = st.sampled_from(
    ["RM", "$", "€", "TOTAL", "19/10/2018", "5", "May", "2024", "12.50", "1,234.5", "-", "(", ")",
     "%", ".", "20:49", "\n", "e\u0301", "٣", "12’000", "''", "14.10.2018", "a1b2", '"},{', "\\"]
)  # fmt: skip
TEXTS = st.lists(WORDS | st.text(max_size=4), max_size=25).flatmap(
    lambda parts: st.sampled_from(["", " "]).map(lambda gap: gap.join(parts))
)


@given(TEXTS, st.sampled_from(KINDS), st.sampled_from([Locale(), COMMA]))
def test_every_candidate_stands_in_the_text_and_can_be_parsed(
    text: str, kind: Kind, locale: Locale
) -> None:
    folded = " ".join(text.split())
    options = candidates(text, kind, locale)
    assert len(set(options)) == len(options)
    for option in options:
        assert option in folded and option == option.strip() != ""
        parse = {"date": parse_date, "date-time": parse_datetime}.get(kind, parse_number)
        assert parse(option, locale) is not None
        # No number is cut at either end wherever the option stands.
        assert re.search(rf"(?<!\d){re.escape(option)}(?!\d)", folded)


@pytest.mark.skipif(not RECEIPTS.is_dir(), reason="the shared receipts are not here")
def test_values_of_real_receipts_are_among_the_candidates() -> None:
    """On receipts that are not held out: dates and totals as their annotators wrote them."""
    asked = {"date": 0, "total": 0}
    right = dict(asked)
    for path in sorted((RECEIPTS / "fields").glob("*.json"))[:120]:
        if int(path.stem) % 4 == 0:
            continue
        fields = json.loads(path.read_text())
        lines = json.loads((RECEIPTS / "lines" / path.name).read_text())
        text = "\n".join(line["text"] for line in lines)
        for name, kind in (("date", "date"), ("total", "amount")):
            if fields[name]:
                asked[name] += 1
                right[name] += fields[name] in candidates(text, kind, Locale())  # type: ignore[arg-type]
    assert all(right[name] >= 0.97 * asked[name] > 50 for name in asked)
