"""The rules of the house, as something that runs: ARCHITECTURE.md names them."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from importlinter import cli

ROOT: Final = Path(__file__).parents[2]
VERIFIERS: Final = (
    "checks/people", "checks/verdict", "checks/ways", "gate/budget", "rounds/paging", "rounds/schedule",
    "rounds/silence", "wire/calls", "wire/reading", "wire/shapes",
)  # fmt: skip
NOTIFIERS: Final = (
    "grouping",
    "hooks/replies",
    "hooks/slack",
    "inbox",
    "layout",
    "letter",
    "mail/compose",
    "samples",
)
PURE: Final = sorted(
    [
        *(ROOT / "services/reconciler/core").rglob("*.py"),
        *(ROOT / "services/reconciler/decode").rglob("*.py"),
        ROOT / "services/ingest/guard.py",
        ROOT / "services/ingest/signature.py",
        *(ROOT / "services/notifier" / f"{name}.py" for name in NOTIFIERS),
        *(ROOT / "services/words").rglob("*.py"),
        ROOT / "services/verifier/answers.py",
        *(ROOT / "services/verifier" / f"{name}.py" for name in VERIFIERS),
    ]
)
CODE: Final = sorted([*(ROOT / "services").rglob("*.py"), *(ROOT / "schemas").rglob("*.py")])
#: What a decision may not ask for: time and chance are handed in.
FORBIDDEN_CALLS: Final = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "perf_counter", "uuid1", "uuid4"}
#: Where the core's thoughts may come from.
CORE_MAY_IMPORT: Final = {
    "collections",
    "datetime",
    "enum",
    "functools",
    "hashlib",
    "itertools",
    "msgspec",
    "phonenumbers",
    "re",
    "schemas",
    "typing",
    "uuid",
    "services.reconciler.core",
}
#: The wall clock, and who may look at it: nobody else but `plumbing/clock.py`.
CLOCK: Final = ROOT / "services/plumbing/clock.py"
WALL: Final = {
    *((receiver, name) for receiver in ("datetime", "datetime.datetime") for name in ("now", "utcnow", "today")),
    ("date", "today"),
    ("time", "time"),
    ("time", "time_ns"),
}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def calls(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Give (receiver, name) of every call, the receiver as it is written."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node.func.value), node.func.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield "", node.func.id


def imports(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_import_contracts_hold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    broken = cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert broken == 0, capsys.readouterr().out


@pytest.mark.parametrize("path", PURE, ids=named)
def test_a_decision_awaits_nothing(path: Path) -> None:
    waiting = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)
    assert not [node.lineno for node in ast.walk(tree(path)) if isinstance(node, waiting)]


@pytest.mark.parametrize("path", PURE, ids=named)
def test_a_decision_knows_neither_the_time_nor_chance(path: Path) -> None:
    assert not [call for call in calls(tree(path)) if call[1] in FORBIDDEN_CALLS or "random" in call]
    assert not {"time", "random", "secrets"} & set(imports(tree(path)))


@pytest.mark.parametrize("path", [p for p in PURE if "core" in p.parts], ids=named)
def test_the_core_sees_the_schemas_alone(path: Path) -> None:
    for name in imports(tree(path)):
        assert any(name == allowed or name.startswith(allowed + ".") for allowed in CORE_MAY_IMPORT), name


@pytest.mark.parametrize("path", [p for p in CODE if p != CLOCK], ids=named)
def test_only_the_clock_looks_at_the_wall(path: Path) -> None:
    looks = [call for call in calls(tree(path)) if call in WALL]
    assert not looks


@pytest.mark.parametrize("path", CODE, ids=named)
def test_importing_a_module_opens_nothing_and_starts_nothing(path: Path) -> None:
    at_import = [
        statement for statement in tree(path).body if isinstance(statement, (ast.Expr, ast.Assign, ast.AnnAssign))
    ]
    opened = {"open", "read_text", "read_bytes", "connect", "getenv", "run", "Popen", "getLogger", "get_logger"}
    for statement in at_import:
        found = [call for call in calls(ast.Module([statement], [])) if call[1] in opened]
        assert not found, f"line {statement.lineno}"
        attributes = {node.attr for node in ast.walk(statement) if isinstance(node, ast.Attribute)}
        assert "environ" not in attributes, f"line {statement.lineno}"


def test_the_guards_see_what_they_guard_against() -> None:
    bad = ast.parse("import random\nasync def f():\n    await datetime.now(UTC)\n    x = random.random()\n")
    assert ("datetime", "now") in list(calls(bad))
    assert ("random", "random") in list(calls(bad))
    assert "random" in list(imports(bad))
