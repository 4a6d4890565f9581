"""Options of a function: its keyword-only arguments, their defaults, and the values that users give.

If the default of a keyword is a frozen dataclass, the keyword is a *bundle*: each field is an option, and the function
receives the object. So options that many items share are written once.
"""

import importlib
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any

from harness.errors import UserError, one_line, unknown
from harness.messages import warn_caller
from harness.option_kinds import Kind, check_value
from harness.signatures import parameters_of

IMPORT = re.compile(r"[^\W\d][\w.-]*:[^\W\d]\w*")  # package.module:name; a file's name may hold a hyphen
RESERVED = ("name", "label", "over", "swept")  # what a configuration says of an item besides its options


def options_of(function: Callable[..., Any], handed_in: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """The options of a function, name -> default (None if there is none): its keyword-only arguments, bundles expanded.

    Arguments that the harness passes itself, ``handed_in``, are left out.
    """
    options: dict[str, Any] = {}
    for name, default in _keywords_of(function).items():
        if name in handed_in:
            continue
        for option, value in _expanded(function, name, default, (*handed_in, *RESERVED)).items():
            if option in options:
                raise UserError(f"{function.__qualname__} has the option {option!r} twice; give one another name")
            options[option] = value
    return MappingProxyType(options)


def _expanded(function: Callable[..., Any], name: str, default: Any, reserved: tuple[str, ...]) -> dict[str, Any]:
    """The options of one keyword: itself, or the fields of its bundle; UserError for what cannot be an option."""
    if not is_dataclass(default) or isinstance(default, type):
        return {name: default}
    where = f"the default of {name}= of {function.__qualname__}, {type(default).__name__},"
    if not _is_bundle(default):
        raise UserError(f"{where} can be changed, expected a frozen dataclass: @dataclass(frozen=True)")
    for each in fields(default):
        if each.name in reserved:
            raise UserError(f"{where} has the field {each.name!r}, which the harness uses itself; give it another name")
        if not each.init or is_dataclass(getattr(default, each.name)):
            raise UserError(f"{where} has the field {each.name!r}, which is no option, expected a plain value")
    return {each.name: getattr(default, each.name) for each in fields(default)}


def bundles_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only arguments whose default is a frozen dataclass, with that default."""
    return {name: default for name, default in _keywords_of(function).items() if _is_bundle(default)}


def _keywords_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only arguments with their defaults, None if there is none."""
    keywords = [p for p in parameters_of(function).values() if p.kind is p.KEYWORD_ONLY]
    return {p.name: None if p.default is p.empty else p.default for p in keywords}


def _is_bundle(default: Any) -> bool:
    return is_dataclass(default) and not isinstance(default, type) and default.__dataclass_params__.frozen


def wants(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has an argument of this name, such as ``context``, for the harness to pass."""
    return name in parameters_of(function)


def import_object(path: str) -> Any:
    """The object named ``package.module:name``; modules are also looked for in the working folder, after all others.

    Nothing but an import that somebody names is looked for there: a folder of somebody else can hold a file that has
    the name of a library which is not installed here.
    """
    module, _, name = str(path).partition(":")
    try:
        if not IMPORT.fullmatch(str(path)):
            raise UserError("it is no import")
        if not {os.getcwd(), ""} & set(sys.path):
            sys.path.append(os.getcwd())
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # importing the user's module can raise anything
        example = f", here {module.removesuffix('.py').replace('/', '.')}:{name}" if module.endswith(".py") else ""
        raise UserError(f"cannot import {path!r}: {one_line(error)}; expected package.module:name{example}") from None


def as_keywords(bundles: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """All options as keyword arguments of their function; those of a bundle become one object."""
    rest = dict(options)
    objects = {
        keyword: replace(default, **{each.name: rest.pop(each.name) for each in fields(default)})
        for keyword, default in bundles.items()
    }
    return rest | objects


def present_names(item: str, renamed: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given values under the present names of their options; a warning tells the new name of each former one.

    ``renamed`` maps former to present names. UserError where one option came under both.
    """
    for former in renamed.keys() & given.keys():
        present = renamed[former]
        if present in given:
            raise UserError(f"{item} has {former} and {present}, two names of one option: keep {present}")
        warn_caller(f"the option {former} of {item} is called {present} now")
    return {renamed.get(name, name): value for name, value in given.items()}


def check_renamed(item: str, options: Collection[str], renamed: Mapping[str, str]) -> None:
    """UserError if a former name is still an option, or a present one is none."""
    for former, present in renamed.items():
        if former in options or former in RESERVED or present not in options:
            raise UserError(f"{item} renames {former} to {present}, expected a name it had and an option it has")


def complete_options(
    item: str, defaults: Mapping[str, Any], given: Mapping[str, Any], kind: Callable[[str], Kind]
) -> dict[str, Any]:
    """The given values over the defaults; UserError for an unknown name, or a value that is not of its option's kind.

    This is the one place where values of options are checked.
    """
    options = dict(defaults)
    for name, value in given.items():
        if name not in options:
            raise unknown(f"option of {item}", name, options)
        value = _like_default(value, defaults[name])
        check_value(f"option {name} of {item}", value, kind(name))
        options[name] = float(value) if isinstance(defaults[name], float) and isinstance(value, int) else value
    return options


def _like_default(value: Any, default: Any) -> Any:
    """The value in its default's form, so that equal settings have equal identities.

    Where the default is a tuple of numbers, a single number, a list of numbers and a text of numbers with spaces
    between them become such a tuple, in which 10.0 is 10. What is none of these stays as it is.
    """
    if not (isinstance(default, tuple) and default and all(isinstance(each, int | float) for each in default)):
        return value
    parts = value.split() if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    try:
        return tuple(_plain_number(part) for part in parts)
    except (TypeError, ValueError, OverflowError):
        return value


def _plain_number(part: Any) -> float:
    """A number or its text as a number, which is an int where it is whole; TypeError for True and False."""
    if isinstance(part, bool):
        raise TypeError
    number = float(part)
    return int(number) if number.is_integer() else number
