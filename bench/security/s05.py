"""Owns row S5: many tenants at once, who collide in everything that a client can choose, and get only their own.

All of it is asked of one Handrail, then of two that share conversations and limits in Redis. What a tenant is, its key
says; two keys each are of one agent, whose budget is meant to be theirs together.
"""

from __future__ import annotations

import contextlib
import io
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from bench.chaos.rows_api import Plan
from bench.chaos.serving import Served, serving, until
from bench.security.asking import Headers, Reply, ask
from bench.security.crossing import CHECKS, Content, Heard, agent, owners
from bench.security.echoing import PLACEHOLDER, Echo
from bench.security.forging import bearer
from bench.security.outcomes import Line, count, enough
from bench.security.tenants import Call, Tenant
from proxy.cli import main
from proxy.identity import new_key
from proxy.stores.sqlite import Reader
from proxy.terms import Totals
from tests.redis_servers import RedisServer, of_the_system, of_the_wheel

TITLE = "cross-tenant leaks over interleaved calls"

POLICY = """\
apiVersion: handrail.dev/v1alpha1
kind: AgentPolicy
metadata: {name: desk, version: 1.0.0}
spec:
  data: [{id: mail, direction: in, kinds: [email], action: tokenize}]
  rules:
    - {id: mark, phase: request, when: 'request.user_text.contains("mark me")', action: label, labels: [marked]}
    - {id: verified, phase: tool_result, when: result.verified, action: label, labels: [verified]}
    - {id: keep, phase: post, when: "true", action: record}
    - {id: look, phase: post, when: conversation.totals.refund_usd < 0.0, action: alert}
  actions:
    - {id: refund, tools: [refund], when: "true", action: require_approval, approval: {ttl: 1h}}
    - {id: refunds, tools: [refund], totals: {refund_usd: {value: num(tool.args.amount), limit: 100000}}}
  spend:
    - {id: talk, scope: conversation, window: conversation, limitUSD: 1000}
    - {id: user, scope: user, window: day, limitUSD: 1000}
    - {id: caller, key: caller.id_hash, window: day, limitUSD: 1000}
  escalation: [{id: human, when: 'request.user_text.contains("a person")', to: desk, handoff: header}]
"""
CONFIG = """\
admin_token_file: {folder}/admin
providers: {{p: {{dialect: openai, base_url: "{provider}"}}}}
models: {{m: {{provider: p, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}}}
policies: ["{folder}/policy"]
state: {{path: state/handrail.sqlite, customer_key_file: "{folder}/customer"}}
audit: {{}}
"""
AUTH = "auth: {{keys_file: {folder}/keys.json}}\n"
SHARED = """\
tiers: {{hot: {{redis: {{url: "{redis}", timeout_ms: 10000}}}}}}
budgets: {{redis: {{url: "{redis}", timeout_ms: 10000}}}}
"""
TOKEN = "an admin token that is long enough for one"  # noqa: S105 - made up
MOST_SHOWN = 1000


class Crowd:
    """The tenants' world: hosts, the human at the desk, and what the provider has seen."""

    def __init__(self, hosts: Sequence[Served], echo: Echo) -> None:
        self.hosts = hosts
        self._echo = echo

    def post(self, host: int, headers: Headers, body: bytes) -> Reply:
        """Make a call at one of the hosts."""
        return ask(f"127.0.0.1:{self.hosts[host].port}", "POST", "/v1/chat/completions", headers, body)

    def admin(self, method: str, path: str, body: bytes | None = None) -> Any:
        """Ask the admin listener of a host."""
        return msgspec.json.decode(ask(self.hosts[0].admin_url, method, path, bearer(TOKEN), body).body)

    def approve(self, record: str) -> bool:
        """Have a human approve what a call left waiting; say whether anything was."""
        waiting = self.admin("GET", f"/approvals?state=pending&limit={MOST_SHOWN}")
        mine = [held["id"] for held in waiting if held["exchange_id"] == record]
        for held_id in mine:
            self.admin("POST", f"/approvals/{held_id}", b'{"state": "approved", "by": "ana"}')
        return bool(mine)

    def foreign(self, tenant: int, dice: random.Random) -> str:
        """Return a placeholder that the provider has seen of another tenant."""
        body = dice.choice(self._echo.sent) if self._echo.sent else b""
        found = [] if tenant in owners(body) else PLACEHOLDER.findall(body.partition(b"<<")[0])
        return dice.choice(found).decode() if found else "[EMAIL_00000000]"


# --- the run --------------------------------------------------------------------------------------------------------


def prepare(folder: Path, tenants: int, dice: random.Random) -> list[str]:
    """Write the files that all hosts read; return the tenants' keys."""
    keys = [new_key(dice.randbytes(16)) for _ in range(tenants)]
    granted = [{"name": f"t{at:02}", "sha256": key[1], "agent": agent(at)} for at, key in enumerate(keys)]
    (folder / "keys.json").write_bytes(msgspec.json.encode(granted))
    (folder / "policy").mkdir()
    (folder / "policy" / "policy.yaml").write_text(POLICY)
    for name, text in {"admin": TOKEN, "customer": "c" * 64}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return [key for key, _ in keys]


