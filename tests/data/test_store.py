"""The store of encoded rows: what goes in comes out, a torn one is never opened, memory stays flat."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.core.errors import EnvironmentFailed
from posttrain.data.store import FILES, TokenStore, TokenStoreWriter

ROWS = [(array("i", [1, 70_000, 3]), array("b", [0, 1, 1])), (array("i", [9]), array("b", [0]))]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(rows=st.lists(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 1)), min_size=1), max_size=8))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[list[tuple[int, int]]]) -> None:
    path = tmp_path_factory.mktemp("store") / "train"
    encoded = [(array("i", [t for t, _ in row]), array("b", [m for _, m in row])) for row in rows]
    with TokenStoreWriter(path) as writer:
        for tokens, mask in encoded:
            writer.append(tokens, mask)
    store = TokenStore(path)
    assert [store[row] for row in range(len(store))] == encoded
    assert [store.length(row) for row in range(len(store))] == [len(row) for row in rows]
    assert store.tokens == sum(len(row) for row in rows)
    with pytest.raises(IndexError):
        store[len(store)]


def test_streams_of_one_row_are_equally_long(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 tokens and 1 mask values"), TokenStoreWriter(tmp_path / "train") as writer:
        writer.append(ROWS[0][0], ROWS[1][1])
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_no_store_and_the_next_one_starts_anew(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from array import array; from pathlib import Path\n"
        "from posttrain.data.store import TokenStoreWriter\n"
        "writer = TokenStoreWriter(Path(sys.argv[1]))\n"
        "for n in range(50_000): writer.append(array('i', [n]), array('b', [1]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "train"
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL and not path.exists() and (tmp_path / "train.writing").exists()
    with TokenStoreWriter(path) as writer:
        writer.append(*ROWS[0])
    assert TokenStore(path)[0] == ROWS[0] and len(TokenStore(path)) == 1 and not (tmp_path / "train.writing").exists()


def test_a_finished_store_is_never_overwritten(tmp_path: Path) -> None:
    with TokenStoreWriter(tmp_path / "train") as writer:
        writer.append(*ROWS[0])
    with pytest.raises(FileExistsError):
        TokenStoreWriter(tmp_path / "train")


@pytest.mark.parametrize("name", FILES)
def test_a_torn_store_is_refused(tmp_path: Path, name: str) -> None:
    with TokenStoreWriter(tmp_path / "train") as writer:
        writer.append(*ROWS[0])
    file = tmp_path / "train" / name
    file.write_bytes(file.read_bytes()[:-8] if name == "offsets" else file.read_bytes()[: 4 if name == "tokens" else 1])
    with pytest.raises(EnvironmentFailed, match="torn"):
        TokenStore(tmp_path / "train")
    file.unlink()
    with pytest.raises(EnvironmentFailed, match="not complete"):
        TokenStore(tmp_path / "train")


def test_a_full_disk_is_the_environments_failure_and_leaves_nothing(tmp_path: Path) -> None:
    """A real write that the system refuses: the process may write 64 KiB into one file."""
    script = (
        "import resource, signal, sys; from array import array; from pathlib import Path\n"
        "from posttrain.core.errors import EnvironmentFailed\n"
        "from posttrain.data.store import TokenStoreWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "try:\n"
        "    with TokenStoreWriter(Path(sys.argv[1])) as writer:\n"
        "        for n in range(100_000): writer.append(array('i', [n]), array('b', [1]))\n"
        "except EnvironmentFailed as error: print(error); sys.exit(4)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "train")], capture_output=True, text=True, check=False)
    assert done.returncode == 4 and "could not be written" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_two_hundred_thousand_rows_in_flat_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    with TokenStoreWriter(tmp_path / "train") as writer:
        for number in range(200_000):
            writer.append(array("i", range(number % 7 + 1)), array("b", bytes(number % 7 + 1)))
    store = TokenStore(tmp_path / "train")
    assert sum(len(store[row][0]) for row in range(0, len(store), 100)) > 0 and len(store) == 200_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 2**20
