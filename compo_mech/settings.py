"""The base of every group of settings: frozen, strict, one spelling, and one-line errors."""

import ast
import inspect
import keyword
import sys
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

    `str` gives the spelling and `read` takes it back; settings at their default are left out. Classes that share an
    abstract base are told apart by their `name` alone.

    Raises:
        ValueError: when a class is defined: it has no name of its own, or one that is taken or cannot be read.
    """

    name: ClassVar[str]
    elsewhere: ClassVar[str] = ""
    """What a complaint about an unknown name says of names that are not known yet."""

    @classmethod
    def __pydantic_init_subclass__(cls, **options: object) -> None:
        super().__pydantic_init_subclass__(**options)
        if inspect.isabstract(cls):
            return
        name, where = vars(cls).get("name"), f"{cls.__module__}.{cls.__qualname__}"
        if not isinstance(name, str) or not name.isascii() or not name.isidentifier() or keyword.iskeyword(name):
            raise ValueError(f"name = {name!r}: must be an identifier, set in {where} itself: name = 'walk'")
        taken = _KINDS.get((_family(cls), name))
        if taken is not None and not _is_redefined(taken, cls):
            other = f"{taken.__module__}.{taken.__qualname__}"
            raise ValueError(f"name = {name!r}: must be another in {where}, since {other} has it")
        _KINDS[_family(cls), name] = cls

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
        known = {name: kind for (_, name), kind in _KINDS.items() if issubclass(kind, cls)}
        what = cls.__name__.lower()
        try:
            call = ast.parse(text.strip(), mode="eval").body
            if isinstance(call, ast.Name):
                name, words, given = call.id, [], {}
            elif isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args:
                name, words = call.func.id, [str(word.arg) for word in call.keywords]
                given = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
            else:
                raise ValueError
        except (SyntaxError, ValueError, TypeError):
            raise ValueError(f"{what} = {quoted(text)}: must be written as name or name(setting=value)") from None
        except (MemoryError, RecursionError):  # how Python's parser calls what is nested too deep
            raise ValueError(f"{what} = {quoted(text)}: must be nested less deep") from None
        if twice := [word for i, word in enumerate(words) if word in words[:i]]:
            raise ValueError(f"{what} = {quoted(text)}: must set {twice[0]} once")
        if name not in known:
            names = f"{'one of ' * (len(known) > 1)}{', '.join(sorted(known))}"
            raise ValueError(f"{what} = {quoted(text)}: must be {names}{cls.elsewhere}")
        try:
            return known[name](**given)
        except ValueError as error:
            raise ValueError(f"{name}: {error}" if what == name else f"{what} {name}: {error}") from None


_KINDS: dict[tuple[type[Spelled], str], type[Spelled]] = {}
"""Every class that can be spelled, by the base that it shares with others of its kind and its name."""


def _family(kind: type[Spelled]) -> type[Spelled]:
    return next(base for base in kind.__mro__ if Spelled in base.__bases__)


def _is_redefined(old: type[Spelled], new: type[Spelled]) -> bool:
    """Whether a class takes the place of an older one: the same cell, module or function was run once more.

    One that was made in a function is given up when another function makes one of its name.
    """
    (old_file, old_name), (new_file, new_name) = (
        (getattr(sys.modules.get(kind.__module__), "__file__", kind.__module__), kind.__qualname__)
        for kind in (old, new)
    )
    old_function, new_function = (name.rpartition("<locals>")[0] for name in (old_name, new_name))
    if old_function and (old_file, old_function) != (new_file, new_function):
        return True
    return (old_file, old_name) == (new_file, new_name)


_WORDS = {
    "tuple_type": "must be several values, such as (1, 2)",
    "int_parsing": "must be an integer",
    "int_parsing_size": "must be an integer of fewer digits",
    "float_parsing": "must be a number",
    "bool_parsing": "must be True or False",
}
"""What pydantic would say less plainly, by its name for what is wrong."""


MAX_SHOWN = 60
"""Letters of what somebody gave, in a line that refuses it."""


def quoted(text: str) -> str:
    """Return a text between quotes, or how it ends where it is long.

    >>> len(quoted("a" * 70)), quoted("short")
    (62, "'short'")
    """
    return repr(text if len(text) <= MAX_SHOWN else f"…{text[1 - MAX_SHOWN :]}")


def shown(value: object) -> str:
    """Return how a value is written, in one line, or how that begins where it is long.

    >>> shown(1.5), len(shown([0] * 99))
    ('1.5', 60)
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def one_line(error: ValidationError) -> str:
    """Return the first error of a validation, as `setting = value: what is allowed`."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"{name} = {shown(first['input'])}: there is no such setting"
    if first["type"] == "value_error":  # raised by a check of ours, which names its own setting
        return message
    if first["type"] == "too_short":
        return f"{name} = {shown(first['input'])}: must have at least {first.get('ctx', {}).get('min_length')}"
    if first["type"] == "missing":
        return f"{name} = missing: must be given"
    if first["type"] == "model_type":
        message = f"must be a {first.get('ctx', {}).get('class_name', 'group').lower()}, or how one is spelled"
    message = _WORDS.get(first["type"], message).replace("Input should ", "must ", 1)
    return f"{name} = {shown(first['input'])}: {message[0].lower()}{message[1:]}"


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
