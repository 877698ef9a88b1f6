"""Owns the proof that tests/ mirrors proxy/ one to one, both ways."""

from tests.house.tree import modules, tracked_in

# Modules in which nothing runs, and so nothing can be tested: each with its reason.
UNTESTED = {
    "proxy/ports.py": "Protocols only: tests/contracts runs them against every implementation",
    **{
        f"proxy/terms/{subject}.py": "fields only: tests/terms/test_values.py holds every noun to its form"
        for subject in ("calls", "humans", "money", "policy", "records", "replies")
    },
}
# Folders and files that prove something larger than one module.
ELSEWHERE = (
    "tests/house/",
    "tests/e2e/",
    "tests/contracts/",
    "tests/bench/",
    "tests/test_walks.py",
    "tests/policy/test_flips.py",
    "tests/cel/test_conformance.py",
)


def mirrored(module: str) -> str:
    """Name the test file that belongs to a module."""
    folder, _, name = module.removeprefix("proxy/").rpartition("/")
    return f"tests/{folder}/test_{name}" if folder else f"tests/test_{name}"


def expected_tests() -> set[str]:
    doors = ("__init__.py", "__main__.py")
    return {mirrored(module) for module in modules() if not module.endswith(doors) and module not in UNTESTED}


def actual_tests() -> set[str]:
    tests = [name for name in tracked_in("tests") if name.rpartition("/")[2].startswith("test_")]
    return {name for name in tests if not name.startswith(ELSEWHERE)}


def test_every_module_has_its_test() -> None:
    """proxy/policy/decide.py is proven in tests/policy/test_decide.py, and so is every other module."""
    missing = expected_tests() - actual_tests()

    assert set() == missing


def test_every_test_has_its_module() -> None:
    """A mirrored test names a module that exists: a renamed module takes its test along."""
    orphans = actual_tests() - expected_tests() - {mirrored(module) for module in UNTESTED}

    assert set() == orphans


def test_only_existing_modules_are_excused() -> None:
    """The table of untested modules names no module that is gone."""
    assert set() == set(UNTESTED) - set(modules())
