"""Owns the proof that the copied names are those of OpenTelemetry's own package."""

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes import error_attributes, http_attributes
from opentelemetry.semconv.schemas import Schemas

from proxy.telemetry import semconv

COPIED = [name for name in dir(semconv) if name.startswith(("GEN_AI_", "HTTP_", "ERROR_"))]


@pytest.mark.parametrize("name", COPIED)
def test_a_copied_name_is_the_packages(name: str) -> None:
    """Each attribute is called as the installed semantic conventions call it."""
    sources = [module for module in (gen_ai, http_attributes, error_attributes) if hasattr(module, name)]

    assert [getattr(semconv, name)] == [getattr(source, name) for source in sources]


def test_the_operation_is_one_of_the_conventions() -> None:
    """What we call a chat is what the conventions call one."""
    assert gen_ai.GenAiOperationNameValues.CHAT.value == semconv.OPERATION_CHAT


@pytest.mark.parametrize("name", semconv.PROVIDERS.values())
def test_a_providers_name_is_one_of_the_conventions(name: str) -> None:
    """Where a provider is renamed, it is renamed to a name that backends know."""
    assert name in {value.value for value in gen_ai.GenAiProviderNameValues}


def test_the_schema_is_one_the_package_knows() -> None:
    """Spans name the version of the conventions that the copy was taken from."""
    assert semconv.SCHEMA_URL in {schema.value for schema in Schemas}
