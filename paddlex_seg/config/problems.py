"""Error messages for a configuration: where a key was set, what was found and expected, the nearest key."""

import difflib
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from paddlex_seg.config.overrides import is_section, settings, type_of
from paddlex_seg.config.schema import Config
from paddlex_seg.config.yaml_text import colon_hint, full_width_hint
from paddlex_seg.errors import suggest

# Keys of PaddleX that this toolkit does not support, each with the advice for the error message.
RETIRED_KEYS = {
    "Train.dy2st": "training runs in dynamic mode; remove the key",
    "Train.uniform_output_enabled": "the uniform output layout is always on; remove the key",
    "Train.basic_config_path": "this file is the whole configuration, without a base file; remove the key",
    "Evaluate.basic_config_path": "this file is the whole configuration, without a base file; remove the key",
    "Export.basic_config_path": "this file is the whole configuration, without a base file; remove the key",
    "Global.export_with_pir": "models are always exported in Paddle 3's JSON format; remove the key",
    "Benchmark": "this section of PaddleX is not supported; remove it",
    **dict.fromkeys(
        ("pipeline_name", "SubModules", "Pipeline"),
        "this is the configuration of a pipeline; use it with --pipeline or create_pipeline",
    ),
}


# Words that users write for others.
MEANT = {
    "Global.mode": {
        "val": "evaluate",
        "eval": "evaluate",
        "test": "evaluate",
        "infer": "predict",
        "inference": "predict",
        "check": "check_dataset",
    },
    "Train.amp_dtype": {"fp16": "float16", "bf16": "bfloat16"},
}


def problem_texts(
    error: ValidationError,
    place: Path | str,
    lines: Mapping[str, int],
    overrides: Sequence[str] = (),
    root: type[BaseModel] = Config,
) -> list[str]:
    """One line per problem of a configuration from the file ``place`` and the ``-o`` ``overrides``.

    ``place``: or the name of a function, whose arguments the values are. ``lines``: where the keys of the
    file stand. ``root``: what the configuration should have been.
    """
    options = [".".join(parts) for option in overrides for parts, _ in settings(option)]
    places = _Places(place, lines, options)
    return [_problem_to_text(problem, places, root) for problem in error.errors()]


@dataclass(frozen=True)
class _Places:
    """Finds where a key was set: in an ``-o`` option or in a line of the file. If unknown: the file."""

    place: Path | str
    lines: Mapping[str, int]  # key -> line of the file
    options: Sequence[str]  # keys set by -o

    def find(self, key: str) -> str:
        if any(_is_within(key, option) for option in self.options):
            return "-o"
        if key not in self.lines and any(_is_within(option, key) for option in self.options):
            return "-o"
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return f"{self.place}:{self.lines[key]}" if key else str(self.place)


def _is_within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


class _Shown(reprlib.Repr):
    """Values in messages: cut where they are long. Numbers, lists and mappings have no quotes."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxdict, self.maxstring = 2, 6, 6, 200

    def repr_str(self, text: str, level: int) -> str:
        written = re.match(r"[-+.\w]*\d[-+.\w]*$|True$|False$|true$|false$|[\[{]", text)
        return text if written and len(text) <= self.maxstring else super().repr_str(text, level)


def _valid_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in section.model_fields.items():
        yield prefix + name
        if is_section(info.annotation):
            yield from _valid_keys(info.annotation, f"{prefix}{name}.")


def _problem_to_text(problem: Any, places: _Places, root: type[BaseModel]) -> str:
    key, value = ".".join(str(part) for part in problem["loc"]), problem["input"]
    where = f"{places.find(key)}: {key}"
    if problem["type"] == "extra_forbidden":
        if key in RETIRED_KEYS:
            return f"{where}: {RETIRED_KEYS[key]}."
        return f"{where}: there is no such key.{_key_hint(problem['loc'], key, root)}"
    if problem["type"] == "missing":
        return f"{where}: the key is missing; add it."
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{where}: found {_Shown().repr(value)}; {message}.{_value_hint(problem, key, root)}"


def _key_hint(parts: Sequence[Any], key: str, root: type[BaseModel]) -> str:
    """How to write a key that does not exist."""
    leaf = str(parts[-1])
    if spelling := colon_hint(leaf):
        return spelling
    if "." in leaf:
        section, _, name = leaf.rpartition(".")
        return f" In a file, write the section {section} and below it, indented, {name}."
    return f"{full_width_hint(leaf)}{_suggest_key(key, set(_valid_keys(root)))}"


def _value_hint(problem: Any, key: str, root: type[BaseModel]) -> str:
    """How to write a value that is not valid."""
    value = problem["input"]
    if value is None:  # of {backbone:0.1}, or of a key that cannot be null
        return colon_hint(str(problem["loc"][-1]))
    if isinstance(value, dict):
        return next((colon_hint(str(name)) for name, one in value.items() if one is None), "")
    if not isinstance(value, str):
        return ""
    if problem["type"] == "literal_error":
        valid = re.findall(r"'([^']+)'", problem["ctx"]["expected"])
        meant = MEANT.get(key, {}).get(value.strip().lower())
        return f" Did you mean {meant}?" if meant else suggest(value.strip(), valid)
    return full_width_hint(value) or (colon_hint(value) if is_section(type_of(key.split("."), root)) else "")


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
