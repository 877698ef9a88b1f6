"""Owns the proof that the wheel is ours alone, complete, and the same bytes whoever builds it."""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.house.tree import ROOT, pyproject, tracked


def build(folder: Path) -> Path:
    """Build what git knows with the locked build backend; nothing is fetched, there is no isolated environment."""
    subprocess.run(["git", "checkout-index", "--all", f"--prefix={folder}/"], cwd=ROOT, check=True)
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1767225600"}
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    (wheel,) = folder.glob("dist/*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Build twice."""
    return [build(tmp_path_factory.mktemp("wheel")) for _ in range(2)]


def test_it_is_reproducible(wheels: list[Path]) -> None:
    """Two builds of one tree are equal byte by byte, so anyone can check a published wheel."""
    first, second = wheels

    assert first.read_bytes() == second.read_bytes()


def test_it_holds_our_files_and_no_other(wheels: list[Path]) -> None:
    """The wheel has every tracked file of the package and its own metadata: no stray file, no `.pth`."""
    meta = f"handrail-{pyproject()['project']['version']}.dist-info"
    expected = {f"{meta}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}

    names = set(zipfile.ZipFile(wheels[0]).namelist())

    assert expected | {name for name in tracked() if name.startswith("proxy/")} == names


CONFIG = """\
listen: 127.0.0.1:0
health_listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
providers: {simulated: {dialect: simulated, prices: openai}}
"""


@contextmanager
def serving(folder: Path, wheel: Path) -> Iterator[str]:
    """Serve from an unpacked wheel, in a folder without a checkout, until the caller is done; give the base URL."""
    zipfile.ZipFile(wheel).extractall(folder / "site")
    (folder / "handrail.yaml").write_text(CONFIG, encoding="utf-8")
    command = [sys.executable, "-m", "proxy", "serve", "--config", "handrail.yaml"]
    environment = os.environ | {"PYTHONPATH": str(folder / "site")}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            yield next(found[1] for line in server.stdout if (found := re.search(r"OPENAI_BASE_URL=(\S+)", line)))
        finally:
            server.terminate()
    assert 0 == server.returncode


def test_it_serves_without_a_checkout(wheels: list[Path], tmp_path: Path) -> None:
    """An installed wheel has all it needs: tokenizers, prices, schemas and the simulated model that answers."""
    body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hello"}]}

    with serving(tmp_path, wheels[0]) as url:
        request = Request(f"{url}/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"})  # noqa: S310 - our own URL
        with urlopen(request, timeout=30) as reply:  # noqa: S310 - our own URL
            answer = json.load(reply)

    assert ("chat.completion", "true") == (answer["object"], reply.headers["x-handrail-simulated"])
