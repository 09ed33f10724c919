"""The orchestrator's OpenAPI document: complete, and valid against itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError

from llorch.edge import Endpoint
from llorch.openapi import document
from roles.orchestrator.api.meta import ENDPOINTS
from roles.pool.api import ENDPOINTS as POOL_ENDPOINTS
from roles.worker.api import ENDPOINTS as WORKER_ENDPOINTS

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


@pytest.fixture(name="described", scope="module")
def _described() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(document("llorch orchestrator", ENDPOINTS)))
    return found


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and operation."""
    for path, item in described["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def references(value: object) -> Iterator[str]:
    """Yield every $ref below *value*."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def patterns(value: object) -> Iterator[str]:
    """Yield every pattern below *value*."""
    if isinstance(value, dict):
        if isinstance(value.get("pattern"), str):
            yield value["pattern"]
        for inner in value.values():
            yield from patterns(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from patterns(inner)


def test_every_endpoint_is_described_once(described: dict[str, Any]) -> None:
    served = sorted((endpoint.path.replace("{id:.+}", "{id}"), endpoint.method.lower()) for endpoint in ENDPOINTS)

    assert sorted((path, method) for path, method, _ in operations(described)) == served
    assert {method for _, method, _ in operations(described)} <= METHODS


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    schemas = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}

    assert set(references(described)) <= schemas


def test_every_schema_is_referred_to(described: dict[str, Any]) -> None:
    schemas = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}

    assert schemas - set(references(described)) == set()


def test_every_parameter_of_a_path_is_declared_and_no_other(described: dict[str, Any]) -> None:
    for path, method, operation in operations(described):
        declared = [p["name"] for p in operation["parameters"] if p["in"] == "path"]

        assert declared == re.findall(r"\{(\w+)\}", path), f"{method} {path}"
        assert all(p["required"] for p in operation["parameters"] if p["in"] == "path")


def test_no_operation_declares_a_parameter_twice(described: dict[str, Any]) -> None:
    for path, method, operation in operations(described):
        named = [(p["in"], p["name"].lower()) for p in operation["parameters"]]

        assert len(named) == len(set(named)), f"{method} {path}"


def test_operation_ids_are_unique_and_usable_as_names(described: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(described)]

    assert len(ids) == len(set(ids))
    assert [name for name in ids if not name.isidentifier()] == []


def test_every_operation_tells_of_success_and_of_errors(described: dict[str, Any]) -> None:
    for path, method, operation in operations(described):
        error = operation["responses"]["default"]["content"]["application/json"]["schema"]

        words = "OllamaError" if path == "/" or path.startswith("/api/") else "ErrorReply"
        words = "ApiErrorReply" if path.startswith("/v1/") else words
        words = "MessageErrorReply" if path.startswith("/v1/messages") else words
        assert error == {"$ref": f"#/components/schemas/{words}"}, f"{method} {path}"
        assert any(status.startswith("2") for status in operation["responses"]), f"{method} {path}"
        assert all(response["description"] for response in operation["responses"].values())


def test_refusals_that_every_such_address_has_are_listed(described: dict[str, Any]) -> None:
    for path, method, operation in operations(described):
        statuses = {status for status in operation["responses"] if status.startswith("4")}

        assert {"400", "403"} <= statuses, f"{method} {path}"
        assert ("401" in statuses) is (path != "/health"), f"{method} {path}"
        assert "404" in statuses or "{" not in path, f"{method} {path}"
        assert ({"408", "413"} <= statuses) is ("requestBody" in operation), f"{method} {path}"


def test_refusals_of_a_submission_are_listed(described: dict[str, Any]) -> None:
    responses = described["paths"]["/v2/tasks"]["post"]["responses"]

    assert set(responses) == {*"200 202 400 401 403 404 408 409 413 429 503 507".split(), "default"}
    assert all(responses[status] for status in responses)
    assert responses["429"]["content"] == responses["default"]["content"]


def test_exactly_one_of_prompt_and_messages_and_inputs_is_described(described: dict[str, Any]) -> None:
    fields = described["components"]["schemas"]["SubmitTask"]

    assert fields["oneOf"] == [{"required": [field]} for field in ("prompt", "messages", "input", "rerank")]


def test_only_health_asks_for_no_token(described: dict[str, Any]) -> None:
    open_paths = [path for path, _, operation in operations(described) if "security" not in operation]

    assert open_paths == ["/health"]


def test_every_pattern_matches_whole_values_in_every_dialect(described: dict[str, Any]) -> None:
    found = set(patterns(described))

    assert found
    assert {re.compile(pattern).pattern for pattern in found} == found
    assert [pattern for pattern in found if not pattern.startswith("^")] == []
    assert [pattern for pattern in found if "\\Z" in pattern or "(?P" in pattern] == []


def test_what_answers_with_events_says_so(described: dict[str, Any]) -> None:
    streams = {
        (path, method)
        for path, method, operation in operations(described)
        if "text/event-stream" in operation["responses"].get("200", {}).get("content", {})
    }

    assert streams == {
        ("/v1/chat/completions", "post"),
        ("/v1/completions", "post"),
        ("/v1/messages", "post"),
        ("/v1/responses", "post"),
        ("/v2/tasks", "post"),
        ("/v2/tasks/{id}/events", "get"),
    }


def test_a_submission_is_described_with_its_limits(described: dict[str, Any]) -> None:
    fields = described["components"]["schemas"]["SubmitTask"]

    assert fields["required"] == ["model"]
    assert fields["additionalProperties"] is False
    assert fields["properties"]["temperature"] == {
        "type": "number",
        "minimum": 0,
        "maximum": 2,
        "description": "0 always takes the likeliest token",
        "default": 0.7,
    }
    assert fields["properties"]["seed"]["maximum"] == 2**64 - 1
    assert fields["properties"]["stop"]["maxItems"] == 4


@pytest.mark.parametrize(
    "endpoints", [ENDPOINTS, POOL_ENDPOINTS, WORKER_ENDPOINTS], ids=["orchestrator", "pool", "worker"]
)
def test_every_roles_document_is_valid_by_the_standards_own_schema(endpoints: Sequence[Endpoint]) -> None:
    validate(json.loads(msgspec.json.encode(document("a role", endpoints))))


def test_a_document_that_is_not_valid_is_found_out(described: dict[str, Any]) -> None:
    with pytest.raises(OpenAPIValidationError):
        validate(described | {"paths": {"/x": {"get": {"responses": "none"}}}})
