"""The base of every group of settings: frozen, strict, one spelling, and one-line errors."""

import ast
from collections.abc import Mapping
from typing import ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

Kind = TypeVar("Kind", bound="Spelled")
Group = TypeVar("Group", bound="Settings")


class Settings(BaseModel):
    """A frozen group of settings that refuses unknown names and bad values with one line each.

    Raises:
        ValueError: `setting = value: what is allowed`, for the command line and for a stored
            `config.json` alike.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **settings: object) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ValueError(one_line(error)) from None

    def without_dependents(self: Group, changes: Mapping[str, object]) -> Group:
        """Return the same settings, at their defaults where they mean nothing once these changes are made.

        Args:
            changes: new values by name.

        Raises:
            ValueError: one of them cannot be.
        """
        return self


class Spelled(Settings):
    """Settings that are written as a call, `polynomial(modulus=7)`, wherever they appear.

    `str` gives the spelling and `read` takes it back; settings at their default are left out.
    """

    name: ClassVar[str]

    def __str__(self) -> str:
        given = [
            f"{name}={getattr(self, name)!r}"
            for name, field in type(self).model_fields.items()
            if getattr(self, name) != field.default
        ]
        return f"{self.name}({', '.join(given)})" if given else self.name

    @classmethod
    def read(cls: type[Kind], text: str) -> Kind:
        """Parse what `text` spells: this class or one of its subclasses, by `name`.

        Raises:
            ValueError: one line: not a spelling, no such name, no such setting, or a bad value.
        """
        known = {kind.name: kind for kind in (cls, *cls.__subclasses__()) if "name" in vars(kind)}
        what = cls.__name__.lower()
        try:
            call = ast.parse(text.strip(), mode="eval").body
            if isinstance(call, ast.Name):
                name, given = call.id, {}
            elif isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args:
                name = call.func.id
                given = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
            else:
                raise ValueError
        except (SyntaxError, ValueError):
            raise ValueError(f"{what} = {text!r}: must be written as name or name(setting=value)") from None
        if name not in known:
            raise ValueError(f"{what} = {text!r}: must be one of {', '.join(sorted(known))}")
        try:
            return known[name](**given)
        except ValueError as error:
            raise ValueError(f"{name}: {error}" if what == name else f"{what} {name}: {error}") from None


def one_line(error: ValidationError) -> str:
    """Return the first error of a validation, as `setting = value: what is allowed`."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"{name} = {first['input']!r}: there is no such setting"
    if first["type"] == "value_error":  # raised by a check of ours, which names its own setting
        return message
    return f"{name} = {first['input']!r}: {message[0].lower()}{message[1:]}"


def changed(settings: Group, changes: Mapping[str, object]) -> Group:
    """Return the same settings with these changes, at their defaults where they belonged to what is changed.

    Args:
        settings: a group, maybe with groups in it.
        changes: new values by dotted name, such as `model.d_model`.

    Raises:
        ValueError: there is no such setting, or it cannot have this value.
    """
    kept = settings.without_dependents(changes)
    new = {name: getattr(kept, name) for name in type(settings).model_fields}
    within: dict[str, dict[str, object]] = {}
    for name, value in changes.items():
        first, _, rest = name.partition(".")
        if first not in new or (rest and not isinstance(new[first], Settings)):
            raise ValueError(f"{name} = {value!r}: there is no such setting")
        if rest:
            within.setdefault(first, {})[rest] = value
        else:
            new[first] = value
    for first, inner in within.items():
        try:
            new[first] = changed(new[first], inner)
        except ValueError as error:
            raise ValueError(f"{first}.{error}") from None
    return type(settings)(**new)
