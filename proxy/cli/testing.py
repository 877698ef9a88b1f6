"""Owns `handrail test`: the policies' own tests, and calls that were kept as more of them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from proxy import app, config, policy
from proxy.cli import junit, policies, records
from proxy.cli.answers import not_kept
from proxy.cli.paint import paint
from proxy.documents import Source
from proxy.errors import ConfigError
from proxy.pipeline.rehearsal import rehearse
from proxy.terms import Kept

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    test = commands.add_parser(
        "test",
        help="run the policies' own tests",
        description="Run policy tests: files, or folders whose tests.yaml files are found. "
        "Exit 0 if all pass, 1 if one fails or there is none, 2 if a file is wrong.",
    )
    test.add_argument("paths", nargs="*", type=Path, metavar="PATH")
    test.add_argument(
        "--record", nargs="+", metavar="EXCHANGE", help="make cases of calls that were kept, then run them"
    )
    test.add_argument("--into", type=Path, metavar="FILE", help="where to write them (default: print them)")
    records.where(test)
    test.add_argument("--coverage", action="store_true", help="demand a case for each outcome of each rule and guard")
    test.add_argument("--json", action="store_true", help="one JSON object with every case")
    test.add_argument("--junit", type=Path, metavar="FILE", help="also write the results as JUnit XML")
    test.set_defaults(run=run_test)


def run_test(chosen: argparse.Namespace) -> int:
    """Run the tests and print how each case went; with --record, write them first."""
    if chosen.record:
        return _record(chosen)
    if not chosen.paths:
        raise ConfigError(["name the tests to run: files, or folders that have a tests.yaml"])
    files = policies.files_of(chosen.paths, config.TESTS_FILE)
    if not files:
        print(f"no {config.TESTS_FILE} in {', '.join(map(str, chosen.paths))}", file=sys.stderr)
        return 1
    report = policy.run_tests([config.source_of(file) for file in files], _load, rehearse)
    good = report.passed and not (chosen.coverage and report.uncovered)
    if chosen.junit:
        policies.write_file(chosen.junit, junit.xml(report))
    print(_json(report) if chosen.json else _words(report, coverage=chosen.coverage))
    return 0 if good else 1


# --- calls that were kept -------------------------------------------------------------------------------------------


def _record(chosen: argparse.Namespace) -> int:
    """Make cases of what was decided; print them, or write them and say which come true with the policies in force."""
    if chosen.into and chosen.into.exists():
        raise ConfigError([f"{chosen.into}: is there already; name another file for the cases"])
    folder = chosen.into.parent if chosen.into else Path()
    tests = policy.recorded(_kept(chosen), _named(chosen, folder))
    text = yaml.dump(tests, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
    if not chosen.into:
        print(text, end="")
        return 0
    policies.write_file(chosen.into, text)
    report = policy.run_tests([Source(path=str(chosen.into), text=text)], _load, rehearse)
    print(_words(report, coverage=False))
    return 0 if report.passed else 1


class _Plain(yaml.SafeDumper):
    """Writes what stands in several places in each of them: our documents have no anchors."""

    def ignore_aliases(self, data: object) -> bool:
        """Say that nothing is written once for all."""
        return True


def _kept(chosen: argparse.Namespace) -> list[Kept]:
    with records.opened(chosen, content=True) as reader:
        found = {name: reader.kept_of(name.partition("-")[0]) for name in chosen.record}
    missing = [f"{name}: {not_kept(kept)}" for name, kept in found.items() if kept is None or kept.too_large]
    if missing:
        raise ConfigError(missing)
    return [kept for kept in found.values() if kept]


def _named(chosen: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield the policies that the configuration names, as seen from the folder of the cases."""
    loaded = app.read_config(app.Options(path=chosen.config, environment=dict(os.environ)))
    for pattern in loaded.config.policies:
        for path in config.policy_files(loaded.folder, pattern):
            yield os.path.relpath(path, folder)


# --- how it went ----------------------------------------------------------------------------------------------------


def _load(test: str, names: Sequence[str]) -> policy.PolicySet:
    folder = Path(test).parent
    paths = [path for name in names for path in config.policy_files(folder, name)]
    if not paths:
        raise ConfigError([f"{test}: no file matches {', '.join(names)}"])
    return config.policies_of(paths, config.OF_KEPT)


def _words(report: policy.Report, *, coverage: bool) -> str:
    lines = []
    for result in report.results:
        lines.append(f"{paint('pass', 'green') if result.passed else paint('FAIL', 'red')}  {result.name}")
        lines += [f"      {result.position}: {wrong}" for wrong in result.wrong]
        lines += [f"      {line}" for line in junit.why(result)]
    if coverage:
        lines += [f"{paint('unproven', 'yellow')}  {name}" for name in report.uncovered]
    failed = sum(not result.passed for result in report.results)
    lines.append(f"{len(report.results) - failed} passed, {failed} failed")
    return "\n".join(lines)


def _json(report: policy.Report) -> str:
    cases = [
        {
            "name": result.name,
            "position": result.position,
            "phase": result.phase,
            "verdict": result.decision.verdict,
            "rule": result.decision.rule,
            "passed": result.passed,
            "wrong": list(result.wrong),
        }
        for result in report.results
    ]
    return json.dumps({"passed": report.passed, "cases": cases, "uncovered": list(report.uncovered)})
