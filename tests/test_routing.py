"""Owns the proof of proxy/routing.py: where a call goes, and why."""

import pytest

from proxy.errors import NotFound
from proxy.routing import (
    KEPT_TIMES,
    RETRIES_AT_ONCE,
    RETRIES_PER_CALL,
    RETRIES_PER_S,
    Health,
    Retries,
    Table,
    choose,
    needs,
)
from proxy.terms import Message, Quote, Request, Route, Target, ToolSpec, Way


def target(alias: str, *tags: str, context: int = 0) -> Target:
    """Make a target that is called as its alias."""
    return Target(alias=alias, provider="p", model=alias, tags=tags, context=context)


LARGE = target("large", "tools", "vision")
SMALL = target("small", "tools", "cheap")
TINY = target("tiny", "cheap", context=100)
NEW = target("new", "tools", "cheap")
TABLE = Table(
    targets={t.alias: t for t in (LARGE, SMALL, TINY, NEW)},
    pools={"pool": ("small", "large")},
    default_model="large",
    default_provider="p",
)
PRICES: dict[str, int | None] = {"large": 900, "small": 90, "tiny": 9, "new": None}


def quote(place: Target) -> Quote:
    """Quote from the table above; `new` has no price."""
    return Quote(target=place, est_nanousd=PRICES.get(place.alias), max_nanousd=None)


def request(model: str = "large", **fields: object) -> Request:
    """Make a request for a model."""
    return Request(dialect="chat", model=model, messages=(), body={}, raw=b"", **fields)  # type: ignore[arg-type]  # by name


def check_choice(way: Way | None, asked: Request, *, sick: str = "", tokens: int = 10, table: Table = TABLE) -> Route:
    """Choose with one sick target."""
    return choose(table, asked, way, quote=quote, healthy=lambda alias: alias not in sick.split(), input_tokens=tokens)


@pytest.mark.parametrize(
    ("model", "aliases"),
    [
        pytest.param("large", ["large"], id="alias"),
        pytest.param("pool", ["small", "large"], id="pool"),
        pytest.param("gpt-x", ["gpt-x"], id="unlisted passes under its own name"),
    ],
)
def test_without_a_rule_the_call_goes_where_it_asks(model: str, aliases: list[str]) -> None:
    """An alias, a pool or an unlisted model is followed as asked."""
    route = check_choice(None, request(model))

    assert (aliases, "asked") == ([t.alias for t in route.targets], route.reason)


def test_unlisted_models_can_mean_the_default() -> None:
    """`unlisted_models: default` sends what nobody configured to the default model."""
    table = Table(targets=TABLE.targets, default_model="large", unlisted="default")

    assert (LARGE,) == check_choice(None, request("gpt-x"), table=table).targets


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(Table(targets={}, unlisted="deny", default_provider="p"), id="denied"),
        pytest.param(Table(targets={}, unlisted="default"), id="no default"),
        pytest.param(Table(targets={}), id="no provider to pass it to"),
    ],
)
def test_a_model_that_may_not_be_asked_for_is_not_found(table: Table) -> None:
    """What is not listed and may not pass is a 404 with OpenAI's code."""
    with pytest.raises(NotFound) as caught:
        check_choice(None, request("gpt-x"), table=table)

    assert ("model_not_found", "model") == (caught.value.code, caught.value.param)


def test_cheapest_is_the_cheapest_that_is_capable_and_priced() -> None:
    """Of the targets with the tag, one that cannot do tools and one without a price are never chosen."""
    route = check_choice(Way(cheapest=True, tags=("cheap",), rule="p/r@1"), request(tools=(ToolSpec(name="t"),)))

    assert Route(targets=(SMALL,), reason="policy p/r@1: cheapest of cheap", asked="large", saved_nanousd=810) == route


def test_cheapest_can_be_kept_to_a_pool() -> None:
    """`cheapest` with a pool looks at that pool alone, and says so without tags."""
    route = check_choice(Way(to="pool", cheapest=True), request())

    assert ((SMALL, LARGE), "policy: cheapest") == (route.targets, route.reason)


def test_a_context_that_is_too_small_is_not_capable() -> None:
    """A request that does not fit the context window passes the target by."""
    assert (TINY, SMALL) == check_choice(Way(cheapest=True, tags=("cheap",)), request(), tokens=100).targets
    assert (SMALL,) == check_choice(Way(cheapest=True, tags=("cheap",)), request(), tokens=101).targets


