"""Owns the proof that whoever makes a mistake is told where it is and what to do: the real command, its real words."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.e2e.rig import HANDRAIL, LISTENERS, WAIT_S, clean_environment, handrail

PROVIDER = "providers: {openai: {dialect: openai, base_url: 'https://provider.invalid/v1', prices: openai}}\n"
WITH_KEY = PROVIDER.replace("prices", "api_key_env: OPENAI_API_KEY, prices")
POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p, version: 1.0.0}
spec:
  rules:
"""


class Mistake(NamedTuple):
    """What is wrong, and every line that is said about it."""

    config: str
    says: str
    policy: str = ""


MISTAKES = {
    "bad config": Mistake(
        config="lisen: 127.0.0.1:1\nagent: {level: excute}\nlimits: {idle_s: -1}\n" + PROVIDER,
        says="""\
handrail.yaml:4:1: unknown key `lisen` (did you mean `listen`?)
handrail.yaml:5:16: `level` is `excute`, not one of assist, execute, operate (did you mean `execute`?)
handrail.yaml:6:18: `idle_s` is wrong: -1 is less than or equal to the minimum of 0
handrail: 3 problems; nothing was started
""",
    ),
    "no YAML": Mistake(
        config="agent: [\n",
        says="""\
handrail.yaml:5:1: this is not YAML: expected the node content, but found '<stream end>'
handrail: 1 problem; nothing was started
""",
    ),
    "names that are not there": Mistake(
        config=PROVIDER + "models: {large: {provider: opena}}\ndefault_model: lage\n",
        says="""\
handrail.yaml:5:28: there is no provider `opena` (did you mean `openai`?)
handrail.yaml:6:16: there is no model or pool `lage` (did you mean `large`?)
handrail: 2 problems; nothing was started
""",
    ),
    "missing key": Mistake(
        config=WITH_KEY,
        says="""\
handrail.yaml:4:93: the environment has no OPENAI_API_KEY, or it is empty
handrail: 1 problem; nothing was started
""",
    ),
    "bad policy": Mistake(
        config=WITH_KEY + "policies: [policy.yaml, gone/*.yaml]\n",
        policy="    - {id: poems, phase: request, when: 'true', action: deny, mesage: No.}\n",
        says="""\
handrail.yaml:4:93: the environment has no OPENAI_API_KEY, or it is empty
handrail.yaml:5:25: no file matches gone/*.yaml
policy.yaml:6:63: unknown key `mesage` (did you mean `message`?)
handrail: 3 problems; nothing was started
""",
    ),
    "bad CEL": Mistake(
        config=PROVIDER + "policies: [policy.yaml]\n",
        policy="""\
    - {id: field, phase: request, when: 'request.user_txt.contains("poem")', action: deny}
    - {id: paren, phase: request, when: 'request.user_text.contains("poem"', action: deny}
    - {id: types, phase: request, when: 'size(request.messages) > "3"', action: deny}
    - {id: strip, phase: response, when: 'true', action: strip_tools, tools: ["*"]}
""",
        says="""\
policy.yaml:6:42: there is no `request.user_txt` (did you mean `request.user_text`?)
policy.yaml:7:68: '(' is never closed
policy.yaml:8:42: '>' does not take (int, string)
policy.yaml:9:58: `strip_tools` is not possible in phase response: \
there a rule may allow, label, annotate, redact, rewrite, escalate, deny
handrail: 4 problems; nothing was started
""",
    ),
    "no such file": Mistake(
        config="",
        says="""\
handrail.yaml: cannot be read: No such file or directory
handrail: 1 problem; nothing was started
""",
    ),
    "records that cannot be kept": Mistake(
        config=PROVIDER + "state: {path: handrail.yaml}\n",
        says="""\
handrail.yaml: cannot be used as the record store: file is not a database
handrail: 1 problem; nothing was started
""",
    ),
}


def said(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the command in a folder; return its status, its output and its errors."""
    run = subprocess.run(
        [HANDRAIL, *arguments],
        cwd=folder,
        env=clean_environment({}),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    return run.returncode, run.stdout, run.stderr


@pytest.mark.parametrize("name", MISTAKES)
def test_serve_tells_every_mistake_at_once(name: str, tmp_path: Path) -> None:
    """Each problem is a line with its file, line, column and what was meant; the status is 2."""
    mistake = MISTAKES[name]
    if mistake.config:
        (tmp_path / "handrail.yaml").write_text(LISTENERS + mistake.config)
    if mistake.policy:
        (tmp_path / "policy.yaml").write_text(POLICY + mistake.policy)

    assert (2, "", mistake.says) == said(tmp_path, "serve", "--config", "handrail.yaml")


def test_a_port_in_use_is_told_with_its_key(tmp_path: Path) -> None:
    """Whoever starts a second Handrail learns which of the three ports is taken."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        (tmp_path / "handrail.yaml").write_text(LISTENERS.replace("127.0.0.1:0", address, 1) + PROVIDER)

        status, out, errors = said(tmp_path, "serve", "--config", "handrail.yaml")

    assert (2, "") == (status, out)
    assert errors.startswith(
        f"listen: cannot listen on {address}: Address already in use (is another Handrail running?"
    )


def test_a_provider_that_is_down_is_told_to_the_caller_and_on_record(tmp_path: Path) -> None:
    """Handrail starts without its provider; a call is a 502 that says why, and `explain` says it again."""
    (tmp_path / "handrail.yaml").write_text(
        LISTENERS + PROVIDER.replace("https://provider.invalid", "http://127.0.0.1:9")
    )
    body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hello"}]}

    with handrail(tmp_path / "handrail.yaml") as served:
        request = Request(  # noqa: S310 - our own URL
            f"{served.base_url}/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with pytest.raises(HTTPError) as failed:
            urlopen(request, timeout=WAIT_S)  # noqa: S310 - our own URL
        with failed.value as reply:
            error, decision = json.load(reply)["error"], reply.headers["x-handrail-decision"]
        served.record(decision)
        status, explanation, _ = said(tmp_path, "explain", decision, "--state", str(served.state))

    assert (502, "connect_failed", "The provider could not be reached. (ECONNREFUSED)") == (
        failed.value.code,
        error["code"],
        error["message"],
    )
    assert 0 == status
    assert re.search(r"outcome +fault, HTTP 502: connect_failed", explanation)
    assert re.search(
        r"attempts +1\. openai/gpt-5-mini: fault \(connect_failed\); 0 \+ 0 tokens.*; \$0\.00", explanation
    )


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        pytest.param(("explain", "ex_0", "--state", "gone"), 2, "gone: there are no records yet", id="no records"),
        pytest.param(("test", "."), 1, "no tests.yaml in .", id="no tests"),
        pytest.param(("srve",), 2, "invalid choice: 'srve' (choose from 'serve'", id="no such command"),
    ],
)
def test_other_commands_say_what_they_lack(
    arguments: tuple[str, ...], status: int, expected: str, tmp_path: Path
) -> None:
    """A command that cannot do what was asked says so on stderr, without a traceback."""
    actual, out, errors = said(tmp_path, *arguments)

    assert (status, "", True) == (actual, out, expected in errors)
    assert "Traceback" not in errors
