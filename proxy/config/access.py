"""Owns the step from `auth` as written to the proofs that callers are held against."""

from __future__ import annotations

import pwd
from collections.abc import Callable, Sequence
from typing import Protocol

from proxy import identity
from proxy.config.reading import Loaded
from proxy.config.settings import AuthSection, JwtSection, PeerSection
from proxy.documents import Problems
from proxy.errors import ConfigError
from proxy.server import routes

ENDPOINTS = tuple(endpoint.name for endpoint in routes.ENDPOINTS)


class KeySets(Protocol):
    """The key sets of issuers that are fetched while Handrail serves."""

    def find(self, url: str) -> identity.KeySet | None:
        """Return the newest set from there; None where there is none."""

    def ask(self, url: str) -> None:
        """Say that the set from there may be old: a key is missing in it."""


class _NoneFetched:
    def find(self, url: str) -> identity.KeySet | None:
        return None

    def ask(self, url: str) -> None:
        pass


NONE_FETCHED = _NoneFetched()


def access_of(loaded: Loaded, read: Callable[..., str], key_sets: KeySets, problems: Problems) -> identity.Access:
    """Return who may call; `read` gives a file's text by its path and place in the config, and notes what is wrong."""
    return _Access(loaded, read, key_sets, problems).access()


class _Access:
    def __init__(self, loaded: Loaded, read: Callable[..., str], key_sets: KeySets, problems: Problems) -> None:
        self._config = loaded.config
        self._text = loaded.text
        self._file = read
        self._key_sets = key_sets
        self._problems = problems

    def access(self) -> identity.Access:
        """Return it."""
        section, agent = self._config.auth or AuthSection(), self._config.agent
        return identity.Access(
            agent=agent.id,
            level=agent.level,
            tenant=agent.tenant,
            peers=self._peers(section.peers),
            keys=self._keys(section.keys_file),
            tokens=self._tokens(section.jwt) if section.jwt else None,
        )

    def _keys(self, path: str) -> tuple[identity.Key, ...]:
        text = self._file(path, "auth", "keys_file") if path else ""
        try:
            keys = identity.load_keys(text, path) if text.strip() else ()
        except ConfigError as error:
            self._problems.found += error.problems
            return ()
        for key in keys:
            self._check_endpoints(key, f"{path}: {key.name}")
        return keys

    def _peers(self, sections: Sequence[PeerSection]) -> tuple[identity.Peer, ...]:
        peers: list[identity.Peer] = []
        for number, section in enumerate(sections):
            at = self._text.at(("auth", "peers", number))
            self._check_endpoints(section, at)
            uid = section.uid if section.uid is not None else self._uid(section.user, at)
            if any(section.name == peer.name or uid == peer.uid for peer in peers):
                self._problems.add(at, f"the name {section.name}, or its user, is there twice")
            given = {name: getattr(section, name) for name in identity.Grant.__struct_fields__}
            peers.append(identity.Peer(name=section.name, uid=uid, **given))
        return tuple(peers)

    def _uid(self, user: str, at: str) -> int:
        try:
            return pwd.getpwnam(user).pw_uid
        except KeyError:
            self._problems.add(at, f"this machine has no user {user}")
            return -1

    def _tokens(self, section: JwtSection) -> identity.Tokens:
        for subject, grant in section.subjects.items():
            self._check_endpoints(grant, self._text.at(("auth", "jwt", "subjects", subject)))
        for key in ("jwks_ca_file", "jwks_token_file"):
            if path := getattr(section, key):
                self._file(path, "auth", "jwt", key)
        issuer = identity.Issuer(
            issuer=section.issuer,
            audience=section.audience,
            leeway_s=section.leeway_s,
            claims=section.claims,
            subjects=section.subjects,
        )
        held, url = self._key_set(section), section.jwks_url
        if url:
            return identity.Tokens(issuer, lambda: self._key_sets.find(url), lambda: self._key_sets.ask(url))
        return identity.Tokens(issuer, lambda: held, lambda: None)

    def _key_set(self, section: JwtSection) -> identity.KeySet | None:
        """Return the keys in the file that config names, if it names one."""
        path = section.jwks_file
        text = self._file(path, "auth", "jwt", "jwks_file") if path else ""
        try:
            identity.library()
            return identity.KeySet(keys=identity.key_set(text.encode(), section.algorithms)) if text.strip() else None
        except ConfigError as error:
            self._problems.found += error.problems
        except ValueError as error:
            self._problems.add(self._text.at(("auth", "jwt", "jwks_file")), f"{path}: {error}")
        return None

    def _check_endpoints(self, grant: identity.Grant, at: str) -> None:
        for name in grant.endpoints:
            if name not in ENDPOINTS:
                self._problems.add(at, f"there is no endpoint `{name}`", name, ENDPOINTS)
