"""Settings of a pipeline: PaddleX's pipeline YAML of both generations, or the arguments of a function.

New: ``SubModules.InstanceSegmentation`` has ``model_name`` and ``model_dir``. Old: ``Pipeline.model`` is one
or the other. All become `ModelSettings`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BeforeValidator, ConfigDict, ValidationError

from paddlex_seg.config.problems import problem_texts
from paddlex_seg.config.read import lines_of, read_config, shipped_files
from paddlex_seg.config.schema import Section, ServingConfig
from paddlex_seg.config.values import Device, Images, PathText, Switch, Text, Threshold, expand_home
from paddlex_seg.errors import ConfigError, suggest
from paddlex_seg.structures import BackendChoice, BackendName, Precision, RunMode

PIPELINE = "instance_segmentation"  # the name of the only pipeline
PIPELINE_SUFFIXES = (".yaml", ".yml")


def _pipeline_name(value: Any) -> str:
    if value != PIPELINE:
        raise ValueError(f"expected {PIPELINE}, the only pipeline of this toolkit")
    return PIPELINE


PipelineName = Annotated[str, BeforeValidator(_pipeline_name)]


class EngineConfig(Section):
    """How Paddle Inference runs the model. PaddleX has more keys, which are not used."""

    model_config = ConfigDict(extra="allow")

    run_mode: RunMode = "paddle"


class HpiConfig(Section):
    """PaddleX's settings of high-performance inference. It has more keys, which are not used."""

    model_config = ConfigDict(extra="allow")

    backend: Literal["paddle", "onnxruntime", "openvino", "tensorrt", "om"] | None = None


class _RunConfig(Section):
    """Keys that PaddleX accepts at several places."""

    device: Device | None = None
    backend: BackendChoice | None = None
    precision: Precision | None = None
    use_hpip: Switch | None = None
    hpi_config: HpiConfig | None = None
    hpi_params: HpiConfig | None = None  # the name in older versions
    engine: Literal["paddle", "paddle_static", "hpi"] | None = None
    engine_config: EngineConfig = EngineConfig()
    pp_option: Any = None


class ModelConfig(_RunConfig):
    """``SubModules.InstanceSegmentation``, and the arguments of create_model."""

    module_name: PipelineName | None = None
    model_name: Text | None = None
    model_dir: PathText | None = None
    batch_size: Images | None = None
    threshold: Threshold | None = None


class SubModulesConfig(Section):
    """``SubModules``."""

    InstanceSegmentation: ModelConfig = ModelConfig()


class OldPipelineConfig(_RunConfig):
    """``Pipeline``, of the old generation."""

    model: PathText | None = None
    batch_size: Images | None = None
    threshold: Threshold | None = None


class OldGlobalConfig(Section):
    """``Global``, of the old generation. ``input``: the image of PaddleX's demo, which is not used."""

    pipeline_name: PipelineName | None = None
    input: Any = None


class PipelineConfig(_RunConfig):
    """The content of a pipeline YAML."""

    pipeline_name: PipelineName | None = None
    SubModules: SubModulesConfig = SubModulesConfig()
    Serving: ServingConfig = ServingConfig()
    Global: OldGlobalConfig = OldGlobalConfig()
    Pipeline: OldPipelineConfig = OldPipelineConfig()


@dataclass(frozen=True)
class ModelSettings:
    """Which model is used, and how. None: not set."""

    model_name: str | None = None
    model_dir: str | None = None
    beside: Path | None = None  # the folder of the YAML file, where ``model_dir`` may be, too
    device: str = "auto"
    batch_size: int = 1
    backend: BackendChoice | None = None  # None: paddle, and where it is not installed, auto
    precision: Precision = "f32"
    run_mode: RunMode = "paddle"
    threshold: float | dict[str | int, float] | None = None
    places: Mapping[str, str] = field(default_factory=dict)  # where a file sets these, for messages
    notices: tuple[str, ...] = ()  # about settings that are not used

    def place(self, key: str) -> str:
        """Where a setting was made: file, line and key, or the name of the argument."""
        return self.places.get(key, key)

    @property
    def devices(self) -> list[str]:
        """The devices that ``device`` names: gpu:0 and gpu:1 of gpu:0,1."""
        kind, _, numbers = self.device.partition(":")
        return [f"{kind}:{number}" for number in numbers.split(",")] if numbers else [kind]

    def on_device(self, device: str) -> "ModelSettings":
        """The same on one device."""
        return replace(self, device=device)


def settings_of_arguments(function: str, **arguments: Any) -> ModelSettings:
    """The settings that arguments of a function make; None: not given. Raises ConfigError.

    The names are those of `ModelConfig`.
    """
    return _to_settings(_arguments(function, arguments))


