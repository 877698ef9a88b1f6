"""Owns the proof of proxy/stores/postgres/address.py: what an address says, and whom it trusts."""

from __future__ import annotations

import ssl

import pytest

from proxy.stores.postgres.address import arguments


@pytest.mark.parametrize(
    ("url", "user", "host", "port", "database"),
    [
        pytest.param("postgresql://hand@127.0.0.1:5433/rail", "hand", "127.0.0.1", 5433, "rail", id="whole"),
        pytest.param("postgresql://localhost", "postgres", "localhost", 5432, "postgres", id="defaults"),
        pytest.param("postgresql://a%40b@[::1]/d%2Fe", "a@b", "::1", 5432, "d/e", id="escaped"),
        pytest.param("postgresql:///d?host=/run/pg", "postgres", "/run/pg", 5432, "d", id="socket"),
        pytest.param("postgresql://u@localhost", "u", "localhost", 5432, "u", id="database like its user"),
    ],
)
def test_an_address_is_read(url: str, user: str, host: str, port: int, database: str) -> None:
    """Every part is told, and what is missing has PostgreSQL's own default; on this machine nothing is encrypted."""
    assert {"user": user, "host": host, "port": port, "database": database, "ssl": False} == arguments(url)


@pytest.mark.parametrize(
    ("url", "verifies"),
    [
        pytest.param("postgresql://db.example.com", True, id="elsewhere"),
        pytest.param("postgresql://192.0.2.7", True, id="elsewhere, by number"),
        pytest.param("postgresql://localhost?sslmode=verify-full", True, id="here, asked for"),
        pytest.param("postgresql://db.example.com?sslmode=require", False, id="encrypted only"),
    ],
)
def test_another_machine_has_to_prove_who_it_is(url: str, verifies: bool) -> None:
    """A password and records go to another machine only encrypted, and to the one that is meant."""
    context = arguments(url)["ssl"]

    assert (verifies, verifies) == (context.check_hostname, context.verify_mode is ssl.CERT_REQUIRED)


def test_encryption_can_be_left_out_where_it_is_said() -> None:
    """A network that encrypts by itself may be trusted by name."""
    assert arguments("postgresql://db.example.com?sslmode=disable")["ssl"] is False
