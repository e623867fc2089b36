"""Read and check a configuration: a YAML file plus ``-o Section.key=value`` options.

`load_config` returns a frozen `Config`, or raises one `ConfigError` that lists all problems. Each problem has
its place, the value found, the value expected and the nearest valid key.
"""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from paddlex_seg.config.problems import problem_texts, suggest
from paddlex_seg.config.schema import Config
from paddlex_seg.errors import ConfigError

PACKAGE_DIR = Path(__file__).resolve().parent.parent
CONFIG_DIRS = (PACKAGE_DIR / "configs", PACKAGE_DIR.parent / "configs")  # installed wheel, source checkout


def find_config(name: str) -> Path:
    """The file for ``-c``: the path if it exists, otherwise the shipped file of that name in any folder."""
    path = Path(name)
    if path.is_file():
        return path
    folder = next((folder for folder in CONFIG_DIRS if folder.is_dir()), CONFIG_DIRS[0])
    shipped = {file.name: file for file in sorted(folder.rglob("*.yaml"))}
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    for candidate in (base, f"{base}.yaml"):
        if candidate in shipped:
            return shipped[candidate]
    raise ConfigError(
        f"{name}: there is no such file and no shipped configuration with that name.{suggest(base, shipped)} "
        f"Shipped configurations: {', '.join(sorted(shipped))}."
    )


def read_config(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The content of the YAML file with the ``-o`` options applied. Keys and values are not checked yet.

    Raises ConfigError if the file is not a YAML mapping or an option does not have the form ``key=value``.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected sections such as Global and Train, found {type(data).__name__}.")
    data = _none_strings_to_null(data)
    problems = [problem for option in overrides if (problem := _apply_override(data, option))]
    if problems:
        raise ConfigError("\n".join(problems))
    return data


def validate_config(data: Mapping[str, Any], path: Path, overrides: Sequence[str] = ()) -> Config:
    """Check the result of `read_config`. Raises one ConfigError with all problems."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(problem_texts(error, path, overrides))) from None


def load_config(name: str, overrides: Sequence[str] = ()) -> Config:
    """Find, read, override and check a configuration; see the docstring of the module."""
    path = find_config(name)
    return validate_config(read_config(path, overrides), path, overrides)


def parse_value(text: str) -> Any:
    """The value of an ``-o`` option: a Python or YAML literal if the text is one, otherwise the text itself.

    ``None``, ``null`` and ``~`` are null; ``1e-4`` is a number. Lists and mappings can be Python or YAML.
    ``gpu:0,1``, URLs, paths and ``on`` stay text. Code is never executed.
    """
    words: dict[str, Any] = {"None": None, "null": None, "~": None, "true": True, "false": False}
    if text in words:
        return words[text]
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if type(value) in (bool, int, float, str, list, dict):
        return value
    if text[:1] in ("[", "{"):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    return text


def _apply_override(data: dict[str, Any], option: str) -> str | None:
    """Set one value in ``data``. Returns an error message if the option is invalid, otherwise None."""
    key, equals, text = option.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        return f"-o {option}: expected Section.key=value, such as Train.epochs_iters=20."
    node = data
    for depth, part in enumerate(parts[:-1], start=1):
        child = node.setdefault(part, {})
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            parent = ".".join(parts[:depth])
            return f"-o {option}: {parent} is a value ({child!r}), not a section. Expected {parent}=value."
        node = child
    node[parts[-1]] = parse_value(text)
    return None


def _none_strings_to_null(value: Any) -> Any:
    """Replace the text "None" by null. YAML reads ``None`` as text, but PaddleX users mean null."""
    if isinstance(value, dict):
        return {key: _none_strings_to_null(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_none_strings_to_null(item) for item in value]
    return None if value == "None" else value
