"""Owns the proof of proxy/cli/price.py: what a model costs, and that unknown is not free."""

import pytest

from proxy import accounting
from proxy.cli import main


def test_a_known_price_is_told_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    """Input and output are priced for the tokens asked about, and the table is named."""
    status = main(["price", "gpt-4o", "--input", "1000000", "--output", "0"])

    said = capsys.readouterr().out
    assert (0, True) == (status, "$2.50" in said)
    assert accounting.price_table().digest[:19] in said


def test_an_unknown_price_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """A model that nobody knows exits 1 and says where to set its price."""
    assert 1 == main(["price", "nobody-knows"])
    assert "prices:" in capsys.readouterr().out


def test_a_missing_rate_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    """An embedding model has no output price: it is said to be unknown, not zero."""
    assert 0 == main(["price", "text-embedding-3-small"])
    assert "unknown" in capsys.readouterr().out
