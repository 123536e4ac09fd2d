"""Words, names, companies, addresses, amounts, dates and codes, drawn from one seeded source.

Knows nothing of documents, noise or pixels. Names are mostly put together from syllables, so that
they hardly ever repeat: a model that memorises them gains nothing and has to learn to copy.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

from training.generators import lists

Option = TypeVar("Option")
Split = Literal["train", "heldout"]

MONTHS = lists.load("months")
FIRST_NAMES = lists.load("first_names")
LAST_NAMES = lists.load("last_names")
SYLLABLES = lists.load("syllables")
COMPANY_ENDINGS = lists.load("company_endings")
TRADES = lists.load("trades")
STREET_KINDS = lists.load("street_kinds")
MALAY_AREAS = lists.load("malay_areas")
MALAY_CITIES = lists.load("malay_cities")
MALAY_STATES = lists.load("malay_states")
CITIES = lists.load("cities")
CURRENCIES = lists.load("currencies")


@cache
def vocabulary() -> tuple[str, ...]:
    """Common English words, most common first."""
    lines = (Path(__file__).parent / "vocabulary.txt").read_text("ascii").split("\n")
    return tuple(" ".join(line for line in lines if not line.startswith("#")).split())


@dataclass(frozen=True)
class Source:
    """A seeded source of choices; the held-out one never offers an option that training sees."""

    random: random.Random
    split: Split = "train"

    def pick(self, options: Sequence[Option]) -> Option:
        """An option that both splits share (formats, punctuation, templates)."""
        return options[int(self.random.random() * len(options))]

    def own(self, options: Sequence[Option]) -> Option:
        """One of at least two options: every fifth is kept for the held-out split."""
        count = len(options)
        if self.split == "heldout":
            return options[int(self.random.random() * ((count + 4) // 5)) * 5]
        index = int(self.random.random() * (count - (count + 4) // 5))
        return options[index + index // 4 + 1]

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.random.random() * (high - low + 1))

    def some(self, options: Sequence[Option], low: int, high: int) -> list[Option]:
        """Between low and high different options, in random order."""
        return self.random.sample(options, min(len(options), self.between(low, high)))


def digits(source: Source, count: int) -> str:
    return str(source.between(10**count, 2 * 10**count - 1))[1:]


def word(source: Source) -> str:
    """An English word; common ones more often."""
    words = vocabulary()
    return words[int(source.random.random() ** 2 * len(words))]


def invented_word(source: Source) -> str:
    """A pronounceable word that is in no dictionary, capitalised."""
    parts = [source.pick(SYLLABLES) for _ in range(source.between(2, 3))]
    if source.chance(0.3):
        parts.append(source.pick("bcdfgklmnprstvz"))
    return "".join(parts).capitalize()


def random_string(source: Source) -> str:
    """Characters without meaning: what only copying can reproduce."""
    kind = source.between(0, 4)
    if kind == 0:
        return digits(source, source.between(2, 12))
    alphabet = (
        string.ascii_uppercase,
        string.ascii_uppercase + string.digits,
        string.ascii_lowercase,
        string.ascii_letters + string.digits + "-/.",
    )[kind - 1]
    middle = "".join(source.pick(alphabet) for _ in range(source.between(1, 9)))
    return source.pick(string.ascii_letters) + middle + source.pick(string.digits + "XKQ")


def identifier(source: Source) -> str:
    """A reference as offices write it: INV-20493, 4821/7, AB 1234567."""
    letters = "".join(source.pick(string.ascii_uppercase) for _ in range(source.between(1, 3)))
    number = digits(source, source.between(3, 8))
    shape = source.between(0, 6)
    if shape == 0:
        return number
    if shape == 1:
        return f"{letters}-{number}"
    if shape == 2:
        return f"{letters}{number}"
    if shape == 3:
        return f"{source.pick(('INV', 'REF', 'PO', 'CN', 'SO', 'NR', 'ID'))}-{number}"
    if shape == 4:
        return f"{number}/{digits(source, source.between(1, 4))}"
    if shape == 5:
        return f"{letters}/{digits(source, 4)}/{digits(source, 3)}"
    return f"{digits(source, 4)}-{letters}-{digits(source, 4)}"


def surname(source: Source) -> str:
    return source.own(LAST_NAMES) if source.chance(0.4) else invented_word(source)


def person(source: Source) -> str:
    first = source.own(FIRST_NAMES) if source.chance(0.6) else invented_word(source)
    last = surname(source)
    shape = source.between(0, 7)
    if shape == 0:
        return f"{first[0]}. {last}"
    if shape == 1:
        return f"{source.pick(('Mr', 'Ms', 'Mrs', 'Dr', 'Dr.', 'Mr.', 'Prof.'))} {first} {last}"
    if shape == 2:
        return f"{first} {source.pick(string.ascii_uppercase)}. {last}"
    if shape == 3:
        return f"{first} {surname(source)} {last}"
    return f"{first} {last}"


def company(source: Source) -> str:
    """A trading name, with or without a legal form, in any of the usual cases."""
    names = [invented_word(source) for _ in range(source.between(1, 2))]
    if source.chance(0.15):
        names.insert(
            0, source.pick(("The", "Kedai", "Restoran", "Syarikat", "Pasaraya", "Hotel", "New"))
        )
    if source.chance(0.2):
        names = ["".join(source.pick(string.ascii_uppercase) for _ in range(3)), *names[:1]]
    if source.chance(0.15):
        names = [*names[:1], "&", surname(source)]
    if source.chance(0.65):
        names.append(source.own(TRADES))
    if source.chance(0.12):
        names.append(f"({source.pick((invented_word(source), 'M', 'KL', 'Malaysia'))})")
    if source.chance(0.7):
        names.append(source.pick(COMPANY_ENDINGS))
    name = " ".join(names)
    return name.upper() if source.chance(0.6) else name


def address(source: Source) -> list[str]:
    """An address as one to four written lines."""
    return malay_address(source) if source.chance(0.5) else western_address(source)


def malay_address(source: Source) -> list[str]:
    number = source.pick(("NO. ", "NO.", "NO ", "LOT ", "", "", "UNIT ", "NO: ")) + source.pick(
        (
            str(source.between(1, 399)),
            f"{source.between(1, 60)}{source.pick('ABCG')}",
            f"{source.between(1, 60)}-{source.pick('G123')}",
            f"{source.between(1, 40)} & {source.between(41, 80)}",
            f"{source.pick('ABGLS')}-{source.between(1, 40):02d}",
            digits(source, 4),
        )
    )
    kind = source.pick(("JALAN", "JLN", "LORONG", "JALAN", "PERSIARAN"))
    road = f"{kind} {invented_word(source).upper()}"
    road += source.pick(
        ("", f" {source.between(1, 30)}", f" {source.between(1, 30)}/{source.between(1, 40)}")
    )
    area = f"{source.pick(MALAY_AREAS)} {invented_word(source).upper()}"
    area += source.pick(("", f" {invented_word(source).upper()}", f" {source.between(1, 30)}"))
    end = source.pick((",", ",", "", "."))
    city = f"{digits(source, 5)} {source.own(MALAY_CITIES)}"
    state = source.pick(MALAY_STATES)
    final = source.pick((".", "", ","))
    lines = [f"{number}{source.pick((', ', ',', ' '))}{road}{end}", f"{area}{end}"]
    if source.chance(0.3):
        lines = [f"{number}{end}", f"{road}{end}", lines[1]]
    if source.chance(0.3):
        lines = [", ".join(line.rstrip(",.") for line in lines) + end]
    lines += [f"{city},", f"{state}{final}"] if source.chance(0.3) else [f"{city}, {state}{final}"]
    if source.chance(0.15):
        lines[-1] = f"{city}{final}"
    return lines


def western_address(source: Source) -> list[str]:
    name = invented_word(source) if source.chance(0.7) else surname(source)
    street = f"{name} {source.own(STREET_KINDS)}"
    house = f"{source.between(1, 899)}{source.pick(('', '', '', 'A', 'b', '-2'))}"
    postcode = source.pick(
        (
            digits(source, 5),
            f"{source.pick(string.ascii_uppercase)}{source.between(1, 9)} {source.between(1, 9)}AB",
            digits(source, 4),
            f"{source.pick(('CA', 'TX', 'NY', 'MA', 'OR', 'WA'))} {digits(source, 5)}",
        )
    )
    city = source.own(CITIES) if source.chance(0.5) else invented_word(source)
    first = source.pick((f"{house} {street}", f"{house}, {street}", f"{street} {house}"))
    last = source.pick((f"{postcode} {city}", f"{city} {postcode}", f"{city}, {postcode}"))
    if source.chance(0.2):
        inside = source.pick(("Suite", "Floor", "Unit", "Flat", "Apt."))
        first = f"{inside} {source.between(1, 40)}, {first}"
    if source.chance(0.25):
        return [f"{first}, {last}"]
    return [first + source.pick((",", "")), last]


def amount(source: Source, high: float = 9999.0) -> str:
    """A plain amount such as 12.30 or 1,204.00, small ones more often."""
    value = high ** source.random.random()
    text = f"{value:,.2f}" if source.chance(0.5) else f"{value:.2f}"
    return text[:-1] + source.pick("05") if source.chance(0.5) else text


def priced(source: Source, plain: str) -> str:
    """An amount with or without its currency sign."""
    return (
        source.pick(("", "", "", "RM", "RM ", "$", "USD ", "EUR ", "GBP ", "MYR ", "CHF ")) + plain
    )


def date(source: Source) -> str:
    """A date in one of the many written formats."""
    year, month, day = source.between(1998, 2032), source.between(1, 12), source.between(1, 28)
    return write_date(year, month, day, source.pick(DATE_FORMATS))


DATE_FORMATS = lists.load("date_formats")


def write_date(year: int, month: int, day: int, template: str) -> str:
    """Fields of a template: d, m, y numbers, s short year, N month, b/B short month, t ordinal."""
    name = MONTHS[month - 1]
    ordinal = "th" if day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    short = name[:3]
    return template.format(
        d=day, m=month, y=year, s=f"{year % 100:02}", N=name, b=short, B=short.upper(), t=ordinal
    )


def clock(source: Source) -> str:
    text = f"{source.between(0, 23):02}:{source.between(0, 59):02}"
    return text + source.pick(
        ("", f":{source.between(0, 59):02}", " PM", " AM", f":{source.between(0, 59):02} PM")
    )


def phone(source: Source) -> str:
    return source.pick(
        (
            f"0{source.between(3, 9)}-{digits(source, 7)}",
            f"+{source.between(30, 65)} {source.between(10, 99)} {digits(source, 7)}",
            f"({digits(source, 3)}) {digits(source, 3)}-{digits(source, 4)}",
            f"{digits(source, 3)}-{digits(source, 4)} {digits(source, 3)}",
            f"0{source.between(10, 19)}-{digits(source, 3)} {digits(source, 4)}",
        )
    )


def email(source: Source) -> str:
    user = f"{invented_word(source)}{source.pick(('', '.', '_'))}{surname(source)}".lower()
    end = source.pick(("com", "org", "net", "co.uk", "de"))
    return f"{user}@{invented_word(source).lower()}.{end}"


def website(source: Source) -> str:
    return f"www.{invented_word(source).lower()}.{source.pick(('com', 'com.my', 'org', 'net'))}"


def product(source: Source) -> str:
    """An article as a receipt prints it."""
    name = " ".join(word(source) for _ in range(source.between(1, 3)))
    if source.chance(0.3):
        name = f"{invented_word(source)} {name}"
    if source.chance(0.25):
        name += source.pick(
            (
                f" {source.between(1, 24)}PCS",
                f" {source.between(50, 950)}G",
                f" {source.between(1, 5)}L",
            )
        )
    return name.upper() if source.chance(0.7) else name
