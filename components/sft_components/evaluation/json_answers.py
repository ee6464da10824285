"""Answers that are JSON: what they hold, and what they should."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry, Resource, Specification
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from sft_components.errors import UserError
from sft_components.evaluation.tasks import unfenced

INVALID = object()
_NAMES = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
}


def parse(text: str) -> Any:
    """The value of strict JSON, or `INVALID`."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return INVALID


def parse_reference(text: str) -> tuple[Any, bool]:
    """The value of a reference, and whether it stands in a Markdown fence, as answers then may."""
    plain = parse(text)
    return (parse(unfenced(text)), True) if plain is INVALID else (plain, False)


class Schema:
    """A JSON Schema that answers are held against."""

    def __init__(self, schema: Any) -> None:
        """
        Raises:
            UserError: It is no JSON Schema, or refers to something that it does not hold.
        """
        if not isinstance(schema, dict | bool):
            raise UserError("json_schema must be a JSON object: a JSON Schema.")
        kind = validator_for(schema)
        try:
            kind.check_schema(schema)
        except SchemaError as error:
            raise UserError(f"json_schema is no JSON Schema: {error.message}.") from None
        _resolve(schema, kind)
        # Its own registry: a reference to another address must not be fetched.
        self._validator = kind(schema, registry=Registry())

    def takes(self, value: Any) -> bool:
        """Whether `value` is valid."""
        try:
            return bool(self._validator.is_valid(value))
        except RecursionError:
            return False


def read_schema(text: str) -> Schema:
    """The schema in a JSON text.

    Raises:
        UserError: The text is no JSON, or no JSON Schema.
    """
    value = parse(text)
    if value is INVALID:
        raise UserError("json_schema is not valid JSON: write a JSON Schema, or leave it empty.")
    return Schema(value)


def infer_schema(values: Sequence[Any]) -> Schema:
    """What all of `values` have in common: their types, and the keys of all objects."""
    schema: dict[str, Any] = {"type": _types(values)}
    objects = [value for value in values if isinstance(value, dict)]
    if objects:
        keys = set.intersection(*(set(value) for value in objects))
        schema["required"] = sorted(keys)
        schema["properties"] = {
            key: {"type": _types([value[key] for value in objects])} for key in sorted(keys)
        }
    return Schema(schema)


def field_f1(given: Any, wanted: Any) -> float:
    """F1 over the fields: each leaf with its path and its value; the order of lists is free."""
    ours, theirs = Counter(_leaves(given)), Counter(_leaves(wanted))
    return 2 * sum((ours & theirs).values()) / (ours.total() + theirs.total())


def same(given: Any, wanted: Any) -> bool:
    """Whether two values are equal as JSON: the order of keys is free, 1 is 1.0, true is not 1."""
    if isinstance(given, dict) and isinstance(wanted, dict):
        return given.keys() == wanted.keys() and all(same(given[k], wanted[k]) for k in given)
    if isinstance(given, list) and isinstance(wanted, list):
        return len(given) == len(wanted) and all(map(same, given, wanted))
    return _NAMES[type(given)] == _NAMES[type(wanted)] and bool(given == wanted)


def _resolve(schema: Any, kind: type[Validator]) -> None:
    """Follow every reference of a schema, as an answer would only those that it leads to.

    Raises:
        UserError: One leads to nothing, or to what is no schema.
    """
    specification = specification_with(
        str(kind.META_SCHEMA.get("$schema", "")), default=Specification.OPAQUE
    )
    root = specification.create_resource(schema)
    seen: set[int] = set()

    def look(resource: Resource[Any], resolver: Any) -> None:
        contents = resource.contents
        if not isinstance(contents, dict) or id(contents) in seen:
            return
        seen.add(id(contents))
        for key in ("$ref", "$dynamicRef"):
            if isinstance(contents.get(key), str):
                found = resolver.lookup(contents[key])
                kind.check_schema(found.contents)
                look(specification.create_resource(found.contents), found.resolver)
        for inner in resource.subresources():
            look(inner, resolver.in_subresource(inner))

    try:
        look(root, Registry().resolver_with_root(root))
    except Unresolvable as error:
        raise UserError(f"json_schema refers to what it does not hold: {error}.") from None
    except (SchemaError, TypeError, ValueError) as error:
        said = error.message if isinstance(error, SchemaError) else error
        raise UserError(f"json_schema refers to what is no JSON Schema: {said}.") from None


def _types(values: Sequence[Any]) -> list[str]:
    return sorted({_NAMES[type(value)] for value in values})


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, f".{key}"))
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _leaves(inner, (*path, "[]"))
    else:
        # Empty objects and lists are leaves of their own; true is not 1.
        leaf = value if not isinstance(value, dict | list) else None
        yield (path, _NAMES[type(value)], leaf)
