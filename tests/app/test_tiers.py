"""Owns the proof of proxy/app/tiers.py: calls reach the warm tier, wait while it is away, and go in time."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from proxy import app
from proxy.app import asking
from proxy.app.machine import DAY_MS, SystemClock
from proxy.app.tiers import open_shelves, open_tiers, purge, retention, shipping_to, state_path
from proxy.config import Config
from proxy.errors import ConfigError, HandrailError
from proxy.terms import Kept, Selection, Session, Table
from tests.app.running import ask, get, options, status_of, until
from tests.contracts.tiers import warm, write
from tests.postgres_servers import PASSWORD, PostgresServer, shared_server
from tests.stores.samples import AT_MS, exchange, handoff, held


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[PostgresServer]:
    """Give a server whose tables are empty."""
    async with warm(tmp_path):
        yield await asyncio.to_thread(shared_server)


def with_warm(folder: Path, url: str, more: str = "") -> app.Options:
    """Configure the warm tier."""
    (folder / "pg.password").write_text(PASSWORD + "\n")
    return options(folder, f"tiers: {{warm: {{postgres: {{url: '{url}', password_file: pg.password}}{more}}}}}\n")


async def ids(server: PostgresServer) -> list[str]:
    return [row[0] for row in await server.run("SELECT id FROM handrail.exchanges ORDER BY at_ms")]


async def test_calls_reach_the_warm_tier(folder: Path, server: PostgresServer) -> None:
    """What is recorded here can be asked for there, while Handrail runs; and /status says that nothing waits."""
    settings = await asyncio.to_thread(with_warm, folder, server.url)
    async with app.running(settings) as here:
        await ask(here)

        async def arrived() -> bool:
            return 1 == len(await ids(server)) and here.shippers[0].standing.pending == 0

        assert await until(arrived)

        assert {"pending": 0, "oldest_ms": 0, "error": "", "since_ms": 0} == (await status_of(here))["tiers"]["warm"]
        metrics = (await get(f"http://{here.health_listen}/metrics"))[1]

    assert 'handrail_tier_rows_pending{tier="warm"} 0' in metrics


async def test_what_came_last_is_shipped_at_the_end(folder: Path, server: PostgresServer) -> None:
    """The calls that end with Handrail are in the warm tier when it has ended: the disk of a pod may go with it."""
    settings = await asyncio.to_thread(with_warm, folder, server.url)
    async with app.running(settings) as here:
        await ask(here)
        await ask(here)

    assert 2 == len(await ids(server))


async def test_while_the_warm_tier_is_away_calls_go_on(folder: Path, server: PostgresServer) -> None:
    """Nothing of a call or of readiness depends on it; what waited is shipped when it is there again."""
    settings = await asyncio.to_thread(with_warm, folder, "postgresql://127.0.0.1:9/x")
    async with app.running(settings) as here:
        await ask(here)

        async def waits() -> bool:
            page = (await status_of(here))["tiers"]["warm"]
            return page["pending"] > 0 and "Connection refused" in page["error"]

        assert await until(waits)
        assert 200 == (await get(f"http://{here.health_listen}/readyz"))[0]
    text = await asyncio.to_thread((folder / "handrail.yaml").read_text)
    await asyncio.to_thread(
        (folder / "handrail.yaml").write_text, text.replace("postgresql://127.0.0.1:9/x", server.url)
    )
    async with app.running(settings):
        pass

    assert 1 == len(await ids(server))


async def test_the_password_can_come_from_the_environment(folder: Path, server: PostgresServer) -> None:
    """A password in the environment opens the database; a variable that is not there is told."""
    settings = options(folder, f"tiers: {{warm: {{postgres: {{url: '{server.url}', password_env: PG_PASSWORD}}}}}}\n")
    with pytest.raises(ConfigError, match="the environment has no PG_PASSWORD"):
        async with app.running(settings):
            pass
    async with app.running(msgspec.structs.replace(settings, environment={"PG_PASSWORD": PASSWORD})) as here:
        await ask(here)

    assert 1 == len(await ids(server))


async def test_the_warm_tier_keeps_as_long_as_it_says(folder: Path, server: PostgresServer) -> None:
    """What is older goes from there, with a dry run nothing; what it does not say is kept for ever."""
    settings = await asyncio.to_thread(with_warm, folder, server.url, ", keep_days: 2")
    async with app.running(settings) as here:
        await ask(here)
        now = here.house.clock.wall_ms()
    loaded = await asyncio.to_thread(app.read_config, settings)

    async def deleted(after_days: int, *, dry_run: bool) -> int:
        async with open_tiers(loaded, {}) as tiers:
            done = [one async for one in purge(tiers, loaded.config, now + after_days * DAY_MS, dry_run=dry_run)]
            return sum(
                count
                for tier, table, _, count in done
                if (tier, table) == ("warm", Table.EXCHANGES) and isinstance(count, int)
            )

    assert [0, 1, 1, 0] == [
        await deleted(1, dry_run=False),
        await deleted(3, dry_run=True),
        await deleted(3, dry_run=False),
        await deleted(3, dry_run=False),
    ]


async def test_a_tier_that_is_away_is_told_and_passed_over(folder: Path) -> None:
    """Of a tier that cannot be asked, the reason comes in the place of a count; the others are asked all the same."""
    nowhere = "postgresql://127.0.0.1:9/x"
    settings = await asyncio.to_thread(with_warm, folder, nowhere, ", keep_days: 1")
    async with app.running(settings):
        pass
    loaded = await asyncio.to_thread(app.read_config, settings)
    async with open_tiers(loaded, {}) as tiers:
        done = [(tier, what) async for tier, _, _, what in purge(tiers, loaded.config, 0, dry_run=True)]

    assert [("local", False), *[("warm", True)] * len(Table)] == [
        (tier, isinstance(what, HandrailError)) for tier, what in done
    ]


def with_cold(folder: Path, fields: str) -> app.Options:
    """Configure the cold tier."""
    return options(folder, f"tiers: {{cold: {{{fields}}}}}\n")


def objects(folder: Path) -> list[str]:
    return sorted(path.parts[-3] for path in folder.glob("*/date=*/*.parquet"))


async def test_calls_reach_the_cold_tier(folder: Path) -> None:
    """What is recorded here becomes objects while Handrail runs, as often as it is said; else when it has ended."""
    settings = await asyncio.to_thread(with_cold, folder, "url: often, every_s: 1")
    async with app.running(settings) as here:
        await ask(here)
        assert await until(lambda: asyncio.to_thread(lambda: "exchanges" in objects(folder / "often")))
    text = await asyncio.to_thread((folder / "handrail.yaml").read_text)
    await asyncio.to_thread(
        (folder / "handrail.yaml").write_text, text.replace("url: often, every_s: 1", "url: seldom, every_s: 9999")
    )
    async with app.running(settings) as here:
        await ask(here)
        before = await asyncio.to_thread(objects, folder / "seldom")

    assert (False, True) == ("exchanges" in before, "exchanges" in await asyncio.to_thread(objects, folder / "seldom"))


async def test_the_cold_tier_deletes_whole_days(folder: Path) -> None:
    """A day goes when all of it is old enough, with a dry run none."""
    settings = await asyncio.to_thread(with_cold, folder, "url: cold, keep_days: 1")
    async with app.running(settings) as here:
        await ask(here)
        midnight = here.house.clock.wall_ms() // DAY_MS * DAY_MS
    loaded = await asyncio.to_thread(app.read_config, settings)

    async def deleted(now_ms: int, *, dry_run: bool) -> int:
        async with open_tiers(loaded, {}) as tiers:
            done = [one async for one in purge(tiers, loaded.config, now_ms, dry_run=dry_run)]
            return sum(
                n for tier, table, _, n in done if (tier, table) == ("cold", Table.EXCHANGES) and isinstance(n, int)
            )

    assert [0, 1, 1, 0] == [
        await deleted(midnight + 2 * DAY_MS - 1, dry_run=False),
        await deleted(midnight + 2 * DAY_MS, dry_run=True),
        await deleted(midnight + 2 * DAY_MS, dry_run=False),
        await deleted(midnight + 2 * DAY_MS, dry_run=False),
    ]


def test_without_a_cold_tier_its_packages_are_not_loaded() -> None:
    """Half a second and the memory of these packages are paid by those who configured the tier."""
    program = "import sys, proxy.app.tiers, proxy.cli; print([n for n in ('pyarrow', 'obstore') if n in sys.modules])"

    assert (
        "[]"
        == subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()
    )


async def test_records_reach_every_tier_and_are_erased_from_all(folder: Path, server: PostgresServer) -> None:
    """Of a conversation each table that the file has is in PostgreSQL and in the objects too; erased, it is in none."""
    (folder / "pg.password").write_text(PASSWORD + "\n")
    warm = f"warm: {{postgres: {{url: '{server.url}', password_file: pg.password}}}}"
    settings = await asyncio.to_thread(options, folder, f"tiers: {{{warm}, cold: {{url: cold}}}}\n")
    loaded = await asyncio.to_thread(app.read_config, settings)
    call = replace(exchange("ex_1", session="talk-1"), customer="c")
    nouns = call, Kept(exchange_id="ex_1", at_ms=AT_MS, policy_digest="kept"), Session(id="talk-1", turn=1)
    await write(
        Path(state_path(loaded)), (*nouns, replace(held("hd_1"), session_id="talk-1"), handoff("ho_1", "talk-1"))
    )
    async with open_shelves(loaded, {}) as shelves:
        for shipper in await shipping_to(shelves, loaded, SystemClock()):
            await shipper.finish(20)
    which = Selection(customers=frozenset("c"))
    async with open_tiers(loaded, {}) as tiers:
        found = await asking.gather(tiers, which)
        tables = {name: {(row.table, row.id) for row in rows} for name, rows in found.rows.items()}
        gone, away = await asking.erase(tiers, found.which)
        left, _ = await asking.search(tiers, ["talk-1"])

    assert ["local", "warm", "cold"] == [*tables]
    assert tables["local"] == tables["warm"] == tables["cold"]
    assert {*Table} == {table for table, _ in tables["cold"]}
    assert {} == away
    assert [dict.fromkeys(Table, 1)] * 3 == [dict(counts) for counts in gone.values()]
    assert [[0]] * 3 == [[*counts.values()] for counts in left.values()]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        pytest.param("url: 'ftp://x/y'", "tiers.cold.url: 'ftp://x/y' is none: it is a path, ", id="no such store"),
        pytest.param("url: 's3:///x'", "names no bucket", id="no bucket"),
        pytest.param("url: 's3://b', account: a", "tiers.cold.account: s3:// has none; leave it out", id="no account"),
        pytest.param("url: 'gs://b', region: r", "tiers.cold.region: gs:// has none; leave it out", id="no region"),
        pytest.param(
            "url: 'az://c', endpoint: 'http://127.0.0.1:9'", "tiers.cold: 'az://c' cannot be opened", id="needs account"
        ),
    ],
)
async def test_a_place_that_cannot_be_is_told(folder: Path, fields: str, why: str) -> None:
    """A URL or an option that means nothing keeps Handrail from starting, and says why."""
    with pytest.raises(ConfigError, match=re.escape(why)):
        async with app.running(await asyncio.to_thread(with_cold, folder, fields)):
            pass


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param("url: 's3://b/p', endpoint: 'http://127.0.0.1:9', region: eu-1", id="S3"),
        pytest.param("url: 'az://c/p', endpoint: 'http://127.0.0.1:9', account: a", id="Azure"),
    ],
)
async def test_where_a_cloud_is(folder: Path, fields: str) -> None:
    """Options of a cloud are taken; while nobody answers there calls go on."""
    async with app.running(await asyncio.to_thread(with_cold, folder, fields)) as here:
        assert "cold" == here.shippers[0].name


@pytest.mark.parametrize(
    ("config", "local", "shipped"),
    [
        pytest.param("{}", {Table.FACTS: 30}, {}, id="defaults"),
        pytest.param('{"state": {"keep_days": 9}}', dict.fromkeys(Table, 9), {}, id="facts never longer than records"),
        pytest.param(
            '{"tiers": {"warm": {"postgres": {"url": "x"}, "keep_days": 99}}}',
            {Table.FACTS: 30},
            {"warm": dict.fromkeys(Table, 99)},
            id="warm",
        ),
        pytest.param(
            '{"tiers": {"cold": {"url": "x", "keep_days": 99}}}',
            {Table.FACTS: 30},
            {"cold": dict.fromkeys(Table, 99)},
            id="cold",
        ),
    ],
)
def test_each_tier_has_its_own_time(
    config: str, local: dict[Table, float], shipped: dict[str, dict[Table, float]]
) -> None:
    """How long a table is kept is told by tier."""
    assert {"local": local, "warm": {}, "cold": {}, **shipped} == retention(msgspec.json.decode(config, type=Config))
