"""Questions to a SQLite database by one SELECT: opened read-only, watched by an authorizer, bounded in time and size.

Several walls, because a query is hostile text: the file is opened in mode `ro`; the authorizer lets a statement read columns and
call harmless functions and refuses all else (writes, ATTACH, PRAGMA, recursion, functions that fill memory); SQLite's own limits
bound the text and every value; a progress handler ends what runs too long. Values go in by placeholders, so a model need not
quote them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posttrain.core.config import SqlTool
from posttrain.core.errors import UserError
from posttrain.core.types import Tool
from posttrain.environments import almanac
from posttrain.environments.tools import Function, Mistake

AGGREGATES = ("avg", "count", "group_concat", "max", "min", "sum", "total")
SCALARS = ("abs", "coalesce", "ifnull", "instr", "length", "like", "lower", "nullif", "round", "substr", "trim", "upper")
FUNCTIONS = frozenset((*AGGREGATES, *SCALARS))
MOST_WORK = 200
"""Calls of the progress handler, one each 10,000 steps of SQLite's machine: some tenths of a second."""
LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 4_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 10,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}


def sql_function(config: SqlTool, base: Path) -> tuple[Function, Database]:
    database = Database(opened(config.database, base), config.rows)
    tool = Tool(
        "sql",
        f"Run one SELECT on a SQLite database and get its rows. Tables: {database.tables}.",
        {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "one SELECT, with ? for each value"},
                "parameters": {"type": "array", "description": "the values, in order"},
            },
            "required": ["query"],
        },
    )
    return Function(tool, database.answer), database


def opened(database: str, base: Path) -> sqlite3.Connection:
    """A read-only connection. UserError for a file that is no database."""
    if database == almanac.NAME:
        return almanac.database()
    if database.startswith("builtin:"):
        raise UserError(f"there is no built-in database {database!r}.", fix=f"Write {almanac.NAME}, or ./file.sqlite.")
    path = (base / database).resolve()
    if not path.is_file():
        raise UserError(f"the database {database} is not there.", fix="Give a SQLite file.")
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, check_same_thread=False)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        raise UserError(f"the database {database} cannot be read: {error}.", fix="Give a SQLite file.") from None
    return connection


class Database:
    """A connection behind its walls. `tables` says what there is, for the tool's description."""

    def __init__(self, connection: sqlite3.Connection, rows: int) -> None:
        self.connection, self.rows, self._work = connection, rows, 0
        self.tables = described(connection)
        for limit, value in LIMITS.items():
            connection.setlimit(limit, value)
        connection.set_progress_handler(self._tick, 10_000)
        connection.set_authorizer(allowed)

    def answer(self, arguments: Mapping[str, Any]) -> str:
        """The rows under their column names, or a Mistake."""
        values = list(arguments.get("parameters", []))
        if any(not isinstance(value, str | int | float | None) for value in values):
            raise Mistake("parameters must be texts and numbers")
        self._work = 0
        try:
            cursor = self.connection.execute(str(arguments["query"]), values)
            found = cursor.fetchmany(self.rows + 1)
        except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
            raise Mistake("the query takes too long" if "interrupted" in str(error) else str(error)) from None
        if cursor.description is None:
            raise Mistake("only SELECT is allowed")
        columns = [column[0] for column in cursor.description]
        lines = [" | ".join(columns), *(" | ".join(map(written, row)) for row in found[: self.rows])]
        if len(found) > self.rows:
            lines.append(f"(more than {self.rows} rows; the rest is left out)")
        return "\n".join(lines) if found else "no rows"

    def close(self) -> None:
        self.connection.close()

    def _tick(self) -> int:
        self._work += 1
        return int(self._work > MOST_WORK)


def allowed(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
    """SQLite asks this for everything a statement would do. Only reading is allowed."""
    if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def described(connection: sqlite3.Connection) -> str:
    """`towns(name, province, …)` for every table."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    found = {
        name: [column for (column,) in connection.execute("SELECT name FROM pragma_table_info(?) ORDER BY cid", (name,))]
        for name in names
    }
    return "; ".join(f"{name}({', '.join(columns)})" for name, columns in found.items())


def written(value: Any) -> str:
    return "" if value is None else f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
