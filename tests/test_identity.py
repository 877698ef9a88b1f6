"""Owns the proof that a caller is who a key says, and that nothing else says it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ConfigError, Unauthenticated
from proxy.identity import Access, Key, digest_of, expires_ms, identify, load_keys, new_key
from proxy.terms import Level, RawRequest

TEXT, HASH = new_key(bytes(range(16)))
OTHER, OTHER_HASH = new_key(bytes(16))
AT_MS = expires_ms("2026-06-01T12:00:00Z")
OPEN = Access(agent="support", level=Level.EXECUTE)


def keyed(*keys: Key) -> Access:
    """Build the access of an agent with keys."""
    return Access(agent="support", level=Level.EXECUTE, keys=keys)


def raw(**headers: str) -> RawRequest:
    """Build a request with headers; `_` stands for `-`."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return RawRequest(method="POST", path="/v1/chat/completions", headers=names, body=b"", peer="127.0.0.1")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no key"),
        pytest.param({"authorization": "Bearer sk-placeholder"}, id="a placeholder"),
        pytest.param({"authorization": "nonsense"}, id="nonsense"),
        pytest.param({"x_agent_id": "root", "x_handrail_agent": "root"}, id="a claim"),
    ],
)
def test_without_keys_everybody_is_the_agent(headers: dict[str, str]) -> None:
    """Where no keys are configured, whoever reaches the listener is the local caller, whatever is sent."""
    caller = identify(raw(**headers), OPEN, AT_MS)

    assert ("support", Level.EXECUTE, "local") == (caller.agent, caller.level, caller.principal)


@pytest.mark.parametrize("position", range(3))
def test_a_key_opens_wherever_it_stands(position: int) -> None:
    """Any of the keys opens, and its name is the principal."""
    keys = [Key(name=f"k{n}", sha256=digest_of(str(n))) for n in range(2)]
    keys.insert(position, Key(name="mine", sha256=HASH))

    assert "key:mine" == identify(raw(authorization=f"Bearer {TEXT}"), keyed(*keys), AT_MS).principal


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("Bearer", id="no key"),
        pytest.param("Bearer ", id="blank key"),
        pytest.param(f"Basic {TEXT}", id="another scheme"),
        pytest.param(TEXT, id="no scheme"),
        pytest.param(f"Bearer {OTHER}", id="a key of somebody else"),
        pytest.param("Bearer sk-proj-abc", id="a provider's key"),
        pytest.param(f"Bearer {TEXT[:-1]}0", id="a wrong checksum"),
        pytest.param(f"Bearer {TEXT[:-1]}", id="a key cut short"),
        pytest.param(f"Bearer {TEXT}0", id="a key with more"),
        pytest.param(f"Bearer {TEXT.upper()}", id="another case"),
        pytest.param(f"Bearer {HASH}", id="the hash itself"),
        pytest.param(f"Bearer {TEXT}, Bearer {TEXT}", id="two"),
    ],
)
def test_with_keys_nothing_else_opens(authorization: str | None) -> None:
    """Where there are keys, a request without a valid one is refused, and the refusal quotes nothing."""
    headers = {} if authorization is None else {"authorization": authorization}

    with pytest.raises(Unauthenticated) as refused:
        identify(raw(**headers), keyed(Key(name="mine", sha256=HASH)), AT_MS)

    assert TEXT[3:] not in refused.value.message


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_has_no_case(scheme: str) -> None:
    """RFC 9110: the name of an authentication scheme is case-insensitive."""
    access = keyed(Key(name="mine", sha256=HASH))

    assert "key:mine" == identify(raw(authorization=f"{scheme} {TEXT}"), access, AT_MS).principal


@pytest.mark.parametrize(
    ("expires", "valid"),
    [
        pytest.param("", True, id="never"),
        pytest.param("2026-06-01T12:00:01Z", True, id="in a second"),
        pytest.param("2026-06-01T12:00:00Z", False, id="now"),
        pytest.param("2026-06-01", False, id="at the start of today"),
        pytest.param("2026-06-02", True, id="at the start of tomorrow"),
        pytest.param("2026-06-01T13:00:00+02:00", False, id="an hour ago, elsewhere"),
    ],
)
def test_keys_expire(expires: str, valid: bool) -> None:
    """A key opens until the moment it expires; a date is its first moment in UTC."""
    access = keyed(Key(name="mine", sha256=HASH, expires=expires))
    try:
        opened = identify(raw(authorization=f"Bearer {TEXT}"), access, AT_MS).principal == "key:mine"
    except Unauthenticated:
        opened = False

    assert valid == opened


