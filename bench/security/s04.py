"""Owns row S4: secrets and content planted wherever they come in, and looked for wherever anything goes out.

Everything is asked of a Handrail that is a process of its own and logs as much as it can. A hand-off packet quotes its
conversation on purpose, so the conversation that is handed over has no planted content; its secrets count.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from bench.chaos.provider import FakeProvider, Script
from bench.chaos.report import ROOT
from bench.chaos.rows_api import Plan
from bench.chaos.serving import Served, serving, until
from bench.security.asking import Headers, Reply, ask
from bench.security.canaries import hits, planted
from bench.security.forging import bearer
from bench.security.listening import Ear
from bench.security.outcomes import Line, count, enough
from proxy.identity import new_key
from tests.redis_servers import RedisServer, of_the_system, of_the_wheel

TITLE = "canary secrets over all sinks"
LEAST_SINKS = 12

POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: desk, version: 1.0.0}
spec:
  escalation: [{id: human, when: 'request.user_text.contains("a person")', to: desk, handoff: webhook}]
"""
CONFIG = """\
admin_token_file: admin
auth: {{keys_file: keys.json}}
providers:
  p: {{dialect: openai, base_url: "{provider}", api_key_env: PROVIDER_KEY}}
models:
  m: {{provider: p, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}
policies: [policy]
state: {{path: state/handrail.sqlite}}
handoff: {{url: "{ear}/webhook", secret_file: webhook}}
audit: {{}}
budgets: {{redis: {{url: "{redis}", password_env: REDIS_PASSWORD}}}}
tiers: {{warm: {{postgres: {{url: "postgresql://handrail@127.0.0.1:1/db", password_env: PG_PASSWORD}}}}}}
telemetry: {{log_level: debug, otlp_endpoint: "{ear}/v1/traces"}}
"""


class Visit:
    """The calls that are made, and what comes back of them."""

    def __init__(self, served: Served, provider: FakeProvider, secrets: Mapping[str, str]) -> None:
        self._served = served
        self._provider = provider
        self._secrets = secrets
        self.proof = bearer(secrets["client key"])
        self.replies: list[Reply] = []

    def chat(self, script: Script | None = None, text: str = "", **more: object) -> Reply:
        """Make a call whose provider does as is said."""
        secrets = self._secrets
        self._provider.script(script or Script())
        said = {"role": "user", "content": text or f"Hello, this is {secrets['prompt']}"}
        body = msgspec.json.encode({"model": "m", "messages": [said], **more})
        return self.raw("POST", f"/v1/chat/completions?q={secrets['query']}", self.proof, body)

    def raw(self, method: str, path: str, headers: Headers, body: bytes | None = None) -> Reply:
        """Make a call of the data plane as it is written."""
        more = (("x-note", self._secrets["header value"]),)
        self.replies.append(ask(f"127.0.0.1:{self._served.port}", method, path, (*headers, *more), body))
        return self.replies[-1]

    def admin(self, path: str, token: str, method: str = "GET", body: bytes | None = None) -> Reply:
        """Make a call of the admin listener."""
        self.replies.append(ask(self._served.admin_url, method, path, bearer(token), body))
        return self.replies[-1]

    @property
    def refused(self) -> bytes:
        """Return all that was said in error replies."""
        return b"\n".join(reply.head.encode() + reply.body for reply in self.replies if reply.status >= 400)


def good(visit: Visit) -> str:
    """Make calls that end well; return the record of one of them."""
    first = visit.chat()
    visit.chat(stream=True)
    visit.chat(text="I want a person")
    if first.status != 200:
        raise RuntimeError(f"a good call was answered with {first.status}: {first.body[:200]!r}")
    return first.decision


def bad(visit: Visit, secrets: Mapping[str, str]) -> None:
    """Make calls that end badly, each in its way."""
    path, key = "/v1/chat/completions", bearer(secrets["client's wrong key"])
    error = msgspec.json.encode({"error": {"message": secrets["upstream error body"], "type": "x"}}).decode()
    for status in (400, 401, 403, 404, 429, 500, 503):
        visit.chat(Script(status=status, body=error, headers={"x-secret": secrets["upstream header"]}))
    visit.chat(Script(body=f"<html>{secrets['broken reply']}</html>"))
    visit.chat(Script(body=f"data: {secrets['broken reply']}\n\n"), stream=True)
    visit.chat(Script(after=2, end="reset"), stream=True)
    visit.chat(Script(after=1, end="close"))
    prompt = secrets["prompt"].encode()
    for body in (
        b'{"model": "%b',
        b'{"model": "m", "messages": "%b"}',
        b'{"model": 1, "x": "%b"}',
        b'{"%b": 1, "%b": 2}',
    ):
        visit.raw("POST", path, visit.proof, body.replace(b"%b", prompt))
    visit.raw("POST", path, key, b'{"model": "' + prompt + b'"}')
    visit.raw("POST", path, key * 2, b"{}")
    visit.raw("POST", path, (("authorization", f"Basic {secrets['client key']}"),), b"{}")
    visit.raw("POST", path, (("x_secret", secrets["header value"]),), b"{}")
    visit.raw("GET", f"/v1/none?{secrets['query']}", visit.proof)


