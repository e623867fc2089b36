"""``-o Section.key=value``: what an option sets, and setting it in the content of a configuration file."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

from pydantic import BaseModel

from paddlex_seg.config.schema import Config
from paddlex_seg.config.yaml_text import (
    NULL_WORDS,
    DuplicateKeyError,
    YamlError,
    colon_hint,
    full_width_hint,
    parse_value,
)
from paddlex_seg.errors import ConfigError

Parts = tuple[str, ...]  # a key such as ("Train", "batch_size")


def settings(option: str) -> list[tuple[Parts, Any]]:
    """The keys that an option sets, each with its value. ``Train={a: 1, b: 2}`` sets two.

    Values are text, or None for null; those of a mapping may also be lists and mappings. Raises ConfigError.
    """
    key, equals, text = option.partition("=")
    parts = tuple(part.strip() for part in key.split("."))
    if not equals or not all(parts):
        raise ConfigError(
            f"-o {option}: expected Section.key=value, such as Train.epochs_iters=20, without spaces around "
            f"the =. A value with spaces needs quotes: -o 'Section.key=a value'.{full_width_hint(option)}"
        )
    try:
        if not is_section(type_of(parts)):
            return [(parts, _single_value(text.strip()))]
        return list(_leaves(parts, parse_value(text)))
    except YamlError as error:
        raise ConfigError(f"-o {option}: {error}") from None
    except ValueError as error:
        raise ConfigError(f"-o {option}: {error}{full_width_hint(text) or colon_hint(text)}") from None


def apply(data: dict[str, Any], option: str) -> None:
    """Set in ``data`` what an option sets; all other keys stay. Raises ConfigError."""
    for parts, value in settings(option):
        try:
            _set(data, parts, value)
        except ValueError as error:
            raise ConfigError(f"-o {option}: {error}") from None


def is_section(kind: Any) -> TypeGuard[type[BaseModel]]:
    """Whether the type of a key is a section, not a value."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def type_of(parts: Sequence[str], root: type[BaseModel] = Config) -> Any:
    """The type of a key, such as ``("Train", "batch_size")``; None if there is no such key."""
    kind: Any = root
    for part in parts:
        info = kind.model_fields.get(part) if is_section(kind) else None
        if info is None:
            return None
        kind = info.annotation
    return kind


def _single_value(text: str) -> Any:
    """Null, a text without the quotes around it, or a list or mapping; anything else is a text as it is."""
    if text in NULL_WORDS:
        return None
    if text[:1] not in ("'", '"', "[", "{"):
        return text
    try:
        return parse_value(text)
    except DuplicateKeyError:
        raise
    except YamlError:  # a name or a pattern that begins like a list, such as [ab]*.jpg
        return text


def _leaves(parts: Parts, content: Any) -> Iterator[tuple[Parts, Any]]:
    if not is_section(type_of(parts)):
        yield parts, content
        return
    if not isinstance(content, dict):
        name = ".".join(parts)
        raise ValueError(f"{name} is a section. Expected {name}.key=value or '{name}={{key: value}}'.")
    for key, value in content.items():
        yield from _leaves((*parts, *key.split(".")), value)


def _set(data: dict[str, Any], parts: Parts, value: Any) -> None:
    node = data
    for depth, part in enumerate(parts[:-1], start=1):
        kind = type_of(parts[:depth])
        if kind is not None and not is_section(kind):
            node[part] = _with_item(node.get(part), parts[:depth], parts[depth:], value)
            return
        child = node.get(part)
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            return  # the fault of the file, which its check will tell
        node = child
    node[parts[-1]] = value


def _with_item(current: Any, parts: Parts, rest: Parts, value: Any) -> Any:
    """The list or mapping of a key with one item replaced, as by ``Predict.input.0=a.jpg``."""
    name, item = ".".join(parts), ".".join(rest)
    current = {} if current is None else current
    if isinstance(current, dict):
        return {**current, item: value}
    if not isinstance(current, list):
        raise ValueError(f"{name} is a value ({current!r}), not a section. Expected {name}=value.")
    if not item.isdecimal() or int(item) >= len(current):
        raise ValueError(
            f"{name} is a list of {len(current)}. Expected {name}.0 to {name}.{len(current) - 1}."
        )
    return [*current[: int(item)], value, *current[int(item) + 1 :]]
