"""Owns the proof that a key opens, and nothing that only looks like one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ConfigError, Unauthenticated
from proxy.identity.keys import Key, digest_of, expires_ms, load_keys, new_key, valid

TEXT, HASH = new_key(bytes(range(16)))
OTHER, OTHER_HASH = new_key(bytes(16))
AT_MS = expires_ms("2026-06-01T12:00:00Z")
MINE = Key(name="mine", sha256=HASH)


@pytest.mark.parametrize("position", range(3))
def test_a_key_opens_wherever_it_stands(position: int) -> None:
    """Any of the keys opens."""
    keys = [Key(name=f"k{n}", sha256=digest_of(str(n))) for n in range(2)]
    keys.insert(position, MINE)

    assert MINE == valid(TEXT, keys, AT_MS)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="none"),
        pytest.param(OTHER, id="a key of somebody else"),
        pytest.param("sk-proj-abc", id="a provider's key"),
        pytest.param(f"{TEXT[:-1]}0", id="a wrong checksum"),
        pytest.param(TEXT[:-1], id="a key cut short"),
        pytest.param(f"{TEXT}0", id="a key with more"),
        pytest.param(f"{TEXT}\n", id="a key and a line's end"),
        pytest.param(TEXT.upper(), id="another case"),
        pytest.param(HASH, id="the hash itself"),
        pytest.param(f"{TEXT}, Bearer {TEXT}", id="two"),
    ],
)
def test_nothing_else_opens(text: str) -> None:
    """What is not a key that is known is refused, and the refusal quotes nothing."""
    with pytest.raises(Unauthenticated) as refused:
        valid(text, [MINE], AT_MS)

    assert TEXT[3:] not in refused.value.message


@pytest.mark.parametrize(
    ("expires", "opens"),
    [
        pytest.param("", True, id="never"),
        pytest.param("2026-06-01T12:00:01Z", True, id="in a second"),
        pytest.param("2026-06-01T12:00:00Z", False, id="now"),
        pytest.param("2026-06-01", False, id="at the start of today"),
        pytest.param("2026-06-02", True, id="at the start of tomorrow"),
        pytest.param("2026-06-01T13:00:00+02:00", False, id="an hour ago, elsewhere"),
    ],
)
def test_keys_expire(expires: str, opens: bool) -> None:
    """A key opens until the moment it expires; a date is its first moment in UTC."""
    key = Key(name="mine", sha256=HASH, expires=expires)
    try:
        opened = valid(TEXT, [key], AT_MS) == key
    except Unauthenticated:
        opened = False

    assert opens == opened


@given(st.binary(min_size=16, max_size=16))
def test_every_new_key_opens_with_its_hash_alone(random_bytes: bytes) -> None:
    """What `new_key` makes is accepted, and what is kept of it is only the hash."""
    text, sha256 = new_key(random_bytes)

    key = Key(name="k", sha256=sha256)
    assert key == valid(text, [key], AT_MS)
    assert random_bytes.hex() not in sha256


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_a_key_is_made_of_128_random_bits(size: int) -> None:
    """Fewer would be guessable, and a longer key would be another format."""
    with pytest.raises(ValueError, match="16 random bytes"):
        new_key(bytes(size))


def test_a_key_file_is_read() -> None:
    """YAML and JSON lists are key files; a hash of digits alone stays text."""
    digits = "1" * 64
    yaml_text = f"""
- {{name: a, sha256: {digits}}}
- name: b
  sha256: {HASH}
  expires: 2027-01-31
  agent: web
  models: [small]
  endpoints: [models.list]
  claims: {{tier: gold}}
"""

    keys = load_keys(yaml_text, "keys.yaml")

    more = {"agent": "web", "models": ("small",), "endpoints": ("models.list",), "claims": {"tier": "gold"}}
    both = ({"name": "a", "sha256": digits}, {"name": "b", "sha256": HASH, "expires": "2027-01-31", **more})
    assert msgspec.convert(both, tuple[Key, ...]) == keys
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
