"""Read and check a configuration: a YAML file plus ``-o Section.key=value`` options.

`load_config` returns a frozen `Config`, or raises one `ConfigError` that lists all problems. Each problem has
its place, the value found, the value expected and the nearest valid key.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from paddlex_seg.config.overrides import apply
from paddlex_seg.config.problems import problem_texts
from paddlex_seg.config.schema import BandsConfig, Config
from paddlex_seg.config.values import expand_home
from paddlex_seg.config.yaml_text import YamlError, colon_hint, key_lines, parse_yaml, read_text
from paddlex_seg.errors import ConfigError, suggest
from paddlex_seg.structures import BANDS_FILE, Bands

LOGGER = logging.getLogger(__name__)
PACKAGE_DIR = Path(__file__).resolve().parent.parent
CONFIG_DIRS = (PACKAGE_DIR / "configs", PACKAGE_DIR.parent / "configs")  # installed wheel, source checkout


def find_config(name: str) -> Path:
    """The file for ``-c``: the path if it exists, otherwise the shipped file of that name."""
    path = Path(_home(name))
    if path.is_file():
        return path
    if path.is_dir():
        raise ConfigError(f"-c {name}: this is a folder. Name the YAML file.")
    shipped = {file.name: file for file in shipped_files("modules")}
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    for candidate in (base, f"{base}.yaml"):
        if candidate in shipped:
            return shipped[candidate]
    raise ConfigError(
        f"{name}: there is no such file and no shipped configuration with that name.{suggest(base, shipped)} "
        f"Shipped configurations: {', '.join(sorted(shipped))}."
    )


def shipped_files(kind: str) -> list[Path]:
    """The shipped configurations of a kind, ``modules`` or ``pipelines``, sorted."""
    folder = next((folder for folder in CONFIG_DIRS if folder.is_dir()), CONFIG_DIRS[0])
    return sorted((folder / kind).rglob("*.yaml"))


def read_config(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The content of the YAML file with the ``-o`` options applied. Keys and values are not checked yet: all
    scalars are text, or None for null.

    Raises ConfigError if the file is not a YAML mapping or an option does not have the form ``key=value``.
    """
    try:
        data = parse_yaml(read_text(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from error
    except YamlError as error:
        raise ConfigError("\n".join(f"{path}:{line}: {text}" for line, text in error.problems)) from error
    if not isinstance(data, dict):
        found = {type(None): "nothing", list: "a list"}.get(type(data), "a text")
        raise ConfigError(
            f"{path}: expected keys with values, such as sections, found {found}.{colon_hint(str(data))}"
        )
    problems = []
    for option in overrides:
        try:
            apply(data, option)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return data


def validate_config(data: Mapping[str, Any], path: Path, overrides: Sequence[str] = ()) -> Config:
    """Check the result of `read_config`. Raises one ConfigError with all problems."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(problem_texts(error, path, lines_of(path), overrides))) from None


def load_config(name: str, overrides: Sequence[str] = ()) -> Config:
    """Find, read, override and check a configuration; see the docstring of the module."""
    path = find_config(name)
    return validate_config(read_config(path, overrides), path, overrides)


def find_bands(cfg: Config, dataset_root: Path) -> Bands | None:
    """How images are read: ``Global.bands``, or the file ``bands.yaml`` of the data set; None without both.

    Raises ConfigError for a file that is no such setting.
    """
    path = dataset_root / BANDS_FILE
    of_file = _read_bands(path) if path.is_file() else None
    if cfg.Global.bands is None:
        return of_file
    bands = cfg.Global.bands.to_bands()
    if of_file is not None and of_file != bands:
        LOGGER.warning("Global.bands (%s) is used, not %s (%s).", bands, path, of_file)
    return bands


def _read_bands(path: Path) -> Bands:
    data = read_config(path, ())
    try:
        return BandsConfig.model_validate(data).to_bands()
    except ValidationError as error:
        raise ConfigError("\n".join(problem_texts(error, path, lines_of(path)))) from None


def lines_of(path: Path) -> dict[str, int]:
    """Where the keys of a file stand; unknown if it has changed since it was read."""
    try:
        return key_lines(read_text(path))
    except (OSError, YamlError):
        return {}


def _home(name: str) -> str:
    try:
        return expand_home(name)
    except ValueError as error:
        raise ConfigError(f"-c {name}: {error}.") from None
