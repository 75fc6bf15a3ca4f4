"""pytest over a package that a model wrote parts of: the tests run where no file of the model's is ever loaded."""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping

import pytest
from require import require

from posttrain.sandbox import Limits
from posttrain.sandbox.pool import Pool
from posttrain.sandbox.verdicts import Verdict, check_repository

LIMITS = Limits(cpu_s=5, wall_s=15.0, memory_bytes=512 << 20)
PACKAGES = (sysconfig.get_path("purelib"),)

TEST = """
import pytest
import shapes
from shapes import area, Square, ShapeError
from shapes.units import to_mm


def test_area():
    assert area(2, 3) == 6
    assert sum(area(n, n) for n in range(3)) == 5


def test_square():
    square = Square(4)
    assert square.side == 4 and square.grown(1).side == 5 and len([square]) == 1
    assert isinstance(square, Square) and square == Square(4) and not square == Square(5)


def test_error():
    with pytest.raises(ShapeError):
        area(-1, 1)
    with pytest.raises(ValueError):
        area(-1, 1)


@pytest.mark.parametrize("cm, mm", [(1, 10), (0, 0)])
def test_units(cm, mm):
    assert to_mm(cm) == mm
"""
GOOD = """
from shapes.units import to_mm

class ShapeError(ValueError):
    pass

class Square:
    def __init__(self, side): self.side = side
    def grown(self, by): return Square(self.side + by)
    def __eq__(self, other): return isinstance(other, Square) and self.side == other.side

def area(a, b):
    if a < 0 or b < 0: raise ShapeError("negative")
    return a * b
"""
REPOSITORY = {
    "artefacts": ["shapes/__init__.py"],
    "files": {
        "shapes/__init__.py": "raise RuntimeError('to be written')",
        "shapes/units.py": "def to_mm(cm):\n    return cm * 10\n",
        "tests/test_shapes.py": TEST,
        "tests/conftest.py": "",
        "pytest.ini": "[pytest]\n",
    },
    "tests": ["tests", "pytest.ini"],
    "expected": [
        f"tests/test_shapes.py::{name}"
        for name in ("test_area", "test_square", "test_error", "test_units[1-10]", "test_units[0-0]")
    ],
}


def judged(pool: Pool, artefacts: Mapping[str, str], repository: Mapping[str, object] = REPOSITORY) -> Verdict:
    return pool.submit(
        lambda supervisor: check_repository(supervisor, artefacts, repository, limits=LIMITS, packages=PACKAGES)
    ).result()


@pytest.fixture
def repositories(pool: Pool) -> Pool:
    assert pool.backend is not None
    if not pool.backend.folders:
        require("tmpfs")
        pytest.fail("this user may mount, and the sandbox says that it cannot")
    return Pool.of(pool.backend, packages=PACKAGES, size=1)


def test_what_is_right_passes_and_what_is_wrong_fails_where_it_is_wrong(repositories: Pool) -> None:
    good = judged(repositories, {"shapes/__init__.py": GOOD})
    assert good.passed, good
    wrong = judged(repositories, {"shapes/__init__.py": GOOD.replace("a * b", "a + b")})
    assert {each.name.partition("::")[2]: each.passed for each in wrong.tests} == {
        "test_area": False, "test_square": True, "test_error": True, "test_units[1-10]": True, "test_units[0-0]": True,
    }  # fmt: skip
    assert "assert" in wrong.tests[0].why
    repositories.close()


def test_no_attack_passes(repositories: Pool) -> None:
    attacks = {
        "skips": "import pytest\npytest.skip('done', allow_module_level=True)",
        "exits": "import os\nos._exit(0)",
        "exits politely": "import sys\nsys.exit(0)",
        "patches pytest": "import sys\nimport _pytest.runner\n_pytest.runner.call_and_report = None\n" + GOOD.replace("a * b", "1"),
        "always equal": GOOD.replace(
            "return a * b", "return type('A', (int,), {'__eq__': lambda s, o: True, '__radd__': lambda s, o: 5})()"
        ),
        "drops a conftest": "open('conftest.py', 'w').write('def pytest_runtest_call(item): pass')\n" + GOOD.replace("a * b", "1"),
        "rewrites the tests": "import os\nos.makedirs('tests', exist_ok=True)\nopen('tests/test_shapes.py', 'w').write('def test_area(): pass')\n"
        + GOOD.replace("a * b", "1"),
        "shadows the built-ins": "import builtins\nbuiltins.sum = lambda x: 5\n" + GOOD.replace("a * b", "6 if a == 2 else 0"),
        "writes everywhere": "import os\nfor n in range(3, 64):\n    try: os.write(n, b'{\"tests\": []}\\n')\n    except OSError: pass\n"
        + GOOD,
        "nothing": "",
    }
    verdicts = {name: judged(repositories, {"shapes/__init__.py": text}) for name, text in attacks.items()}
    repositories.close()
    assert not {name: verdict for name, verdict in verdicts.items() if verdict.passed}
    assert all(len(verdict.tests) == 5 and verdict.status == "decided" for verdict in verdicts.values())


def test_an_expected_test_must_be_there_and_pass(repositories: Pool) -> None:
    files = {
        "f.py": "",
        "test_f.py": "import pytest\nfrom f import one\ndef test_one(): assert one() == 1\n@pytest.mark.skip\ndef test_skipped(): pass\n"
        "@pytest.mark.xfail\ndef test_xfail(): assert one() == 2\n@pytest.mark.xfail\ndef test_xpass(): assert one() == 1\n",
    }
    repository = {
        "files": files, "tests": ["test_f.py"], "expected": [f"test_f.py::test_{name}" for name in ("one", "skipped", "xfail", "xpass", "gone")],
    }  # fmt: skip
    verdict = judged(repositories, {"f.py": "def one(): return 1"}, repository)
    repositories.close()
    assert [each.passed for each in verdict.tests] == [True, False, False, False, False]


def test_an_artefact_is_no_test_file(repositories: Pool) -> None:
    verdict = judged(repositories, {"tests/conftest.py": "x"})
    repositories.close()
    assert verdict.status == "broken" and "both a test file and an artefact" in verdict.explanation
