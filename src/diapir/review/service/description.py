"""The description of the service as a page that a person reads; it asks nothing from outside."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from diapir.review.service.refusals import page_text


def docs_page(description: Mapping[str, Any]) -> str:
    """A page made of an OpenAPI document: each route with its parameters, bodies and answers."""
    head = f"<p>{escape(str(description['info'].get('description', '')))}</p>\n"
    head += '<p>The same for programs: <a href="/openapi.json">openapi.json</a></p>\n'
    routes = [
        _route(path, method, operation)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    schemas = description.get("components", {}).get("schemas", {})
    shapes = [_schema(name, schema) for name, schema in schemas.items()]
    body = head + "\n".join(routes) + "\n<h2>Shapes of JSON</h2>\n" + "\n".join(shapes)
    title = f"{description['info']['title']} {description['info']['version']}"
    return page_text(title, body)


def _route(path: str, method: str, operation: Mapping[str, Any]) -> str:
    parts = [f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2>"]
    parts += [f"<p>{escape(text)}</p>" for text in (operation.get("summary"), operation.get("description")) if text]
    parameters = [
        (one["name"], one["in"], _type(one.get("schema", {})), one.get("description", ""))
        for one in operation.get("parameters", ())
    ]
    if parameters:
        parts.append(_table(("parameter", "in", "type", "what it is"), parameters))
    if "requestBody" in operation:
        parts.append(f"<p>Body: {_kinds(operation['requestBody'])}</p>")
    answers = [(status, _kinds(one), one.get("description", "")) for status, one in operation["responses"].items()]
    parts.append(_table(("status", "type", "when"), answers))
    return f"<section>{''.join(parts)}</section>"


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    rows = [
        (key, _type(value), "always" if key in schema.get("required", ()) else "may be absent")
        for key, value in schema.get("properties", {}).items()
    ]
    text = str(schema.get("description", "")).partition("\n")[0]
    return f"<section><h3>{escape(name)}</h3><p>{escape(text)}</p>{_table(('key', 'type', ''), rows)}</section>"


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    def line(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return f"<table><thead>{line(head, 'th')}</thead><tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>"


def _kinds(holder: Mapping[str, Any]) -> str:
    return ", ".join(holder.get("content", {}))


def _type(schema: Mapping[str, Any]) -> str:
    """A type in a word or a few."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(one) for one in schema["anyOf"] if one.get("type") != "null"))
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    found = str(schema.get("type", "anything"))
    if found == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return " ".join([found, *_bounds(schema)])


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    for key, word in (("exclusiveMinimum", "above"), ("minimum", "from"), ("maximum", "to")):
        if key in schema:
            yield f"{word} {schema[key]:g}"
