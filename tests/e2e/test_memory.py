"""Owns the proof that what is in a Handrail's memory stays there: no core dump, no look from beside."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

from tests.e2e.rig import LISTENERS, handrail

CONFIG = "providers: {model: {dialect: simulated, prices: openai}}\n"
PLAIN = """
import ctypes, os, resource, sys
most = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (most, most))
PR_CAPBSET_DROP, CAP_SYS_PTRACE = 24, 19
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Becomes another program that may write core dumps as large as they come, and that has no right to look into others
but that of their user: what root has besides is given up."""
BECOMES = (sys.executable, "-c", PLAIN)
LOOK = """
import os, sys
try:
    for file in ("environ", "mem"):
        os.close(os.open(f"/proc/{sys.argv[1]}/{file}", os.O_RDONLY))
except PermissionError as error:
    sys.exit(error.errno)
"""


def look(pid: int) -> int:
    """Look into another process of the same user; return the error number, 0 if it can be seen."""
    return subprocess.run([*BECOMES, sys.executable, "-c", LOOK, str(pid)], check=False).returncode


def test_nobody_looks_into_a_handrail(tmp_path: Path) -> None:
    """It writes no core dump, and another process of its user sees neither its environment nor its memory, where it
    does see those of any other program."""
    (tmp_path / "handrail.yaml").write_text(LISTENERS + CONFIG)

    with handrail(tmp_path / "handrail.yaml", *BECOMES) as here:
        seen = look(here.process.pid)
        limits = Path(f"/proc/{here.process.pid}/limits").read_text().splitlines()
    with subprocess.Popen([*BECOMES, "/bin/sleep", "60"]) as other:
        control = look(other.pid)
        other.kill()

    assert (errno.EACCES, 0) == (seen, control)
    assert [["0", "0", "bytes"]] == [line.split()[4:] for line in limits if line.startswith("Max core file size")]