def test_fallbacks_follow_once_each_if_capable() -> None:
    """Fallback aliases and pools are appended in order, without doubles and without the incapable."""
    way = Way(to="small", fallback=("pool", "tiny"))

    route = check_choice(way, request(tools=(ToolSpec(name="t"),)))

    assert ((SMALL, LARGE), "policy: small") == (route.targets, route.reason)


def test_a_rule_that_nobody_can_follow_leaves_the_call_as_asked() -> None:
    """When no wished target can do the call it goes where it asked, and the reason says so."""
    route = check_choice(Way(to="tiny"), request(structured=True))

    assert ((LARGE,), "policy: tiny; none can do this call, so as asked") == (route.targets, route.reason)


def test_sick_targets_are_passed_by() -> None:
    """A sick first target is skipped and named."""
    route = check_choice(None, request("pool"), sick="small")

    assert ((LARGE,), "asked; small is unhealthy") == (route.targets, route.reason)


def test_a_sick_fallback_is_not_worth_a_word() -> None:
    """The reason speaks of the first target only."""
    assert "asked" == check_choice(None, request("pool"), sick="large").reason


def test_all_sick_is_still_tried() -> None:
    """When all rest, trying one is the only way to learn that it is back."""
    route = check_choice(None, request("pool"), sick="small large")

    assert ((SMALL, LARGE), "asked; all unhealthy") == (route.targets, route.reason)


def test_an_empty_pool_is_not_a_place() -> None:
    """A pool without models leaves nowhere to go: its name is as good as unlisted."""
    with pytest.raises(NotFound):
        check_choice(None, request("empty"), table=Table(targets={}, pools={"empty": ()}))


def test_an_unpriced_target_saves_nothing_that_could_be_told() -> None:
    """Without both prices there is no figure, so none is claimed."""
    assert 0 == check_choice(Way(to="new"), request()).saved_nanousd


def test_needs_are_read_from_the_request() -> None:
    """Tools, structured output and media each ask for their tag."""
    media = Message(role="user", media=("image_url", "input_audio", "file"))
    asked = Request(
        dialect="chat", model="m", messages=(media,), tools=(ToolSpec(name="t"),), structured=True, body={}, raw=b""
    )

    assert {"tools", "json", "vision", "audio", "files"} == needs(asked)


def test_the_breaker_opens_after_faults_in_a_row_and_rests() -> None:
    """Faults in a row open it; a success in between starts the count anew; after the rest one fault is enough."""
    health = Health(trips=2, rest_ms=100)
    health.note("a", False, 0)
    health.note("a", True, 1)
    health.note("a", False, 2)
    before = health.healthy("a", 3)
    health.note("a", False, 4)
    resting, rested = health.healthy("a", 103), health.healthy("a", 104)
    health.note("a", False, 105)

    assert (True, False, True, False) == (before, resting, rested, health.healthy("a", 106))


def test_the_median_is_that_of_the_newest_times() -> None:
    """A target that was never timed has no median; old times are forgotten."""
    health = Health()
    for ms in [9000.0] * KEPT_TIMES + [100.0, 300.0, 200.0] * KEPT_TIMES:
        health.timed("a", ms)

    assert (200.0, None) == (health.median_ms("a"), health.median_ms("b"))


def taken(retries: Retries, at_ms: float, provider: str = "p") -> int:
    """Take retries until there are none; return how many there were."""
    return sum(1 for _ in iter(lambda: retries.take(provider, at_ms), False))


def test_retries_that_fail_are_bounded() -> None:
    """So many can be had at once, after that no more than time gives back; each provider has its own."""
    retries = Retries()
    at_once = taken(retries, 0)
    later = taken(retries, 5_000 / RETRIES_PER_S)
    full = taken(retries, 1e9)

    assert (RETRIES_AT_ONCE, 5, RETRIES_AT_ONCE) == (at_once, later, full)
    assert RETRIES_AT_ONCE == taken(retries, 1e9, "q")


def test_attempts_that_go_well_give_retries_back() -> None:
    """A retry that went well has cost nothing; of first attempts it takes some to make up for one retry that failed."""
    retries = Retries()
    taken(retries, 0)
    for _ in range(3):
        retries.went_well("p", retry=True)
    for _ in range(round(2 / RETRIES_PER_CALL)):
        retries.went_well("p", retry=False)

    assert 5 == taken(retries, 0)
