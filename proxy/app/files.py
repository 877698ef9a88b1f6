"""Owns the secrets and folders of an installation: read where config names them, else made at the first start."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from proxy import config, credentials, delivery, journal, plugins, sealing
from proxy.app.machine import DAY_MS
from proxy.errors import ConfigError
from proxy.terms import Secret

if TYPE_CHECKING:
    from proxy.stores import redis


DAYS_IN_REDIS = 32
"""How long a conversation that replicas share is known after its last call, where `state.keep_days` does not say."""
SEED_BYTES = 32
"""Length of the private key that checkpoints of the audit log are signed with."""
SHORTEST_KEY = 32


def password(
    section: config.RedisSection | config.ConversationsSection | config.PostgresSection,
    folder: Path,
    environment: Mapping[str, str],
) -> Secret:
    """Return the password that goes with an address, empty where none is named."""
    if section.password_env:
        return Secret(environment[section.password_env])
    return Secret((folder / section.password_file).read_text().strip() if section.password_file else "")


def known_customer_key(loaded: config.Loaded) -> bytes:
    """Return what customers are told from each other with; raise ConfigError where no Handrail has made it yet."""
    path = _customer_key_path(loaded)
    if not path.exists():
        raise ConfigError([f"state.customer_key_file: {path} is not there: no customer can be told by name"])
    return customer_key(loaded)


def _customer_key_path(loaded: config.Loaded) -> Path:
    state = loaded.config.state
    return loaded.folder / (state.customer_key_file or Path(state.path).with_name("customer.key"))


def conversation_settings(
    loaded: config.Loaded, hot: config.HotSection, environment: Mapping[str, str]
) -> redis.ConversationSettings:
    """Return where conversations are that hosts share. Nothing of Redis is loaded before it is asked for."""
    module = plugins.load("stores", "redis")
    settings: redis.ConversationSettings = module.ConversationSettings(
        url=hot.redis.url,
        password=password(hot.redis, loaded.folder, environment),
        name=hot.redis.name,
        replica=secrets.token_hex(8),
        timeout_ms=hot.redis.timeout_ms,
        keep_ms=int((loaded.config.state.keep_days or DAYS_IN_REDIS) * DAY_MS),
    )
    return settings


def customer_key(loaded: config.Loaded) -> bytes:
    """Return what customers are told from each other with: Handrails that share the file know them as the same."""
    path = _customer_key_path(loaded)
    key = secret_file(path, "state.customer_key_file")
    if len(key) < SHORTEST_KEY:
        raise ConfigError([f"state.customer_key_file: {path} is too short to be a key: {SHORTEST_KEY} characters"])
    return key.encode()


def content_seal(loaded: config.Loaded) -> sealing.Seal:
    """Return what content is sealed with, if anything; raise ConfigError for keys that are none.

    A key is never made here: in the place of one whose file was not mounted yet there would be one that nobody keeps.
    """
    named = loaded.config.state.content_key_file
    if not named:
        return sealing.PLAIN
    path = loaded.folder / named
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", "it is not text")
        raise ConfigError(
            [f"state.content_key_file: {path} cannot be read: {why}; `openssl rand -hex 32` makes a key"]
        ) from None
    return sealing.Seal(sealing.keys(text, f"state.content_key_file: {path}"), partial(os.urandom, sealing.NONCE_BYTES))


def audit_folder(loaded: config.Loaded) -> Path:
    """Return where the audit log is, if one is kept."""
    named = loaded.config.audit.path if loaded.config.audit else ""
    return loaded.folder / (named or Path(loaded.config.state.path).parent / "audit")


def log_settings(loaded: config.Loaded, section: config.AuditSection) -> journal.LogSettings:
    """Return where the audit log is and what signs it; raise ConfigError for a key that is none."""
    folder = loaded.folder
    path = folder / (section.key_file or Path(loaded.config.state.path).parent / "audit.key")
    try:
        seed = bytes.fromhex(secret_file(path, "audit.key_file"))
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise ConfigError([f"audit.key_file: {path} is no private key: it has {SEED_BYTES} bytes in hexadecimal"])
    return journal.LogSettings(
        folder=audit_folder(loaded),
        seed=seed,
        anchor=folder / section.anchor.path if section.anchor.path else None,
    )


def key_source(loaded: config.Loaded) -> credentials.Source | None:
    """Return where the keys of the tokens' issuer are fetched from, if they are."""
    section = loaded.config.auth.jwt if loaded.config.auth else None
    if section is None or not section.jwks_url:
        return None
    return credentials.Source(
        url=section.jwks_url,
        algorithms=section.algorithms,
        ca_file=loaded.folder / section.jwks_ca_file if section.jwks_ca_file else None,
        token_file=loaded.folder / section.jwks_token_file if section.jwks_token_file else None,
        refresh_s=section.jwks_refresh_s,
        max_age_s=section.jwks_max_age_s,
    )


def delivery_settings(loaded: config.Loaded) -> delivery.DeliverySettings | None:
    """Return where packets for humans go, if anywhere; raise ConfigError for a secret that nobody could check."""
    section = loaded.config.handoff
    if section is None:
        return None
    secret = Secret((loaded.folder / section.secret_file).read_text().strip())
    return delivery.DeliverySettings(url=section.url, secret=secret, timeout_s=section.timeout_s)


def admin_token(settings: config.Config, folder: Path, state: Path) -> Path:
    """Return the token's file; the default one is made at the first start, readable by its owner alone."""
    if settings.admin_token_file:
        return folder / settings.admin_token_file
    path = state / "admin.token"
    secret_file(path, "admin_token_file")
    return path


def secret_file(path: Path, key: str) -> str:
    """Return a secret of this installation, made at the first start, readable by its owner alone."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        if not path.exists():
            with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(secrets.token_hex(32) + "\n")
            # Whole or not at all, also where two processes start at once: the first one's stays.
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(draft)
            draft.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError([f"{key}: {path} cannot be made: {error.strerror}"]) from error
