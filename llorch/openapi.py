"""The OpenAPI document of a role, from its endpoints and the wire types they name. Pure.

Source of the format: https://spec.openapis.org/oas/v3.1.0. Nothing in it is written twice: paths, methods and types
come from the table that the server itself is built from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from llorch import __version__
from llorch.edge import Endpoint, Parameter

_IN_PATH = re.compile(r"\{(\w+)(?::[^}]*)?\}")
_REF = "#/components/schemas/{name}"

CORRELATION = Parameter(
    "X-Correlation-Id",
    {"type": "string"},
    place="header",
    description="Passed on every hop and found in every log line and error; replaced when it is not 1 to 64 of "
    "letters, digits and hyphens.",
)

EVENT: Mapping[str, object] = {
    "type": "object",
    "description": "One of a stream of Server-Sent Events; comments between them keep the connection alive.",
    "required": ["data"],
    "properties": {
        "event": {"type": "string"},
        "id": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}


def document(title: str, endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Build the document that describes *endpoints*."""
    types = list(dict.fromkeys(kind for endpoint in endpoints for kind in _types(endpoint)))
    by_type, components = _schemas(types)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(_plain(endpoint.path), {})[endpoint.method.lower()] = _operation(endpoint, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _plain(path: str) -> str:
    """Return a path without the patterns that aiohttp takes in it."""
    return _IN_PATH.sub(r"{\1}", path)


def _schemas(types: Sequence[type]) -> tuple[dict[type, Mapping[str, Any]], dict[str, Any]]:
    """Return the schema of each type, and the components that they refer to.

    A type may say more than its fields can: `extra_json_schema` of the type is merged into its component.
    """
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    for kind in types:
        components[kind.__name__] |= getattr(kind, "extra_json_schema", {})
    return dict(zip(types, schemas, strict=True)), components


def _types(endpoint: Endpoint) -> list[type]:
    bodies = [endpoint.body, *endpoint.replies.values(), endpoint.words.body]
    return [kind for kind in bodies if kind is not None]


def _operation(endpoint: Endpoint, schemas: Mapping[type, Mapping[str, Any]]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": _operation_id(endpoint),
        "parameters": [
            *(
                {"name": n, "in": "path", "required": True, "schema": {"type": "string"}}
                for n in _IN_PATH.findall(endpoint.path)
            ),
            *(_parameter(parameter) for parameter in (*endpoint.parameters, CORRELATION)),
        ],
        "responses": _responses(endpoint, schemas),
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[endpoint.body]}},
        }
    if endpoint.form:
        form = {"type": "object", "required": list(endpoint.form), "properties": dict(endpoint.form)}
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": form}}}
    if endpoint.access == "token":
        operation["security"] = [{"token": []}, {}]
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    words = re.sub(r"\W+", "_", endpoint.path).strip("_")
    return f"{endpoint.method.lower()}_{words}"


def _parameter(parameter: Parameter) -> dict[str, Any]:
    shown = {"name": parameter.name, "in": parameter.place, "schema": dict(parameter.schema)}
    return shown | ({"description": parameter.description} if parameter.description else {})


def _responses(endpoint: Endpoint, schemas: Mapping[type, Mapping[str, Any]]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, kind in endpoint.replies.items():
        content: dict[str, Any] = {}
        if kind is not None:
            content[endpoint.media_type] = {"schema": schemas[kind]}
        if endpoint.events and status == HTTPStatus.OK:
            content["text/event-stream"] = {"schema": EVENT}
        if endpoint.lines and kind is not None and status == HTTPStatus.OK:
            content["application/x-ndjson"] = {"schema": schemas[kind]}
        responses[str(status)] = {"description": HTTPStatus(status).phrase, **({"content": content} if content else {})}
    if not endpoint.replies:
        schema = {"type": "object" if endpoint.media_type == "application/json" else "string"}
        responses["200"] = {"description": "OK", "content": {endpoint.media_type: {"schema": schema}}}
    error = {"application/json": {"schema": schemas[endpoint.words.body]}}
    for status in _refusals(endpoint):
        responses.setdefault(str(status), {"description": HTTPStatus(status).phrase, "content": error})
    responses["default"] = {"description": "An error", "content": error}
    return responses


def _refusals(endpoint: Endpoint) -> list[int]:
    """Return the statuses of expected refusals: the endpoint's own, and those that all of its kind have."""
    found = {400, HTTPStatus.FORBIDDEN, *endpoint.refusals}
    if endpoint.access != "open":
        found.add(HTTPStatus.UNAUTHORIZED)
    if _IN_PATH.search(endpoint.path):
        found.add(HTTPStatus.NOT_FOUND)
    if endpoint.body is not None:
        found |= {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
    return sorted(found)
