"""Every setting of a run with its default, what it may be and what it means, read off the configuration's classes."""

import inspect
import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

from audio_engram.config import Config
from audio_engram.sections import Section

HEADER = """Every setting of a run, at its default. Any part of this is a file for `engram run --config FILE`, any line
is `--set SECTION.KEY=VALUE`. On the demo corpus `engram run` without --config takes smaller settings than these."""
WIDTH = 110
KINDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}
LIMITS = {"ge": "{:g} or more", "gt": "above {:g}", "le": "at most {:g}", "lt": "below {:g}"}


@dataclass(frozen=True)
class Setting:
    """A key of a section, with its default as TOML."""

    key: str
    default: str
    allowed: str
    meaning: str


@dataclass(frozen=True)
class DescribedSection:
    """A section of the configuration: its name as in TOML (of the outermost: empty), its words and its settings."""

    name: str
    words: str
    settings: tuple[Setting, ...]


def describe_settings(kind: type[Section] = Config, name: str = "") -> Iterator[DescribedSection]:
    """The sections in the order of a TOML file: each before those within it."""
    fields = kind.model_fields
    within = {key: field.annotation for key, field in fields.items() if _is_section(field.annotation)}
    settings = tuple(
        Setting(
            key,
            json.dumps(field.default, ensure_ascii=False),
            _allowed(field.annotation, field.metadata),
            field.description or "",
        )
        for key, field in fields.items()
        if key not in within
    )
    yield DescribedSection(name, inspect.getdoc(kind) or "", settings)
    for key, section in within.items():
        yield from describe_settings(section, f"{name}.{key}" if name else key)  # type: ignore[arg-type]


def settings_as_toml() -> str:
    """All of them as a TOML file with a comment for each."""
    return "\n".join(_as_toml(section) for section in describe_settings())


def _as_toml(section: DescribedSection) -> str:
    lines = [*_comment(section.words), f"[{section.name}]"] if section.name else [*_comment(HEADER), ""]
    for one in section.settings:
        lines += [*_comment(f"{one.meaning} ({one.allowed})"), f"{one.key} = {one.default}"]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for part in text.split("\n\n") for line in textwrap.wrap(part, WIDTH)]


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _allowed(annotation: Any, metadata: Any = ()) -> str:
    """What a value may be, in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _allowed(inner[0], inner[1:])
    if origin is Literal:
        return " or ".join(filter(None, (", ".join(inner[:-1]), inner[-1])))
    if origin is UnionType:
        return " or ".join(_allowed(one) for one in inner)
    if origin is tuple:
        return f"list, each: {_allowed(inner[0])}"
    if origin is dict:
        return f"table, each: {_allowed(inner[1])}"
    return "as [codec]" if _is_section(annotation) else f"{KINDS[annotation]}{_limits(metadata)}"


def _limits(metadata: Any) -> str:
    # A limit stands by itself, or within the field of a list's items.
    limits = [limit for one in metadata for limit in getattr(one, "metadata", (one,))]
    words = [
        words.format(getattr(limit, name)) for limit in limits for name, words in LIMITS.items() if hasattr(limit, name)
    ]
    return "".join(f", {word}" for word in words)
