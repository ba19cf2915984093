"""Rooms depend on each other in one direction: nothing that a room imports, directly or not, imports that room."""

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import latticediff

ROOT = Path(latticediff.__file__).parent


def imported(path):
    """Rooms that a file imports, at its top or inside of functions; what only type checkers read is no dependence."""
    package = path.relative_to(ROOT).parts[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unseen = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level or id(node) in unseen:
            continue
        module = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
        module = [part for part in module if part]
        for name in [module[0]] if module else [alias.name for alias in node.names]:
            if (ROOT / name).is_dir() or (ROOT / f"{name}.py").exists():
                yield name


def rooms():
    graph = defaultdict(set)
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        graph[room] |= set(imported(path)) - {room}
    return graph


def test_no_import_runs_back_up():
    graph = rooms()
    assert len(graph) > 30 and {"action", "streams"} <= graph["hmc"]  # it sees what there is
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as exc:
        pytest.fail(f"rooms import each other: {' <- '.join(exc.args[1])}")


def test_a_circle_would_be_seen():
    graph = rooms()
    graph["action"].add("stages")
    with pytest.raises(CycleError):
        tuple(TopologicalSorter(graph).static_order())
