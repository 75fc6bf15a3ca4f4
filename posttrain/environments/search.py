"""Search over a corpus of short articles by BM25 (Robertson and Zaragoza 2009; the bm25s package, its Lucene variant).

Words are matched as they stand, in lower case and without English stop words. Equal scores come in the order of the corpus, so
the same query always gives the same answer. Fails on synonyms: a query must share words with the article.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.core.config import SearchTool
from posttrain.core.errors import UserError
from posttrain.core.types import Tool
from posttrain.environments import almanac
from posttrain.environments.tools import Function, Mistake


@dataclass(frozen=True)
class Article:
    title: str
    text: str


def search_function(config: SearchTool, base: Path) -> Function:
    articles = almanac.articles() if config.corpus == almanac.NAME else read_articles(config.corpus, base)
    index = Index([Article(title, text) for title, text in articles])
    tool = Tool(
        "search",
        "Search articles by words; gives the best of them.",
        {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    )
    return Function(tool, lambda arguments: index.search(str(arguments["query"]), config.results))


class Index:
    """A corpus, ready to be searched."""

    def __init__(self, articles: Sequence[Article]) -> None:
        import bm25s

        self.articles = articles
        self._bm25 = bm25s.BM25(method="lucene")
        self._bm25.index(words([f"{article.title}\n{article.text}" for article in articles]), show_progress=False)

    def search(self, query: str, count: int) -> str:
        """The best articles, or a Mistake where no word of the query occurs in any."""
        (found,) = words([query])
        known = [word for word in found if word in self._bm25.vocab_dict]
        if not known:
            raise Mistake("no article has these words")
        scores = self._bm25.get_scores(known)
        best = sorted(range(len(self.articles)), key=lambda i: (-float(scores[i]), i))[:count]
        return "\n\n".join(f"{self.articles[i].title}\n{self.articles[i].text}" for i in best if scores[i] > 0)


def words(texts: Sequence[str]) -> list[list[str]]:
    import bm25s

    found: list[list[str]] = bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)
    return found


def read_articles(corpus: str, base: Path) -> list[tuple[str, str]]:
    """The articles of a JSONL file with the columns title and text. UserError names the line that is wrong."""
    if corpus.startswith("builtin:"):
        raise UserError(f"there is no built-in corpus {corpus!r}.", fix=f"Write {almanac.NAME}, or ./file.jsonl.")
    path = base / corpus
    if not path.is_file():
        raise UserError(f"the corpus {corpus} is not there.", fix="Give a JSONL file with the columns title and text.")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            found.append(article(line, f"{path.name}:{number}"))
    if not found:
        raise UserError(f"the corpus {corpus} has no articles.", fix="Write one object a line, with title and text.")
    return found


def article(line: str, place: str) -> tuple[str, str]:
    try:
        row: Mapping[str, Any] = json.loads(line)
        title, text = row["title"], row["text"]
        if not (isinstance(title, str) and isinstance(text, str) and text.strip()):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise UserError("is no article.", place=place, fix='Write {"title": "...", "text": "..."}.') from None
    return title, text