def administer(visit: Visit, token: str) -> dict[str, bytes]:
    """Read every admin page, and send what it refuses."""
    visit.admin("/status", token + "x")
    visit.admin("/approvals/x", token, "POST", b'{"state": "maybe"}')
    return {
        f"admin {page}": visit.admin(page, token).body
        for page in ("/status", "/coverage", "/approvals", "/escalations")
    }


# --- the sinks ------------------------------------------------------------------------------------------------------


def told(*arguments: str, folder: Path) -> bytes:
    """Return all that a command of `handrail` prints."""
    command = [sys.executable, "-m", "proxy", *arguments, "--config", str(folder / "handrail.yaml")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"handrail {arguments[0]} failed: {ran.stderr.decode()[-500:]}")
    return ran.stdout + ran.stderr


def commands(decision: str, folder: Path) -> dict[str, bytes]:
    """Return what people read of the records."""
    return {
        "handrail tail": told("tail", folder=folder),
        "handrail tail --json": told("tail", "--json", folder=folder),
        "handrail explain": told("explain", decision, folder=folder),
    }


def files(state: Path) -> dict[str, bytes]:
    """Return all files of the state, those of the database by their names."""
    database = {
        f"SQLite{path.name.removeprefix(state.name)}": path.read_bytes() for path in state.parent.glob(f"{state.name}*")
    }
    others = (path for path in state.parent.rglob("*") if path.is_file() and not path.name.startswith(state.name))
    return {**database, "audit log and other files": b"\n".join(path.read_bytes() for path in others)}


def probes(served: Served) -> dict[str, bytes]:
    """Return the pages of the health listener."""
    return {page: ask(served.health_url, "GET", page).body for page in ("/metrics", "/readyz")}


def visited(
    folder: Path, urls: Mapping[str, str], provider: FakeProvider, ear: Ear, secrets: Mapping[str, str]
) -> dict[str, bytes]:
    """Run a Handrail through all calls; return what is in each sink, while it runs and after it has ended."""
    environment = {name: secrets[place] for name, place in PLACES.items()}
    with serving(folder, CONFIG.format(**urls), environment=environment) as served:
        visit = Visit(served, provider, secrets)
        decision = good(visit)
        bad(visit, secrets)
        pages = administer(visit, secrets["admin token"])
        if not until(lambda: bool(ear.heard.get("/webhook"))):
            raise RuntimeError("no packet was delivered")
        sinks = {**pages, **probes(served), "error replies": visit.refused}
        living = files(served.state)
        served.stop()
        output = served.process.stdout.read().encode() if served.process.stdout else b""
        sinks |= {"stdout": output, "stderr": served.errors.read_bytes(), **commands(decision, folder)}
        sinks |= {f"{name} while it runs": data for name, data in living.items()}
        return {**sinks, **files(served.state), "webhook": ear.heard["/webhook"], "OTLP": ear.heard["/v1/traces"]}


PLACES = {"PROVIDER_KEY": "provider key", "REDIS_PASSWORD": "Redis password", "PG_PASSWORD": "PostgreSQL password"}
"""Which secrets come by the environment, by variable."""


def prepare(folder: Path, secrets: Mapping[str, str], sha256: str) -> None:
    """Write the files that the configuration names."""
    (folder / "policy").mkdir()
    (folder / "policy" / "policy.yaml").write_text(POLICY)
    (folder / "keys.json").write_bytes(msgspec.json.encode([{"name": "web", "sha256": sha256}]))
    for name, place in {"admin": "admin token", "webhook": "webhook secret"}.items():
        (folder / name).write_text(secrets[place])
        (folder / name).chmod(0o600)


def leaked(sinks: Mapping[str, bytes], secrets: Mapping[str, str]) -> list[str]:
    """Return what is where it must not be."""
    return [hit for hit in hits(sinks, secrets) if hit not in EXPECTED]


def run(plan: Plan) -> list[Line]:
    """Plant, call, and look everywhere."""
    dice = plan.dice("canaries")
    key, sha256 = new_key(dice.randbytes(16))
    secrets = {**planted(dice), "client key": key}
    prepare(plan.folder, secrets, sha256)
    program = of_the_wheel() or of_the_system()
    if not program:
        return [Line(row="S4", what="canaries found", target="0", notes=("there is no Redis here",))]
    redis = RedisServer(program, plan.folder / "redis", password=secrets["Redis password"])
    with redis, Ear() as ear, FakeProvider(plan.folder, seed=plan.seed) as provider:
        urls = {"redis": redis.url, "ear": ear.url, "provider": provider.url}
        sinks = visited(plan.folder, urls, provider, ear, secrets)
    empty = [name for name in NEVER_EMPTY if not sinks[name]]
    return [
        enough("S4", "sinks looked through", len(sinks), LEAST_SINKS),
        count("S4", "sinks that have to have something and are empty", empty),
        count("S4", f"canaries found, of {len(secrets)}", leaked(sinks, secrets), NOTES),
    ]


NEVER_EMPTY = ("stderr", "OTLP", "webhook", "/metrics", "SQLite", "handrail tail", "handrail explain", "error replies")
EXPECTED = {
    "upstream error body in error replies": "what the provider says of a failed call is told to whoever made it",
    "prompt in error replies": "a JSON key that was sent twice is named to whoever sent it",
}
"""Content, never a secret, that goes back to its own caller on purpose, and why."""
NOTES = (
    *(f"by design: {hit}: {why}" for hit, why in EXPECTED.items()),
    "PostgreSQL is away during the row: its password is looked for in what is said of that.",
)
