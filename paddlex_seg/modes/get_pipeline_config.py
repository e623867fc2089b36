"""``--get_pipeline_config``: copies the YAML file of a pipeline, so that the user can change it."""

import shlex
import sys
from argparse import Namespace
from pathlib import Path

from paddlex_seg.config.read import shipped_files
from paddlex_seg.config.values import expand_home
from paddlex_seg.errors import ConfigError, suggest
from paddlex_seg.files.atomic import write_bytes
from paddlex_seg.files.problems import explain


def run(options: Namespace) -> None:
    """Copy the file to ``--save_path``: a folder, or a file with the ending .yaml or .yml.

    Raises ConfigError for an unknown pipeline, for a place that cannot be written, and when another file is
    there that the user does not want to lose.
    """
    source = _shipped(options.get_pipeline_config)
    target = _target(options.save_path or options.config_save_path or ".", source.name)
    content = source.read_bytes()
    try:
        if target.is_file() and target.read_bytes() == content:
            print(f"{target} is there already, with the same content.")
            return
        if target.exists() and not _may_replace(target):
            raise ConfigError(
                f"{target}: another file has this name and is not replaced. Move it away, or name another "
                "place with --save_path."
            )
        write_bytes(target, content)
    except OSError as error:
        raise ConfigError(f"--save_path cannot be written. {explain(error)}") from error
    print(
        f"The pipeline configuration is saved in {target}. Use it with --pipeline {shlex.quote(str(target))}"
    )


def _shipped(name: str) -> Path:
    files = {file.stem: file for file in shipped_files("pipelines")}
    if name not in files:
        raise ConfigError(
            f"--get_pipeline_config {name}: there is no such pipeline.{suggest(name, files)} Known: "
            f"{', '.join(files)}."
        )
    return files[name]


def _target(place: str, name: str) -> Path:
    try:
        path = Path(expand_home(place))
    except ValueError as error:
        raise ConfigError(f"--save_path {place}: {error}.") from error
    is_file = path.suffix.lower() in (".yaml", ".yml") and not path.is_dir()
    return path if is_file else path / name


def _may_replace(path: Path) -> bool:
    """Ask at a terminal. Without one, nothing is replaced."""
    if not path.is_file() or sys.stdin is None or not sys.stdin.isatty():
        return False
    try:
        return input(f"{path} has another content. Replace it? (y/N) ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
