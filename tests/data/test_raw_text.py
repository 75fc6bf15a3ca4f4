"""Sources of raw text: the same order always, copies dropped, what is measured never trained on, mistakes told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posttrain.core.config import TextSource
from posttrain.core.errors import UserError
from posttrain.data.dedup import DigestSet
from posttrain.data.raw_text import Texts, texts


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.txt").write_text(f"document {number} " + "and more " * (number % 5))
    (folder / "copy.txt").write_text((folder / "7.txt").read_text())
    (folder / "empty.md").write_text(" \n")
    return folder


def opened(folder: Path | str, *, seed: int = 0, seen: DigestSet | None = None, **settings: object) -> Texts:
    return texts(TextSource(source=str(folder), **settings), references={}, base=Path(), seed=seed, seen=seen)  # type: ignore[arg-type]


def origins(source: Texts, side: str = "train") -> list[str]:
    return [document.origin for document in getattr(source, side)()]


def test_the_order_is_the_seeds_and_only_the_seeds(corpus: Path) -> None:
    (corpus / "copy.txt").unlink()  # which of two copies stays depends on the order
    first, again, other = (origins(opened(corpus, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(first) == sorted(other)
    assert origins(opened(corpus, seed=1, count=5)) == first[:5]


def test_what_is_measured_is_never_trained_on_whatever_the_settings(corpus: Path) -> None:
    measured = set(origins(opened(corpus, seed=3), "held_out"))
    assert 1 <= len(measured) <= 15
    for seed, settings in ((3, {}), (4, {"shortest": 20}), (5, {"count": 40})):
        trained = set(origins(opened(corpus, seed=seed, **settings)))
        assert trained and not trained & measured
        assert set(origins(opened(corpus, seed=seed, **settings), "held_out")) <= measured


def test_one_of_few_documents_is_kept_to_measure_on(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.md").write_text(f"text {number}")
    assert len(origins(opened(tmp_path), "held_out")) == 1
    assert len(origins(opened(tmp_path))) == 2


def test_everything_left_out_is_counted_by_its_reason(corpus: Path) -> None:
    source = opened(corpus, shortest=20, longest=30)
    held_out = list(source.held_out())
    documents = list(source.train())
    assert all(20 <= len(document.text) <= 30 for document in documents + held_out)
    left_out = source.found.left_out
    assert left_out["shorter than 20 characters"] >= 10 and left_out["empty"] == 1 and left_out["exact duplicate"] <= 1
    assert len(documents) + len(held_out) + left_out.total() == 62
    assert source.found.documents == len(documents)
    assert source.found.to_json()["languages"] == {"und": len(documents)}


def test_a_copy_of_what_is_measured_or_of_another_source_is_not_trained_on(corpus: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for number in range(60):
        (other / f"other-{number}.rst").write_text((corpus / f"{number}.txt").read_text())
    seen = DigestSet()
    first, second = opened(corpus, seen=seen), opened(other, seen=seen)
    measured = {document.text for document in first.held_out()}
    trained = [document.text for document in first.train()]
    assert not measured & set(trained) and len(trained) == len(set(trained))
    with pytest.raises(UserError, match="holds no text to train on \\(.*exact duplicate"):
        list(second.train())


def test_equal_text_has_an_equal_digest(corpus: Path) -> None:
    digests = []
    for seed in (1, 1, 2):
        source = opened(corpus, seed=seed)
        list(source.train())
        digests.append(source.found.digest)
    assert digests[0] == digests[1] != digests[2]


def test_rows_with_a_text_are_documents(tmp_path: Path) -> None:
    rows = [{"text": f"row {number}", "language": "de" if number % 2 else "en"} for number in range(80)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = opened(tmp_path / "rows.jsonl", languages=["de"])
    held_out, trained = list(source.held_out()), list(source.train())
    assert len(held_out) + len(trained) == 40 and source.found.languages == {"de": len(trained)}
    assert [document.text for document in trained] == sorted((d.text for d in trained), key=lambda text: int(text[4:]))


def test_generated_text_has_as_much_as_asked_for() -> None:
    source = opened("builtin:generated-text", count=25)
    assert len(origins(source)) == 25 == len(set(origins(opened("builtin:generated-text", count=25))))
    assert not set(origins(source)) & set(origins(source, "held_out"))
    text = next(opened("builtin:generated-text").train()).text
    assert text.count(".") >= 4 and not any(character.isdigit() for character in text)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("builtin:man-page", "Did you mean man-pages?"),
        ("./gone", "there is no such file or folder"),
        ("nothing", "is neither a file nor a stage"),
    ],
)
def test_a_source_that_is_not_there(source: str, said: str) -> None:
    with pytest.raises(UserError, match=said.replace("?", "\\?")):
        opened(source)


def test_sources_that_hold_nothing(tmp_path: Path, corpus: Path) -> None:
    (tmp_path / "x.bin").write_text("?")
    (tmp_path / "bad.jsonl").write_text('{"prompt": "hi"}\n')
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="is no text that can be read"):
        opened(tmp_path / "x.bin")
    with pytest.raises(UserError, match="holds no text"):
        list(opened(tmp_path / "none").train())
    with pytest.raises(UserError, match="holds no text to train on.*of another language"):
        list(opened(corpus, languages=["fr"]).train())
    with pytest.raises(UserError) as error:
        list(opened(tmp_path / "bad.jsonl").train())
    assert error.value.place.endswith("bad.jsonl:1") and "no column 'text'" in str(error.value)
