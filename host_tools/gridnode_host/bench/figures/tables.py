"""What the bench prints: one table per subject, the same content as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gridnode_host import resources
from gridnode_host.files import write_atomic
from gridnode_host.output import Output

Row = dict[str, Any]

_WORDS = {True: "pass", False: "FAIL", None: None}


@dataclass
class Table:
    """A subject with its rows; the entry `ok` of a row says whether its limit is kept."""

    name: str
    title: str
    notes: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no row misses its limit; rows without a limit do not count."""
        return all(row.get("ok") is not False for row in self.rows)

    def show(self, out: Output) -> None:
        """Print title, rows and notes."""
        out.event("subject", f"\n{self.title}", name=self.name, title=self.title, notes=self.notes)
        shown = self.rows if out.as_json else _readable(self.rows)
        out.table(self.name, shown, "nothing was measured")
        if not out.as_json:
            for note in self.notes:
                out.event("note", f"  {note}")


def _readable(rows: list[Row]) -> list[Row]:
    """Every column in every row, verdicts in words."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [
        {name: _WORDS[row.get(name)] if name == "ok" else row.get(name) for name in names}
        for row in rows
    ]


def folder(name: str = "") -> Path:
    """The folder of a subject's files, made if needed (a wheel: in the user's cache)."""
    root = resources.checkout()
    if root:
        path = root / "build" / name
    else:
        from platformdirs import user_cache_path

        path = user_cache_path("gridnode", appauthor=False) / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def store(tables: Iterable[Table], facts: Mapping[str, Any], name: str) -> Path:
    """Write everything as JSON and as text to the folder `name`; returns the path of the JSON."""
    tables = list(tables)
    document = {
        **facts,
        "subjects": {
            t.name: {"title": t.title, "ok": t.ok, "notes": t.notes, "rows": t.rows}
            for t in tables
        },
    }
    path = folder(name) / f"{name}.json"
    write_atomic(path, json.dumps(document, indent=1, ensure_ascii=False).encode())
    text = "\n\n".join(_text(table) for table in tables)
    write_atomic(path.with_suffix(".txt"), f"{text}\n".encode())
    return path


def _text(table: Table) -> str:
    """A table in columns as wide as they need."""
    rows = _readable(table.rows)
    lines = [list(rows[0])] if rows else []
    lines += [["" if cell is None else str(cell) for cell in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([table.title, *(line.rstrip() for line in shown), *table.notes])
