"""``--pipeline``: predicts with a pipeline, prints the results, and saves them."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from paddlex_seg.config.pipeline import ModelConfig
from paddlex_seg.config.values import Device, Images, Options, PathText, Threshold
from paddlex_seg.config.yaml_text import YamlError, colon_hint, parse_value
from paddlex_seg.errors import ConfigError
from paddlex_seg.modes.predictions import Report, predict_all, require_separate
from paddlex_seg.modes.result_file import open_output
from paddlex_seg.pipelines.create import create_pipeline
from paddlex_seg.runtime.environment import use_writable_folders


def run(options: Namespace) -> None:
    """Predict ``--input``, print the results, and save drawings and JSON files in ``--save_path`` if given.

    Raises ConfigError for a wrong option, and what `predict_all` and `create_pipeline` raise.
    """
    threshold = read_option(options, "threshold", Threshold)
    batch_size = read_option(options, "batch_size", Images)
    save_path = read_option(options, "save_path", PathText)
    require_separate(options.input, "--input", "--input {}", " ")
    folder = None if save_path is None else Path(save_path)
    if folder is not None:
        open_output(folder, "--save_path")
    use_writable_folders(folder or Path())
    pipeline = create_pipeline(options.pipeline, batch_size=batch_size, **model_options(options))
    predict_all(pipeline, options.input, Report(), folder=folder, prints=True, threshold=threshold)


def model_options(options: Namespace) -> dict[str, Any]:
    """The options that say how a pipeline runs its model, as arguments of `create_pipeline`.

    Raises ConfigError when one is wrong.
    """
    return {
        "device": read_option(options, "device", Device),
        "backend": options.backend,
        "precision": options.precision,
        "use_hpip": options.use_hpip or None,
        "hpi_config": read_option(options, "hpi_config", Options),
        "hpi_params": read_option(options, "hpi_params", Options),
        "engine": read_option(options, "engine", ModelConfig.model_fields["engine"].annotation),
    }


def read_option(options: Namespace, name: str, kind: Any) -> Any:
    """The value of an option as a type of config/values.py; None if it is not given.

    Raises ConfigError when it is wrong.
    """
    text = getattr(options, name)
    if text is None:
        return None
    try:
        value = parse_value(text) if text.startswith("{") else text
        return TypeAdapter(kind).validate_python(value)
    except YamlError as error:
        raise ConfigError(f"--{name} {text}: {error}") from None
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise ConfigError(f"--{name}: found {text!r}; {problem}.{colon_hint(text)}") from None