def read_pipeline(pipeline: Any, config: Any, **arguments: Any) -> ModelSettings:
    """The settings of ``create_pipeline``: of a name or file (``pipeline``) or of a file or mapping (either).

    arguments: what beats the file, as in `settings_of_arguments`. Raises one ConfigError with all problems.
    """
    given = _arguments("create_pipeline", arguments)
    if pipeline is None and config is None:
        raise ConfigError(
            f"create_pipeline: name a pipeline, such as {PIPELINE!r}, or the path of a YAML file."
        )
    if config is None:
        source = pipeline if isinstance(pipeline, Mapping) else find_pipeline(pipeline)
    else:
        if pipeline not in (None, PIPELINE):
            raise ConfigError(
                f"create_pipeline: found pipeline={pipeline!r} and config. Give one of them; with config, "
                f"the pipeline is {PIPELINE!r}."
            )
        source = config if isinstance(config, Mapping) else find_pipeline(config)
    if isinstance(source, Path):
        return _read_file(source, (), given)[0]
    return _read(_plain(source), "create_pipeline", {}, None, given)[0]


def read_service(
    pipeline: Any, overrides: Sequence[str] = (), **arguments: Any
) -> tuple[ModelSettings, ServingConfig]:
    """The settings of ``--serve``: of the model of a pipeline, and of the service.

    overrides: ``-o`` options, which beat the file. arguments: as for `read_pipeline`. Raises one ConfigError
    with all problems.
    """
    return _read_file(find_pipeline(pipeline), overrides, _arguments("--serve", arguments))


def find_pipeline(name: Any) -> Path:
    """The YAML file that a name or path means. Raises ConfigError."""
    if not isinstance(name, str | os.PathLike):
        raise ConfigError(
            f"pipeline: found {name!r}; expected {PIPELINE}, the path of a YAML file, or a mapping."
        )
    text = os.fspath(name)
    if text == PIPELINE:
        return next(file for file in shipped_files("pipelines") if file.stem == PIPELINE)
    try:
        path = Path(expand_home(text))
    except ValueError as error:
        raise ConfigError(f"{text}: {error}.") from None
    if os.path.isfile(path):  # False for a path that no file can have; Path.is_file() raises
        return path
    if os.path.isdir(path):
        raise ConfigError(
            f"{text}: this is a folder. Name the YAML file of a pipeline; it can name the folder of an "
            "exported model as model_dir."
        )
    if path.suffix.lower() in PIPELINE_SUFFIXES:
        raise ConfigError(f"{text}: there is no such file (absolute path: {path.absolute()}).")
    if text in model_names():
        raise ConfigError(f"{text}: this is a model, not a pipeline. In Python, use create_model({text!r}).")
    raise ConfigError(
        f"{text}: there is no pipeline of this name.{suggest(text, [PIPELINE])} This toolkit has one, "
        f"{PIPELINE}. Or give the path of a YAML file."
    )


def model_names() -> list[str]:
    """The names of all models: those of the shipped configurations."""
    return sorted(file.stem for file in shipped_files("modules"))