@given(st.binary(min_size=16, max_size=16))
def test_every_new_key_opens_with_its_hash_alone(random_bytes: bytes) -> None:
    """What `new_key` makes is accepted, and what is kept of it is only the hash."""
    text, sha256 = new_key(random_bytes)

    access = keyed(Key(name="k", sha256=sha256))
    assert "key:k" == identify(raw(authorization=f"Bearer {text}"), access, AT_MS).principal
    assert random_bytes.hex() not in sha256


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_a_key_is_made_of_128_random_bits(size: int) -> None:
    """Fewer would be guessable, and a longer key would be another format."""
    with pytest.raises(ValueError, match="16 random bytes"):
        new_key(bytes(size))


def test_a_key_file_is_read() -> None:
    """YAML and JSON lists are key files; a hash of digits alone stays text."""
    digits = "1" * 64
    yaml_text = f"- {{name: a, sha256: {digits}}}\n- name: b\n  sha256: {HASH}\n  expires: 2027-01-31\n"

    keys = load_keys(yaml_text, "keys.yaml")

    assert (Key(name="a", sha256=digits), Key(name="b", sha256=HASH, expires="2027-01-31")) == keys
    assert keys[:1] == load_keys(f'[{{"name": "a", "sha256": "{digits}"}}]', "keys.json")


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        pytest.param("", ["keys.yaml: a key file is a list"], id="empty"),
        pytest.param("[]", ["keys.yaml: a key file is a list"], id="no keys"),
        pytest.param("name: a", ["keys.yaml: a key file is a list"], id="no list"),
        pytest.param("- [", ["keys.yaml:1:4: this is not YAML"], id="no YAML"),
        pytest.param("a\0", ["keys.yaml: this is not YAML"], id="no text"),
        pytest.param("- a", ["keys.yaml: key 0: Expected `object`"], id="no map"),
        pytest.param(f"- {{sha256: {HASH}}}", ["keys.yaml: key 0: Object missing required field `name`"], id="no name"),
        pytest.param(
            f"- {{name: a b, sha256: {HASH}}}", ["keys.yaml: key 0: Expected `str` matching"], id="a bad name"
        ),
        pytest.param(
            f"- {{name: a, sha256: {TEXT}}}", ["keys.yaml: key 0: Expected `str` matching"], id="a key in clear"
        ),
        pytest.param(
            f"- {{name: a, sha256: {HASH}, expires: soon}}",
            ["keys.yaml: key 0: expires is no ISO 8601 date"],
            id="a bad date",
        ),
        pytest.param(
            f"- {{name: a, sha256: {HASH}, key: x}}",
            ["keys.yaml: key 0: Object contains unknown field"],
            id="a new field",
        ),
        pytest.param(
            f"- {{name: a, sha256: {HASH}}}\n- {{name: a, sha256: {OTHER_HASH}}}\n- 1",
            ["keys.yaml: key 2: Expected `object`", "keys.yaml: the name a is used twice"],
            id="everything at once",
        ),
    ],
)
def test_a_bad_key_file_says_all_that_is_wrong(text: str, problems: list[str]) -> None:
    """Every problem is named with its place, and no value is quoted, which may be a key."""
    with pytest.raises(ConfigError) as refused:
        load_keys(text, "keys.yaml")

    assert problems == [found[: len(start)] for found, start in zip(refused.value.problems, problems, strict=True)]
    assert TEXT not in str(refused.value)


def test_a_key_says_what_rules_may_know_of_its_holder() -> None:
    """Claims come from the key file, never from the request."""
    text, digest = new_key(bytes(16))
    access = Access(agent="a", level=Level.EXECUTE, keys=(Key(name="k", sha256=digest, claims={"tier": "gold"}),))
    raw = RawRequest(
        method="POST", path="/", headers={"authorization": f"Bearer {text}", "tier": "x"}, body=b"", peer=""
    )

    assert {"tier": "gold"} == identify(raw, access, 0).claims
