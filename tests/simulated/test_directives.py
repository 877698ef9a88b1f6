"""Owns the proof that directives are read whole or refused."""

from __future__ import annotations

import pytest

from proxy.simulated.directives import Directives, ToolDirective, asked
from proxy.terms import Json


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        pytest.param(None, None, id="no metadata"),
        pytest.param({"other": "x"}, None, id="other metadata"),
        pytest.param({"simulate": ""}, None, id="empty"),
        pytest.param({"simulate": "{}"}, Directives(), id="nothing asked"),
        pytest.param({"simulate": '{"error":429}'}, Directives(error=429), id="one"),
        pytest.param(
            {"simulate": '{"tools":[{"name":"f","arguments":{"a":1}},{"name":"g","arguments":"{"}]}'},
            Directives(tools=(ToolDirective(name="f", arguments={"a": 1}), ToolDirective(name="g", arguments="{"))),
            id="tools",
        ),
    ],
)
def test_directives_come_in_metadata(metadata: Json, expected: Directives | None) -> None:
    """`metadata.simulate` is a JSON text of directives."""
    assert expected == asked({"metadata": metadata})


@pytest.mark.parametrize("text", ["x", "[]", '{"errr":429}', '{"error":"429"}', '{"tools":[{}]}'])
def test_directives_that_cannot_be_followed_are_refused(text: str) -> None:
    """A typing error is no silent success."""
    with pytest.raises(ValueError, match=r"malformed|Expected|unknown|missing"):
        asked({"metadata": {"simulate": text}})
