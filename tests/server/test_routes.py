"""Owns the proof that one table says what is served, and that it says all of it."""

from __future__ import annotations

import pytest

from proxy.server import routes


@pytest.mark.parametrize(
    ("path", "names"),
    [
        pytest.param("/v1/chat/completions", ["chat.completions"], id="chat"),
        pytest.param("/v1/responses", ["responses"], id="responses"),
        pytest.param("/v1/responses/resp_1", [], id="one response"),
        pytest.param("/v1/models", ["models.list"], id="models"),
        pytest.param("/v1/models/gpt-5", ["models.retrieve"], id="one model"),
        pytest.param("/v1/models/vendor/gpt:free", ["models.retrieve"], id="a model with a vendor"),
        pytest.param("/v1/models/", [], id="a model without a name"),
        pytest.param("/v1/modelsx", [], id="a longer word"),
        pytest.param("/v1/chat", [], id="half a path"),
        pytest.param("/v1/chat/completions/x", [], id="more than a path"),
        pytest.param("/v1/embeddings", [], id="not served"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_only_what_is_in_the_table_is_found(path: str, names: list[str]) -> None:
    """A path that is not in the table leads nowhere."""
    assert names == [endpoint.name for endpoint in routes.find(path).values()]


def test_no_route_is_named_twice() -> None:
    """An endpoint has one name, and a method and path lead to one endpoint."""
    keys = [(endpoint.method, endpoint.path) for endpoint in routes.ENDPOINTS]

    assert len(set(keys)) == len(keys) == len({endpoint.name for endpoint in routes.ENDPOINTS})


def test_coverage_has_a_row_per_endpoint_and_kind_of_reply() -> None:
    """The coverage matrix is made from the table, so it cannot forget an endpoint."""
    rows = {(row["endpoint"], row["stream"]) for row in routes.coverage()}

    assert rows == {(endpoint.name, stream) for endpoint in routes.ENDPOINTS for stream in endpoint.streams}


def test_coverage_claims_inspection_where_there_is_some() -> None:
    """What is said to be inspected is what guards and policy see, in both kinds of reply and both directions."""
    inspected = [row for row in routes.coverage() if "inspected" in row.values()]

    assert [(name, stream) for name in ("chat.completions", "responses") for stream in (False, True)] == [
        (r["endpoint"], r["stream"]) for r in inspected
    ]
    assert {("inspected", "inspected", "inspected")} == {
        (row["request"], row["reply"], row["tool_arguments"]) for row in inspected
    }
