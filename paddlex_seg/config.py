"""The configuration of a run: a short YAML file plus ``-o Section.key=value`` options, checked at once.

`load_config` reads both, checks everything and either returns a frozen `Config` or raises one `ConfigError`
that lists every problem with its place, what was found, what was expected and the nearest valid key.
"""

import ast
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from paddlex_seg.errors import ConfigError

SCRATCH = "scratch"  # as Train.pretrain_weight_path
MODES = ("check_dataset", "train", "evaluate", "export", "predict")
PACKAGE_DIR = Path(__file__).resolve().parent
CONFIG_DIRS = (PACKAGE_DIR / "configs", PACKAGE_DIR.parent / "configs")  # installed wheel, source checkout
DEVICE_PATTERN = re.compile(r"auto|cpu|(gpu|npu|xpu|mlu)(:\d+(,\d+)*)?")


def _reject_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")
    return value


def _device(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    text = re.sub(r"^cuda(?=$|:)", "gpu", text)
    if not DEVICE_PATTERN.fullmatch(text):
        raise ValueError("expected auto, cpu, gpu, gpu:0 or gpu:0,1 (likewise npu, xpu, mlu)")
    return text


def _image_size(value: Any) -> Any:
    """One number or two. What they mean, and whether they must be multiples of 32, is up to the recipe."""
    sides = value if isinstance(value, list | tuple) else [value]
    whole = [int(side) for side in sides if str(side).isdigit()]
    expected = 2 if isinstance(value, list | tuple) else 1
    if not len(sides) == len(whole) == expected or min(whole) < 32:
        raise ValueError("expected a size of 32 pixels or more, or two, such as 640 or [480, 640]")
    return whole[0] if expected == 1 else tuple(whole)


def _inputs(value: Any) -> Any:
    items = value if isinstance(value, list | tuple) else [value]
    if not items or not all(isinstance(item, str) and item for item in items):
        raise ValueError("expected a file, a folder, a pattern, a URL, or a list of these")
    return tuple(items)


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _amp(value: Any) -> Any:
    """YAML reads OFF as false."""
    if value is False:
        return "OFF"
    if value == "O2":
        raise ValueError(
            "O2 keeps the weights themselves in 16 bits, which is not supported; O1 computes convolutions "
            "and products of matrices in 16 bits, too"
        )
    return value


def _addresses(value: Any) -> Any:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(
        isinstance(item, str) and item.strip() for item in items
    ):
        raise ValueError("expected the addresses of the machines, such as 10.0.0.1,10.0.0.2")
    return tuple(item.strip() for item in items)


SourceFormat = Literal["LabelMe", "VOC", "YOLO", "MaskPNG", "COCO"]
TargetFormat = Literal["COCO", "LabelMe", "YOLO", "MaskPNG"]


def _format(value: Any) -> Any:
    """The name of an annotation format, whatever its case and hyphens."""
    names = {name.lower(): name for name in get_args(SourceFormat)}
    return names.get(re.sub(r"[-_ ]", "", value).lower(), value) if isinstance(value, str) else value


def _batch_size(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() == "auto":
        return "auto"
    if not str(value).isdecimal() or int(value) < 1:
        raise ValueError("expected a number of pictures, 1 or more, or auto")
    return int(value)


Count = Annotated[int, BeforeValidator(_reject_bool), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(_reject_bool), Field(ge=1)]
PositiveFloat = Annotated[float, BeforeValidator(_reject_bool), Field(gt=0)]
Fraction = Annotated[float, BeforeValidator(_reject_bool), Field(ge=0, le=1)]
Percent = Annotated[int, BeforeValidator(_reject_bool), Field(ge=0, le=100)]
Text = Annotated[
    str,
    BeforeValidator(
        lambda value: str(value) if type(value) in (int, float) else value
    ),  # a folder called 2024
    StringConstraints(min_length=1),
]
Names = Annotated[tuple[Text, ...], BeforeValidator(_names)]
Device = Annotated[str, BeforeValidator(_device)]
ImageSize = Annotated[int | tuple[int, int], BeforeValidator(_image_size)]
BatchSize = Annotated[int | Literal["auto"], BeforeValidator(_batch_size)]
Inputs = Annotated[tuple[str, ...], BeforeValidator(_inputs)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class GlobalConfig(_Section):
    """What every mode needs."""

    model: Text = Field(description="Name of the model, a row of `docs/models.md`.")
    mode: Literal["check_dataset", "train", "evaluate", "export", "predict"] = Field(
        default="check_dataset", description="What to do."
    )
    dataset_dir: Text = Field(
        default="dataset/instance_seg_coco_examples",
        description="Folder with `images/` and `annotations/instance_train.json`, `instance_val.json`.",
    )
    device: Device = Field(
        default="auto",
        description="`auto` (a GPU if one is usable, else the CPU), `cpu`, `gpu:0`, `gpu:0,1`, `npu:0`, "
        "`xpu:0`, `mlu:0`.",
    )
    output: Text = Field(default="output", description="Folder of all results; made when missing.")


class ConvertConfig(_Section):
    """Conversion from and to other annotation formats."""

    enable: bool = Field(default=False, description="Convert before the check.")
    src_dataset_type: Annotated[SourceFormat, BeforeValidator(_format)] | None = Field(
        default=None,
        description="Format to convert from: `LabelMe`, `VOC`, `YOLO`, `MaskPNG`; or `COCO` with "
        "`dst_dataset_type`.",
    )
    dst_dataset_type: Annotated[TargetFormat, BeforeValidator(_format)] = Field(
        default="COCO",
        description="Format to convert to. Other than `COCO`: the data set is written to "
        "`<Global.output>/check_dataset/` as `LabelMe`, `YOLO` or `MaskPNG`.",
    )


class SplitConfig(_Section):
    """A new division into train and val."""

    enable: bool = Field(default=False, description="Split before the check.")
    train_percent: Percent | None = Field(default=None, description="Share of the pictures to train on.")
    val_percent: Percent | None = Field(default=None, description="Share of the pictures to evaluate on.")
    test_percent: Percent | None = Field(
        default=None, description="Share of the pictures to keep apart in `instance_test.json`."
    )
    folds: Annotated[int, BeforeValidator(_reject_bool), Field(ge=2)] | None = Field(
        default=None,
        description="Instead of percents: the number of folds for cross-validation, each a data set of its "
        "own in `folds/`.",
    )
    seed: Count = Field(default=0, description="Seed of the division; the same one gives the same division.")
    group_by: Text | None = Field(
        default=None,
        description="What stays on one side: `folder`, `duplicates` (pictures that hardly differ), or a "
        "regular expression whose groups, or whose match, in the file name is the scene.",
    )


class FixConfig(_Section):
    """Repair of what can be repaired without guessing."""

    enable: bool = Field(default=False, description="Write a repaired copy and check that.")
    dst_dir: Text | None = Field(
        default=None, description="Folder of the repaired copy; `<dataset_dir>_fixed` when left out."
    )


class CheckDatasetConfig(_Section):
    """Mode `check_dataset`."""

    decode: Literal["header", "thumbnail", "full"] = Field(
        default="thumbnail",
        description="How much of each picture is read: its `header`; so much that pictures that hardly "
        "differ are found (`thumbnail`); or every pixel as in training (`full`).",
    )
    convert: ConvertConfig = ConvertConfig()
    split: SplitConfig = SplitConfig()
    fix: FixConfig = FixConfig()


class AugmentConfig(_Section):
    """Random changes of training pictures besides those of the model's recipe; masks stay exact."""

    large_scale_jitter: Fraction = Field(
        default=0.0,
        description="Share of the pictures that are shrunk or enlarged, 0.1 to 2 times, in their frame.",
    )
    mosaic: Fraction | None = Field(
        default=None,
        description="Share of the samples that show four pictures; null is what the model's recipe has: "
        "none, but for PP-YOLOE_seg from random weights.",
    )
    copy_paste: Fraction = Field(
        default=0.0, description="Share of the samples that get objects of another picture pasted onto them."
    )
    plain_share: Fraction = Field(
        default=0.2, description="Share of the run, at its end, without mosaic and copy-paste."
    )


class TrainConfig(_Section):
    """Mode `train`."""

    num_classes: Positive | None = Field(
        default=None, description="Number of classes; read from the data when left out, checked when given."
    )
    epochs_iters: Positive = Field(default=40, description="Epochs to train; the whole schedule follows it.")
    batch_size: BatchSize = Field(
        default=2,
        description="Pictures a step, per device; `auto` finds before the first epoch how many its memory "
        "has room for.",
    )
    learning_rate: PositiveFloat = Field(default=0.001, description="Learning rate after the warm-up.")
    pretrain_weight_path: Text | None = Field(
        default=None,
        description="Weights to start from: a `.pdparams` or `.safetensors` file, a URL, or `scratch` for "
        "random weights; null means the official weights of the model.",
    )
    warmup_steps: Count = Field(
        default=100, description="Steps of linear warm-up; never more than a third of the run."
    )
    resume: Text | None = Field(
        default=None,
        description="What to continue: `auto` is the newest sound checkpoint in `Global.output`, or a new "
        "run where there is none; else the folder of a checkpoint, its `.pdparams` file, or the output "
        "folder of a run.",
    )
    resume_path: Text | None = Field(default=None, description="PaddleX's name for `Train.resume`.")
    save_interval: Positive | None = Field(
        default=None, description="Steps between two checkpoints, besides the one after each evaluation."
    )
    keep_last: Positive = Field(
        default=2, description="Checkpoints to keep, besides the best one; older ones are deleted."
    )
    accumulate_steps: Positive = Field(
        default=1,
        description="Batches whose gradients make one step of the optimizer, as one batch of that many times "
        "`batch_size` pictures would.",
    )
    amp: Annotated[Literal["OFF", "O1"], BeforeValidator(_amp)] = Field(
        default="OFF",
        description="`O1`: convolutions and products of matrices in 16 bits, on GPUs and their like; the CPU "
        "stays with 32.",
    )
    amp_dtype: Literal["float16", "bfloat16"] = Field(
        default="float16", description="The 16 bits of `amp`; `bfloat16` needs no scaling of the loss."
    )
    freeze: Names = Field(
        default=(),
        description="Parts of the model that do not train: names of modules or parameters, `*` for anything, "
        "such as `backbone` or `[backbone.stem, '*.norm*']`.",
    )
    lr_factors: dict[str, PositiveFloat] = Field(
        default={},
        description="Factors on the learning rate of parts of the model, by names as in `freeze`: "
        "`{backbone: 0.1}`.",
    )
    early_stop: Positive | None = Field(
        default=None, description="Evaluations without a better mask AP after which the run ends."
    )
    time_budget: PositiveFloat | None = Field(
        default=None,
        description="Minutes that training and its evaluations may take: the number of epochs follows it "
        "instead of `epochs_iters`.",
    )
    self_check: bool = Field(
        default=True,
        description="Before the first epoch, do everything once: a batch forward and backward, an "
        "evaluation, an export.",
    )
    log_interval: Positive = Field(default=10, description="Steps between two lines in the log.")
    eval_interval: Positive = Field(default=1, description="Epochs between two evaluations.")
    image_size: ImageSize | None = Field(
        default=None,
        description="Input size; the model's own when left out. PP-YOLOE_seg and Mask-RT-DETR stretch every "
        "picture to it: a multiple of 32 for a square, or `[height, width]`. Mask R-CNN, Cascade Mask R-CNN "
        "and SOLOv2 keep the shape of a picture: the limit of its short side (that of the long one is then "
        "1.67 times as large, as in the official 800 and 1333), or `[short, long]` with both limits.",
    )
    seed: Count = Field(default=0, description="Seed of everything that is random in training.")
    num_workers: Count = Field(default=2, description="Processes that read and augment pictures; 0 for none.")
    augment: AugmentConfig = AugmentConfig()
    repeat_threshold: Fraction | None = Field(
        default=None,
        description="Pictures of a class that fewer than this share of the pictures have come more often, "
        "such as 0.1; null for each picture once an epoch.",
    )
    negatives_ratio: Annotated[float, BeforeValidator(_reject_bool), Field(ge=0)] | None = Field(
        default=None,
        description="Most pictures without objects in an epoch, for each picture with objects; null for all.",
    )
    max_bad_samples: Count = Field(
        default=10,
        description="Training pictures that may turn out to be unusable before the run ends; others take "
        "their place.",
    )
    tensorboard: bool = Field(
        default=False,
        description="Also write records for TensorBoard: `pip install paddlex_seg[tensorboard]`.",
    )
    visualdl: bool = Field(
        default=False, description="Also write records for VisualDL: `pip install paddlex_seg[visualdl]`."
    )
    num_processes: Positive = Field(
        default=1,
        description="With `Global.device: cpu`: processes to train or evaluate with on this machine, which "
        "share its cores out. On other devices there is one for each device.",
    )
    sync_bn: bool = Field(
        default=True,
        description="With several processes: batch norms see the pictures of all of them. With `False` each "
        "process normalises by its own pictures, which is faster on the CPU.",
    )
    nnodes: Positive = Field(
        default=1, description="Machines to train or evaluate on; the same command runs on each."
    )
    master: Annotated[str, StringConstraints(pattern=r"^[^\s:,]+:\d+$")] | None = Field(
        default=None,
        description="With `nnodes`: address and a free port of the first machine, `10.0.0.1:6070`.",
    )
    dist_ips: Annotated[tuple[str, ...], BeforeValidator(_addresses)] | None = Field(
        default=None,
        description="Instead of `nnodes` and `master`: the addresses of all machines, `10.0.0.1,10.0.0.2`; "
        "the first one is the master.",
    )

    @model_validator(mode="after")
    def _one_name_for_resuming(self) -> Self:
        if self.resume is not None and self.resume_path is not None:
            raise ValueError("resume and resume_path mean the same; give one of them")
        return self

    @property
    def from_scratch(self) -> bool:
        """Whether the first weights are random. A resumed run keeps the answer of its beginning."""
        return self.pretrain_weight_path == SCRATCH

    @property
    def resumes_from(self) -> str | None:
        """`resume`, by either of its names."""
        return self.resume if self.resume is not None else self.resume_path


class EvaluateConfig(_Section):
    """Mode `evaluate`."""

    weight_path: Text = Field(
        default="output/best_model/best_model.pdparams", description="The `.pdparams` file of a checkpoint."
    )
    log_interval: Positive = Field(default=10, description="Batches between two lines in the log.")
    batch_size: Positive = Field(
        default=1, description="Pictures evaluated together; does not change the result."
    )


class ExportConfig(_Section):
    """Mode `export`."""

    weight_path: Text = Field(
        default="output/best_model/best_model.pdparams",
        description="The `.pdparams` file of a checkpoint, or the URL of official weights (80 COCO classes).",
    )


class KernelOptionConfig(_Section):
    """How the exported model is run."""

    run_mode: Literal["paddle", "mkldnn"] = Field(
        default="paddle", description="`paddle`, or `mkldnn` for oneDNN kernels on the CPU."
    )


class PredictConfig(_Section):
    """Mode `predict`."""

    batch_size: Positive = Field(
        default=1, description="Pictures predicted together; does not change the result."
    )
    model_dir: Text = Field(default="output/best_model/inference", description="Folder that `export` wrote.")
    input: Inputs | None = Field(
        default=None,
        description="A picture, a folder, a pattern such as `photos/*.jpg`, a URL, or a list of these.",
    )
    threshold: Fraction | None = Field(
        default=None, description="Lowest score to keep; the threshold stored with the model when left out."
    )
    kernel_option: KernelOptionConfig = KernelOptionConfig()


class Config(_Section):
    """A whole run. Sections and keys are those of PaddleX; `docs/config.md` lists them with their meaning."""

    Global: GlobalConfig
    CheckDataset: CheckDatasetConfig = CheckDatasetConfig()
    Train: TrainConfig = TrainConfig()
    Evaluate: EvaluateConfig = EvaluateConfig()
    Export: ExportConfig = ExportConfig()
    Predict: PredictConfig = PredictConfig()

    def with_batch_size(self, pictures: int) -> Self:
        """The same with another ``Train.batch_size``."""
        return self.model_copy(update={"Train": self.Train.model_copy(update={"batch_size": pictures})})

    def to_yaml(self) -> str:
        """The effective configuration, defaults included; `load_config` reads it back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


# Keys that PaddleX understands and this toolkit deliberately does not, with what to do instead.
RETIRED_KEYS = {
    "Train.dy2st": "training runs in dynamic mode; remove the key",
    "Train.uniform_output_enabled": "the uniform output layout is always on; remove the key",
    "Train.basic_config_path": "there is no second configuration file behind this one; remove the key",
    "Evaluate.basic_config_path": "there is no second configuration file behind this one; remove the key",
    "Export.basic_config_path": "there is no second configuration file behind this one; remove the key",
    "Global.export_with_pir": "models are always exported in Paddle 3's JSON format; remove the key",
    "Benchmark": "this section of PaddleX has no use here; remove it",
}


def find_config(name: str) -> Path:
    """The file meant by ``-c``: an existing path, else the shipped file of that name in any folder."""
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
        f"{name}: there is no such file, and no shipped configuration of that name.{_suggest(base, shipped)} "
        f"Shipped are: {', '.join(sorted(shipped))}."
    )


def read_config(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The YAML file with the ``-o`` options applied, not checked yet.

    Raises ConfigError when the file is not a YAML mapping or an option has not the form ``key=value``.
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
    """Check what `read_config` gave. Raises one ConfigError with all problems."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        places = _Places(path, overrides)
        lines = [_problem_to_text(problem, places) for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def load_config(name: str, overrides: Sequence[str] = ()) -> Config:
    """Find, read, override and check a configuration; see the module's first lines."""
    path = find_config(name)
    return validate_config(read_config(path, overrides), path, overrides)


def parse_value(text: str) -> Any:
    """The value of an ``-o`` option: a YAML or Python literal where it reads as one, else the text itself.

    ``None``, ``null`` and ``~`` are null; ``1e-4`` is a number; lists and mappings may be written either way.
    ``gpu:0,1``, URLs, paths and ``on`` stay text. Nothing is ever evaluated.
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
    """Set one value in place. Returns what is wrong with the option, if anything."""
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
            return (
                f"-o {option}: {'.'.join(parts[:depth])} is a value ({child!r}), it has no keys of its own."
            )
        node = child
    node[parts[-1]] = parse_value(text)
    return None


def _none_strings_to_null(value: Any) -> Any:
    """``None`` in a YAML file is the text "None"; users of PaddleX mean null."""
    if isinstance(value, dict):
        return {key: _none_strings_to_null(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_none_strings_to_null(item) for item in value]
    return None if value == "None" else value


class _Places:
    """Where a key was set: an ``-o`` option, a line of the file, or only the file."""

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
    """The nearest key of the same section, else the same last word in another section."""
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


def _suggest(word: str, valid: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""
