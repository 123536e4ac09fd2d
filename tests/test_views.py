"""flows/views.py: the two files made from the store."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flows.discover import Entry, Version
from flows.store import MANIFEST, RECORDS, Store
from flows.views import record_id, to_line, write_views

RECORD = {"source": {"sha256": "5" * 64, "kind": "text"}, "output": {"text": "é\u2028"}}


def test_views_are_in_input_order_and_name_each_input(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.begin([Entry(Path(name), name.encode()) for name in ("b", "a", "c")], {})
        for name in ("b", "a"):
            version = Version("5" * 64, 7, ())
            store.identify(name.encode(), version, "key", unchanged=name == "a")
        store.finish("key", status="ok", reason="", record=json.dumps(RECORD), timing="{}")
        write_views(store, tmp_path)
        ids = {row.path: record_id(row) for row in store.rows() if row.key}
    records = [json.loads(line) for line in read(tmp_path / RECORDS)]
    assert [(record["id"], record["source"]["path"]) for record in records] == [
        (ids["a"], "a"),
        (ids["b"], "b"),
    ]
    rows = [json.loads(line) for line in read(tmp_path / MANIFEST)]
    assert rows[0] == {
        "path": "a",
        "status": "ok",
        "reason": "",
        "message": "",
        "id": ids["a"],
        "sha256": "5" * 64,
        "bytes": 7,
    }
    assert rows[2]["path"] == "c" and rows[2]["status"] == "pending" and not rows[2]["id"]


def read(path: Path) -> list[str]:
    """By str.splitlines, which also splits at Unicode's separators."""
    return path.read_text(encoding="utf-8").splitlines()


@given(st.recursive(st.none() | st.text() | st.floats(allow_nan=False), st.lists))
def test_a_value_is_one_line_and_comes_back(value: object) -> None:
    line = to_line(value)
    assert len(line.splitlines()) == 1 and json.loads(line) == value
