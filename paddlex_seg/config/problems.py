"""Error messages for a configuration: where a key was set, what was found and expected, the nearest key."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from paddlex_seg.config.schema import Config

# Keys of PaddleX that this toolkit does not support, each with the advice for the error message.
RETIRED_KEYS = {
    "Train.dy2st": "training runs in dynamic mode; remove the key",
    "Train.uniform_output_enabled": "the uniform output layout is always on; remove the key",
    "Train.basic_config_path": "this file is the whole configuration, without a base file; remove the key",
    "Evaluate.basic_config_path": "this file is the whole configuration, without a base file; remove the key",
    "Export.basic_config_path": "this file is the whole configuration, without a base file; remove the key",
    "Global.export_with_pir": "models are always exported in Paddle 3's JSON format; remove the key",
    "Benchmark": "this section of PaddleX is not supported; remove it",
}


def problem_texts(error: ValidationError, path: Path, overrides: Sequence[str]) -> list[str]:
    """One line per problem. The configuration comes from the file ``path`` and the ``-o`` ``overrides``."""
    places = _Places(path, overrides)
    return [_problem_to_text(problem, places) for problem in error.errors()]


def suggest(word: str, valid: Iterable[str]) -> str:
    """`` Did you mean ...?`` with the most similar word of ``valid``; empty if none is similar."""
    near = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""


class _Places:
    """Finds where a key was set: in an ``-o`` option or in a line of the file. If unknown: the file."""

    def __init__(self, path: Path, overrides: Sequence[str]):
        self.path = path
        self.options = {option.partition("=")[0].strip() for option in overrides}
        try:
            root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
            self.lines = dict(_key_lines(root, ()))
        except (OSError, yaml.YAMLError):
            self.lines = {}

    def find(self, key: str) -> str:
        if any(option == key or option.startswith(f"{key}.") for option in self.options):
            return "-o"
        if key in self.lines:
            return f"{self.path}:{self.lines[key]}"
        return str(self.path)


def _key_lines(node: Any, prefix: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*prefix, str(key.value))
            yield ".".join(path), key.start_mark.line + 1
            yield from _key_lines(value, path)


def _valid_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in section.model_fields.items():
        yield prefix + name
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _valid_keys(info.annotation, f"{prefix}{name}.")


def _problem_to_text(problem: Any, places: _Places) -> str:
    valid = set(_valid_keys(Config))
    key = ".".join(str(part) for part in problem["loc"])
    where = f"{places.find(key)}: {key}"
    if problem["type"] == "extra_forbidden":
        if key in RETIRED_KEYS:
            return f"{where}: {RETIRED_KEYS[key]}."
        return f"{where}: there is no such key.{_suggest_key(key, valid)}"
    if problem["type"] == "missing":
        return f"{where}: the key is missing; add it."
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{where}: found {problem['input']!r}; {message}."


def _suggest_key(key: str, valid: set[str]) -> str:
    """A hint: a similar key of the same section, or the same name in another section, or a similar key of
    any section, or the valid keys of the section.
    """
    section, _, leaf = key.rpartition(".")
    siblings = [name for name in valid if name.rpartition(".")[0] == section]
    if near := difflib.get_close_matches(key, siblings, n=1, cutoff=0.75):
        return f" Did you mean {near[0]}?"
    if same_leaf := sorted(name for name in valid if name.rpartition(".")[2].lower() == leaf.lower()):
        return f" Did you mean {' or '.join(same_leaf)}?"
    if near := difflib.get_close_matches(key, sorted(valid), n=1, cutoff=0.6):
        return f" Did you mean {near[0]}?"
    if siblings:
        return f" Valid here are: {', '.join(sorted(name.rpartition('.')[2] for name in siblings))}."
    return ""
