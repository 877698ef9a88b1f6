"""Owns row S10: what Handrail brings along: few packages, all named in an inventory, and a wheel that runs nothing.

The inventory (CycloneDX 1.6) is of what is installed here for the core, without extras; what only other versions of
Python need is in it if it is installed. A full run writes `bench/reports/sbom.json`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

import msgspec

from bench.chaos.report import ROOT
from bench.chaos.rows_api import Plan
from bench.security.outcomes import Line, count

TITLE = "dependencies, inventory and wheel"
MOST_DIRECT = 10
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def named(requirement: str) -> str:
    """Return the package that a requirement names, spelled in one way."""
    found = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def direct(package: str = "handrail") -> list[str]:
    """Return what a package needs, extras and other platforms left aside."""
    wanted = metadata.requires(package) or []
    return sorted({named(text) for text in wanted if "extra ==" not in text and _installed(named(text))})


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def closure(first: list[str]) -> dict[str, list[str]]:
    """Return all packages that are needed, each with what it needs itself."""
    found: dict[str, list[str]] = {}
    waiting = list(first)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = direct(name)
            waiting += found[name]
    return found


def inventory(first: list[str], packages: Mapping[str, list[str]]) -> dict[str, object]:
    """Return the CycloneDX document of what is needed."""
    refs = {name: f"pkg:pypi/{name}@{metadata.version(name)}" for name in packages}
    own = f"pkg:pypi/handrail@{metadata.version('handrail')}"
    components = [
        {"type": "library", "bom-ref": ref, "name": name, "version": metadata.version(name), "purl": ref}
        for name, ref in sorted(refs.items())
    ]
    needs = {own: first, **{refs[name]: needed for name, needed in packages.items()}}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": own, "name": "handrail", "purl": own}},
        "components": components,
        "dependencies": [{"ref": ref, "dependsOn": [refs[name] for name in needed]} for ref, needed in needs.items()],
    }


def wheel(folder: Path) -> list[str]:
    """Build the wheel of what is checked out; return the names of its files."""
    tree = folder / "tree"
    subprocess.run(["git", "checkout-index", "--all", f"--prefix={tree}/"], cwd=ROOT, check=True)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    (built,) = tree.glob("dist/*.whl")
    return zipfile.ZipFile(built).namelist()


def strange(names: list[str]) -> list[str]:
    """Return the files of a wheel that would run at every start of Python, or are not ours."""
    ours = ("proxy/", "handrail-")
    return [name for name in names if name.endswith(".pth") or not name.startswith(ours)]


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """What `pip-audit` says of a package."""

    name: str
    skip_reason: str = ""
    vulns: tuple[dict[str, object], ...] = ()


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What `pip-audit` says."""

    dependencies: tuple[Package, ...]


def known(packages: Iterable[str], folder: Path, program: str | None = None) -> Line:
    """Have `pip-audit` look packages up in the advisories of the Python Package Index. Where it is not installed, or
    has no answer for one of them, they were not looked up: it ends with 0 then as well."""
    program = program or shutil.which("pip-audit")
    if not program:
        return _unknown("`pip-audit` is not installed")
    pinned = folder / "pinned.txt"
    pinned.write_text("".join(f"{name}=={metadata.version(name)}\n" for name in packages))
    command: list[str | Path] = [
        program,
        "--format",
        "json",
        "--progress-spinner",
        "off",
        "--disable-pip",
        "--no-deps",
        "-r",
        pinned,
    ]
    ran = subprocess.run(command, capture_output=True, check=False)
    try:
        answers = msgspec.json.decode(ran.stdout, type=Audit).dependencies
    except msgspec.DecodeError:
        return _unknown(f"`pip-audit` ended with {ran.returncode} and no answer")
    if skipped := sorted({*packages} - {named(one.name) for one in answers if not one.skip_reason}):
        return _unknown(f"there are no advisories within reach for {len(skipped)}: {', '.join(skipped)}")
    return count("S10", "known CVEs", [f"{one.name}: {vuln.get('id')}" for one in answers for vuln in one.vulns])


def _unknown(why: str) -> Line:
    return Line(row="S10", what="known CVEs", target="0", notes=(f"not looked up: {why}",))


def run(plan: Plan) -> list[Line]:
    """Count, write the inventory, and look into the wheel."""
    first = direct()
    packages = closure(first)
    path = (ROOT / "bench" / "reports" if plan.full else plan.folder) / "sbom.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(inventory(first, packages))))
    listed = len(msgspec.json.decode(path.read_bytes())["components"])
    return [
        Line(
            row="S10", what="direct core dependencies", figure=str(len(first)), target=f"<= {MOST_DIRECT}",
            met=0 < len(first) <= MOST_DIRECT,
        ),
        Line(
            row="S10", what="packages in the inventory (transitive)", figure=str(listed), target="all published",
            met=listed == len(packages) >= len(first), notes=(", ".join(sorted(packages)),),
        ),
        count("S10", "files of the wheel that are not ours, or .pth", strange(wheel(plan.folder))),
        known(packages, plan.folder),
    ]  # fmt: skip
