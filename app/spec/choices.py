"""Fields whose choices are the rows of a table: what a job may name follows from the table alone.

A table is read whenever a value is validated or a schema is drawn, not when a class is built, so that a row is all
that a further choice takes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from app.spec.base import Tagged


@dataclass(frozen=True)
class OneOf:
    """Marks a field that holds an instance of one class of `table`: a discriminated union."""

    table: Sequence[type[Tagged]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """What pydantic validates with."""
        return core_schema.no_info_plain_validator_function(self._validated)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema of a discriminated union of the classes."""
        choices: dict[Any, CoreSchema] = {kind.kind(): kind.__pydantic_core_schema__ for kind in self.table}
        return handler(core_schema.tagged_union_schema(choices, self.table[0].tag))

    def _validated(self, value: Any) -> Tagged:
        tag, classes = self.table[0].tag, {kind.kind(): kind for kind in self.table}
        if isinstance(value, tuple(self.table)):
            return cast(Tagged, value)
        if not isinstance(value, Mapping):
            raise PydanticKnownError("model_attributes_type")
        if tag not in value:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": repr(tag)})
        name = value[tag]
        if not isinstance(name, str) or name not in classes:
            expected = ", ".join(map(repr, classes))
            raise PydanticKnownError(
                "union_tag_invalid", {"discriminator": repr(tag), "tag": str(name), "expected_tags": expected}
            )
        return classes[name].model_validate(value)


@dataclass(frozen=True)
class NameIn:
    """Marks a field of text that is a key of `table`."""

    table: Mapping[str, object]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """What pydantic validates with."""
        return core_schema.no_info_after_validator_function(self._validated, core_schema.str_schema(strict=True))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The names, as of a `Literal`."""
        return {"type": "string", "enum": list(self.table)}

    def _validated(self, name: str) -> str:
        if name not in self.table:
            *others, last = map(repr, self.table)
            raise PydanticKnownError(
                "literal_error", {"expected": " or ".join([", ".join(others), last][not others :])}
            )
        return name