def _arguments(function: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that were given, checked."""
    given = {name: value for name, value in arguments.items() if value is not None}
    return _set_values(_validate(ModelConfig, _plain(given), function, {}))


def _read_file(
    path: Path, overrides: Sequence[str], given: dict[str, Any]
) -> tuple[ModelSettings, ServingConfig]:
    data = read_config(path, overrides)
    return _read(data, str(path), lines_of(path), path.parent, given, overrides)


def _read(
    data: dict[str, Any],
    place: str,
    lines: Mapping[str, int],
    beside: Path | None,
    given: dict[str, Any],
    overrides: Sequence[str] = (),
) -> tuple[ModelSettings, ServingConfig]:
    _require_pipeline(data, place)
    whole = _validate(PipelineConfig, data, place, lines, overrides)
    common = {name: value for name, value in _set_values(whole).items() if name in _RunConfig.model_fields}
    is_old = "Pipeline" in data
    section = "Pipeline" if is_old else "SubModules.InstanceSegmentation"
    own = _set_values(whole.Pipeline if is_old else whole.SubModules.InstanceSegmentation)
    model = own.pop("model", None)
    if model is not None:
        own["model_dir" if means_folder(model, beside) else "model_name"] = model
    if not own.keys() & {"model_name", "model_dir"}:
        raise ConfigError(
            f"{place}: {section}.{'model' if is_old else 'model_name'} is missing; expected one of: "
            f"{', '.join(model_names())}."
        )
    places = {}
    for name in (common | own).keys() - given.keys():
        old_name = "model" if is_old and name in ("model_name", "model_dir") else name
        key = f"{section}.{old_name}" if name in own else name
        places[name] = f"{place}:{lines[key]}: {key}" if key in lines else f"{place}: {key}"
    settings = replace(_to_settings(common | own | given), beside=beside, places=places)
    return settings, whole.Serving


def _require_pipeline(data: Mapping[str, Any], place: str) -> None:
    """Raise ConfigError for a mapping of another kind, or of both generations."""
    kinds = [key for key in ("SubModules", "Pipeline") if key in data]
    if len(kinds) == 1:
        return
    if kinds:
        raise ConfigError(
            f"{place}: found SubModules and Pipeline, which say the same in PaddleX's new and old form. Keep "
            "one of them."
        )
    if {"Train", "Predict", "CheckDataset"} & data.keys():
        raise ConfigError(
            f"{place}: this is the configuration of a module, for -c. Expected that of a pipeline, with the "
            "section SubModules."
        )
    raise ConfigError(
        f"{place}: expected the section SubModules (or Pipeline, PaddleX's old form); found "
        f"{', '.join(map(str, data)) or 'nothing'}."
    )


def means_folder(model: str, beside: Path | None = None) -> bool:
    """Whether a text that is a model name or a folder is a folder. To mean a folder with the name of a model,
    write ``./NAME``.
    """
    if model in model_names():
        return False
    looks_like_path = any(sign in model for sign in "/\\~")
    return looks_like_path or os.path.isdir(model) or (beside is not None and os.path.isdir(beside / model))


def _to_settings(values: Mapping[str, Any]) -> ModelSettings:
    engine_config: EngineConfig = values.get("engine_config", EngineConfig())
    return ModelSettings(
        model_name=values.get("model_name"),
        model_dir=values.get("model_dir"),
        device=values.get("device", "auto"),
        batch_size=values.get("batch_size", 1),
        backend=_backend(values),
        precision=values.get("precision", "f32"),
        run_mode=engine_config.run_mode,
        threshold=values.get("threshold"),
        notices=tuple(_notices(values, engine_config)),
    )


def _hpi_config(values: Mapping[str, Any]) -> tuple[str, HpiConfig]:
    """The settings of high-performance inference, and their key."""
    key = "hpi_config" if "hpi_config" in values else "hpi_params"
    return key, values.get(key, HpiConfig())


def _backend(values: Mapping[str, Any]) -> BackendChoice | None:
    """What runs the model. PaddleX's high-performance inference is ``auto``, or the backend it names."""
    if "backend" in values:
        return values["backend"]
    asked, hpi_config = values.get("use_hpip"), _hpi_config(values)[1]
    if asked is False:
        return None
    for name in get_args(BackendName):
        if hpi_config.backend == name:
            return name
    return "auto" if asked or values.get("engine") == "hpi" else None


def _notices(values: Mapping[str, Any], engine_config: EngineConfig) -> Iterator[str]:
    """A sentence about each kind of settings that are not used."""
    key, hpi_config = _hpi_config(values)
    if key in values and ("backend" in values or values.get("use_hpip") is False):
        yield f"{key} is not used, because {'backend is set' if 'backend' in values else 'use_hpip is off'}."
    else:
        if hpi_config.backend not in (None, *get_args(BackendName)):
            names = ", ".join(get_args(BackendName))
            yield f"{key}: the backend {hpi_config.backend} is not offered, and not used. There are {names}."
        if unused := sorted(hpi_config.model_extra or ()):
            yield f"{key}: {', '.join(unused)} is not used; only backend is."
    if "pp_option" in values:
        yield "pp_option is not used. engine_config={'run_mode': 'mkldnn'} replaces it."
    if unused := sorted(engine_config.model_extra or ()):
        yield f"engine_config: {', '.join(unused)} is not used; only run_mode is."


SectionType = TypeVar("SectionType", bound=Section)


def _validate(
    kind: type[SectionType],
    data: Mapping[str, Any],
    place: str,
    lines: Mapping[str, int],
    overrides: Sequence[str] = (),
) -> SectionType:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(problem_texts(error, place, lines, overrides, root=kind))) from None


def _set_values(section: Section) -> dict[str, Any]:
    """The values of the keys that were set, and not to null."""
    values = {name: getattr(section, name) for name in type(section).model_fields}
    return {
        name: value
        for name, value in values.items()
        if name in section.model_fields_set and value is not None
    }


def _plain(value: Any) -> Any:
    """A value of a Python program as a file would have it: paths become texts."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
