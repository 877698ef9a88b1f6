"""Owns the results of policy tests as JUnit XML, for the servers that collect tests of any kind."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from itertools import groupby

from proxy import policy

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot carry, not even escaped (https://www.w3.org/TR/xml/#charsets)."""


def xml(report: policy.Report) -> str:
    """Return a report as JUnit XML: one testsuite for each test file."""
    suites = [_suite(file, list(results)) for file, results in groupby(report.results, _file)]
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>", *suites, "</testsuites>", ""])


def why(result: policy.CaseResult) -> Iterator[str]:
    """Yield what each rule said of a failed case, with the value of each sub-expression."""
    for one in result.explained:
        yield f"{one.rule.id}: {one.outcome}{f' ({one.error})' if one.error else ''}"
        yield from (f"  {source}  =  {value}" for source, value in one.values)


def _file(result: policy.CaseResult) -> str:
    return result.position.rsplit(":", 2)[0]


def _suite(file: str, results: list[policy.CaseResult]) -> str:
    failed = sum(not result.passed for result in results)
    head = f'<testsuite name="{_text(file)}" tests="{len(results)}" failures="{failed}" errors="0" skipped="0">'
    return "\n".join([head, *(_case(file, result) for result in results), "</testsuite>"])


def _case(file: str, result: policy.CaseResult) -> str:
    head = f'<testcase classname="{_text(file)}" name="{_text(result.name)}"'
    if result.passed:
        return f"{head}/>"
    told = _text("\n".join([f"{result.position}: {wrong}" for wrong in result.wrong] + list(why(result))))
    return f'{head}><failure message="{_text("; ".join(result.wrong))}">{told}</failure></testcase>'


def _text(text: str) -> str:
    return html.escape(_NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text))