@contextlib.contextmanager
def hosts(folder: Path, number: int, provider: str, config: str) -> Iterator[list[Served]]:
    """Run so many Handrails, which share conversations and limits if they are several."""
    with contextlib.ExitStack() as stack:
        names = {"folder": folder, "provider": provider, "redis": ""}
        if number > 1:
            redis = RedisServer(of_the_wheel() or of_the_system(), folder / "redis")
            names["redis"] = stack.enter_context(redis).url
            config += SHARED
        served = []
        for place in range(number):
            (folder / f"host{place}").mkdir()
            served.append(stack.enter_context(serving(folder / f"host{place}", config.format(**names))))
        yield served


def crowded(folder: Path, calls: int, tenants: int, dice: random.Random, number: int, auth: str = AUTH) -> list[Line]:
    """Let tenants call all at once; return what came of it."""
    keys = prepare(folder, tenants, dice)
    with Echo() as echo, hosts(folder, number, echo.url, auth + CONFIG) as served:
        crowd = Crowd(served, echo)
        all_of_them = [Tenant(at, key, crowd, random.Random(dice.random()), number) for at, key in enumerate(keys)]  # noqa: S311 - a schedule
        with ThreadPoolExecutor(tenants) as pool:
            list(pool.map(lambda tenant: tenant.run(-(-calls // tenants)), all_of_them))
        made = [call for tenant in all_of_them for call in tenant.calls]
        until(lambda: sum(len(host.records()) for host in served) >= len(made))
        heard = gathered(made, echo, crowd)
        where = "one Handrail" if number == 1 else f"{number} that share Redis"
        left = list(apart(heard, folder / "host0" / "handrail.yaml"))
    return lines(heard, where, calls, left)


def gathered(made: list[Call], echo: Echo, crowd: Crowd) -> Heard:
    """Read whatever was written."""
    totals: Counter[tuple[str, str, str]] = Counter()
    contents = [
        Content(what=page, record=row["exchange_id"], session_id=row["session_id"], data=msgspec.json.encode(row))
        for page in ("approvals", "escalations")
        for row in crowd.admin("GET", f"/{page}?limit={MOST_SHOWN}")
    ]
    exchanges = []
    for host in crowd.hosts:
        exchanges += host.records()
        for (scope, window), one in host.totals().items():
            totals[scope, window, "used"] += one.nanousd
            totals[scope, window, "held"] += one.reserved_nanousd
        with Reader(str(host.state)) as reader:
            contents += [
                Content(what="kept", record=kept.exchange_id, session_id=checked.facts.session.id, data=data)
                for kept in reader.kept(0)
                for checked, data in [(kept.checks[0], msgspec.json.encode(kept))]
            ]
    books = {
        (scope, window): Totals(nanousd=used, reserved_nanousd=totals[scope, window, "held"])
        for (scope, window, kind), used in totals.items()
        if kind == "used"
    }
    return Heard(calls=made, sent=list(echo.sent), exchanges=exchanges, contents=contents, totals=books)


def apart(heard: Heard, config: Path) -> Iterator[str]:
    """Show, export and erase one conversation whose name all tenants use; yield what is not of its tenant alone."""
    makers = heard.makers
    ours = Counter(record.session.id for record in heard.exchanges if makers.get(record.id) == 0).most_common(1)[0][0]
    for verb in ("show", "export"):
        others = owners(command("sessions", verb, ours, config=config).encode()) - {0}
        yield from (f"sessions {verb}: a canary of {other}" for other in others)
    before = _left(config)
    command("sessions", "erase", ours, "--yes", config=config)
    gone = before - _left(config)
    if set(gone) != {ours}:
        yield f"sessions erase: {dict(gone)} of {ours}"


def _left(config: Path) -> Counter[str]:
    with Reader(str(config.parent / "state" / "handrail.sqlite")) as reader:
        return Counter(record.session.id for record in reader.between(0, 1 << 62))


def command(*arguments: str, config: Path) -> str:
    """Return what a command of `handrail` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main([*arguments, "--config", str(config)])
    return out.getvalue()


def lines(heard: Heard, where: str, least: int, left: list[str]) -> list[Line]:
    """Return what is counted of a run: that it did what it says, and what came to a tenant that is not its own."""
    kinds = Counter(content.what for content in heard.contents)
    did = {
        "tool calls let through after an approval": sum(call.called for call in heard.calls),
        "calls of conversations that a human has": sum(call.owned for call in heard.calls),
        "answers said again": sum(call.repeated for call in heard.calls),
        "conversations marked": sum("marked" in record.session.labels for record in heard.exchanges),
        "results verified": sum("verified" in record.session.labels for record in heard.exchanges),
        "placeholders made": sum(len(PLACEHOLDER.findall(body)) for body in heard.sent),
        **{f"of {what}": kinds[what] for what in ("kept", "approvals", "escalations")},
    }
    notes = tuple(f"{name}: {number:,}" for name, number in did.items())
    return [
        enough("S5", f"calls, {where}", len(heard.calls), least, notes),
        count("S5", f"things that were never tried, {where}", [name for name, number in did.items() if not number]),
        *(count("S5", f"{what}, {where}", list(check(heard))) for what, check in CHECKS.items()),
        count("S5", f"rows of another shown, exported or erased with a conversation, {where}", left),
    ]


def run(plan: Plan) -> list[Line]:
    """Let them call."""
    calls, tenants = (10_000, 24) if plan.full else (240, 6)
    found = []
    for number in (1, 2) if plan.full else (1,):
        folder = plan.folder / f"hosts{number}"
        folder.mkdir()
        found += crowded(folder, calls, tenants, plan.dice(number), number)
    return found
