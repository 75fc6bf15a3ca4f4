"""Tools as a model meets them: what they answer, and that nothing it writes breaks, escapes or is mistaken for our own error."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from posttrain.core.config import CalculatorTool, PythonTool, SearchTool, SqlTool, ToolsEnvironment
from posttrain.core.errors import UserError
from posttrain.core.types import Action, Message, StepResult, Task, ToolCall
from posttrain.data.builtin import tasks
from posttrain.environments import build
from posttrain.environments.build import function_of
from posttrain.environments.tools import Mistake, Toolbox

TASK = Task("t", (Message("user", "What is 12 * 12?"),), "144")


def ask(config: Any, base: Path = Path(), **arguments: Any) -> str:
    answer = function_of(config, base=base).call(arguments)
    if isinstance(answer, str):
        return answer

    async def wait() -> str:
        return await answer

    return asyncio.run(wait())


def turn(text: str = "", *calls: ToolCall) -> StepResult:
    """One turn in the tools environment."""

    async def played() -> StepResult:
        prepared = build(ToolsEnvironment(tools=[CalculatorTool()]), base=Path())
        world = prepared.make(TASK)
        assert (await world.reset(TASK)).messages == TASK.messages
        try:
            return await world.step(Action(Message("assistant", text, tool_calls=calls)))
        finally:
            await world.close()
            await prepared.aclose()

    return asyncio.run(played())


def said(result: StepResult) -> list[str]:
    assert all(message.role == "tool" for message in result.observation.messages)
    return [message.content for message in result.observation.messages]


# ------------------------------------------------------------------------------------------------ the environment


def test_calls_are_answered_in_order_and_an_answer_ends_the_episode() -> None:
    result = turn("", *(ToolCall("calculator", {"expression": text}) for text in ("12 * 12", "1 + 1")))
    assert said(result) == ["144", "2"] and not result.terminated and result.grade is None
    assert turn("144").terminated


@pytest.mark.parametrize(
    ("text", "calls", "says"),
    [
        ('<tool_call>\n{"name": "calculator", "arguments": {"expres', (), "could not be read"),
        ("", (ToolCall("calculater", {"expression": "1"}),), "there is no tool 'calculater'; tools: calculator"),
        ("", (ToolCall("calculator", {}),), "needs the argument 'expression'"),
        ("", (ToolCall("calculator", {"expression": 12}),), "must be of type string"),
        ("", (ToolCall("calculator", {"expression": "1", "mode": "x"}),), "has no argument 'mode'"),
        ("", (ToolCall("calculator", {"expression": "1 +"}),), "ends too early"),
    ],
)
def test_what_a_model_does_wrong_is_told_to_it_and_the_episode_goes_on(text: str, calls: Any, says: str) -> None:
    result = turn(text, *calls)
    assert not result.terminated and not result.truncated
    (only,) = said(result)
    assert only.startswith("error: ") and says in only


def test_many_calls_and_long_results_are_bounded() -> None:
    result = turn("", *(ToolCall("calculator", {"expression": str(n)}) for n in range(20)))
    assert said(result)[:8] == [str(n) for n in range(8)] and len(said(result)) == 9 and "first 8" in said(result)[8]
    long = Toolbox([function_of(SearchTool(results=40), base=Path())])
    answer = asyncio.run(long.answered(ToolCall("search", {"query": "town river mayor"})))
    assert len(answer) < 2100 and answer.endswith("characters)")


# ------------------------------------------------------------------------------------------------ search


def test_every_question_of_one_fact_is_answered_by_the_articles_that_a_search_for_it_finds() -> None:
    """The corpus holds what the task set asks. BM25 finds the article by the question's own words in nearly all cases."""
    search = function_of(SearchTool(results=3), base=Path())
    asked = tasks("almanac", count=100, options={"kinds": ["town", "festival", "two_steps"]})
    hits = [str(task.answer) in str(search.call({"query": task.messages[0].content.splitlines()[0]})) for task in asked]
    assert sum(hits) >= 95


def test_search_ranks_the_article_with_the_rare_word_first_and_is_the_same_every_time(tmp_path: Path) -> None:
    lines = ['{"title": "A", "text": "a cat and a dog"}', '{"title": "B", "text": "a cat"}', '{"title": "C", "text": "a heron"}']
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    config = SearchTool(corpus="c.jsonl", results=2)
    assert ask(config, tmp_path, query="heron cat").startswith("C\na heron\n\nB\na cat")
    assert ask(config, tmp_path, query="heron cat") == ask(config, tmp_path, query="heron cat")
    assert ask(config, tmp_path, query="dog") == "A\na cat and a dog"
    for nothing in ("zebra", "", "the", "!!!"):
        with pytest.raises(Mistake, match="no article"):
            ask(config, tmp_path, query=nothing)


@pytest.mark.parametrize(
    ("text", "place"),
    [('{"title": "A", "text": "x"}\n{"title": "B"}\n', "c.jsonl:2"), ("not json\n", "c.jsonl:1"), ("\n", "")],
)
def test_a_broken_corpus_is_named(tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "c.jsonl").write_text(text)
    with pytest.raises(UserError) as error:
        function_of(SearchTool(corpus="c.jsonl"), base=tmp_path)
    assert error.value.place == place and error.value.fix


# ------------------------------------------------------------------------------------------------ tables


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "shop.sqlite") as made:
        made.execute("CREATE TABLE items (name TEXT, price INTEGER)")
        made.executemany("INSERT INTO items VALUES (?, ?)", [("pen", 2), ("ink", 9), ("nib", 4)])
    return tmp_path


def test_a_query_with_values_gives_rows(shop: Path) -> None:
    config = SqlTool(database="shop.sqlite", rows=2)
    query = "SELECT name, price FROM items WHERE price > ? ORDER BY price"
    assert ask(config, shop, query=query, parameters=[3]) == "name | price\nnib | 4\nink | 9"
    assert ask(config, shop, query="SELECT name FROM items").endswith("(more than 2 rows; the rest is left out)")
    assert ask(config, shop, query="SELECT name FROM items WHERE price > 100") == "no rows"
    assert "items(name, price)" in function_of(config, base=shop).tool.description


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM items",
        "INSERT INTO items VALUES ('x', 1)",
        "DROP TABLE items",
        "CREATE TABLE more (x)",
        "CREATE TEMP TABLE more (x)",
        "PRAGMA query_only = 0",
        "PRAGMA table_info(items)",
        "ATTACH DATABASE '/etc/passwd' AS p",
        "SELECT 1; DELETE FROM items",
        "SELECT load_extension('x')",
        "SELECT readfile('/etc/passwd')",
        "SELECT randomblob(100000000)",
        "SELECT printf('%1000000000d', 1)",
        "SELECT hex(zeroblob(1000000))",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
        "BEGIN",
        "VACUUM INTO '/tmp/copy'",
        "EXPLAIN DELETE FROM items",
        "SELECT",
        "",
        "\x00",
        "SELECT name FROM items WHERE price > ?",
        "SELECT " + "(" * 3000 + "1" + ")" * 3000,
    ],
)
def test_hostile_and_broken_queries_are_mistakes_and_change_nothing(shop: Path, query: str) -> None:
    before = (shop / "shop.sqlite").read_bytes()
    with pytest.raises(Mistake):
        ask(SqlTool(database="shop.sqlite"), shop, query=query)
    assert (shop / "shop.sqlite").read_bytes() == before
    assert sorted(path.name for path in shop.iterdir()) == ["shop.sqlite"]


def test_a_query_that_never_ends_is_ended() -> None:
    """A join of the towns with themselves eight times over: 24^8 rows."""
    many = ", ".join(f"towns t{n}" for n in range(8))
    began = time.monotonic()
    with pytest.raises(Mistake, match="too long"):
        ask(SqlTool(), query=f"SELECT count(*) FROM {many}")
    assert time.monotonic() - began < 10


def test_values_of_other_kinds_are_refused(shop: Path) -> None:
    for bad in ([[1]], [{"a": 1}], [10**30]):
        with pytest.raises(Mistake):
            ask(SqlTool(database="shop.sqlite"), shop, query="SELECT ?", parameters=bad)


def test_sums_of_the_task_set_are_what_the_tables_say() -> None:
    sql = function_of(SqlTool(), base=Path())
    for task in tasks("almanac", count=5, options={"kinds": "total"}):
        question = task.messages[0].content
        province = question.split("of ")[-1].split(" have")[0].split(" founded")[0].rstrip("?")
        what = "SUM(people)" if "together" in question else "MIN(founded)"
        answer = sql.call({"query": f"SELECT {what} FROM towns WHERE province = ?", "parameters": [province]})
        assert str(answer).splitlines()[-1] == task.answer, question


@pytest.mark.parametrize("database", ["none.sqlite", "builtin:other", "text.sqlite"])
def test_a_database_that_is_none_is_refused(tmp_path: Path, database: str) -> None:
    (tmp_path / "text.sqlite").write_text("this is no database, only some text that is long enough to be read as a header" * 20)
    with pytest.raises(UserError):
        function_of(SqlTool(database=database), base=tmp_path)


# ------------------------------------------------------------------------------------------------ python


def test_python_runs_in_the_sandbox_and_says_how_it_went() -> None:
    assert ask(PythonTool(), code="print(6 * 7)") == "42"
    assert ask(PythonTool(), code="x = 1") == "(it printed nothing)"
    assert ask(PythonTool(), code="print('a')\n1/0") == "a\nerror: ZeroDivisionError: division by zero"
    assert "SyntaxError" in ask(PythonTool(), code="print(")
    assert ask(PythonTool(timeout_s=1), code="while True: pass").startswith("timeout")
    assert "/root" not in ask(PythonTool(), code="import os\ntry: print(os.listdir('/root'))\nexcept OSError as e: print('no')")
