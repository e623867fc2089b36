"""The sections of a configuration: every key with its type, its default and its meaning.

`docs/config.md` is written from the descriptions here.
"""

from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from paddlex_seg.config.values import (
    Addresses,
    BatchSize,
    Count,
    Device,
    Folds,
    Fraction,
    ImageSize,
    Inputs,
    Names,
    Percent,
    Positive,
    PositiveFloat,
    Precision,
    Ratio,
    SourceFormat,
    TargetFormat,
    Text,
)

SCRATCH = "scratch"  # as Train.pretrain_weight_path
MODES = ("check_dataset", "train", "evaluate", "export", "predict")


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
    src_dataset_type: SourceFormat | None = Field(
        default=None,
        description="Format to convert from: `LabelMe`, `VOC`, `YOLO`, `MaskPNG`; or `COCO` with "
        "`dst_dataset_type`.",
    )
    dst_dataset_type: TargetFormat = Field(
        default="COCO",
        description="Format to convert to. Other than `COCO`: the data set is written to "
        "`<Global.output>/check_dataset/` as `LabelMe`, `YOLO` or `MaskPNG`.",
    )


class SplitConfig(_Section):
    """A new division into train and val."""

    enable: bool = Field(default=False, description="Split before the check.")
    train_percent: Percent | None = Field(default=None, description="Share of the images to train on.")
    val_percent: Percent | None = Field(default=None, description="Share of the images to evaluate on.")
    test_percent: Percent | None = Field(
        default=None, description="Share of the images to keep apart in `instance_test.json`."
    )
    folds: Folds | None = Field(
        default=None,
        description="Instead of percents: the number of folds for cross-validation, each a data set of its "
        "own in `folds/`.",
    )
    seed: Count = Field(default=0, description="Seed of the division; the same one gives the same division.")
    group_by: Text | None = Field(
        default=None,
        description="What stays on one side: `folder`, `duplicates` (images that hardly differ), or a "
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
        description="How much of each image is read: its `header`; so much that images that hardly "
        "differ are found (`thumbnail`); or every pixel as in training (`full`).",
    )
    convert: ConvertConfig = ConvertConfig()
    split: SplitConfig = SplitConfig()
    fix: FixConfig = FixConfig()


class AugmentConfig(_Section):
    """Random changes of training images besides those of the model's recipe; masks stay exact."""

    large_scale_jitter: Fraction = Field(
        default=0.0,
        description="Share of the images that are shrunk or enlarged, 0.1 to 2 times, in their frame.",
    )
    mosaic: Fraction | None = Field(
        default=None,
        description="Share of the samples that show four images; null is what the model's recipe has: "
        "none, but for PP-YOLOE_seg from random weights.",
    )
    copy_paste: Fraction = Field(
        default=0.0, description="Share of the samples that get objects of another image pasted onto them."
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
        description="Images a step, per device; `auto` finds before the first epoch how many its memory "
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
        "`batch_size` images would.",
    )
    amp: Precision = Field(
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
        "image to it: a multiple of 32 for a square, or `[height, width]`. Mask R-CNN, Cascade Mask R-CNN "
        "and SOLOv2 keep the shape of an image: the limit of its short side (that of the long one is then "
        "1.67 times as large, as in the official 800 and 1333), or `[short, long]` with both limits.",
    )
    seed: Count = Field(default=0, description="Seed of everything that is random in training.")
    num_workers: Count = Field(default=2, description="Processes that read and augment images; 0 for none.")
    augment: AugmentConfig = AugmentConfig()
    repeat_threshold: Fraction | None = Field(
        default=None,
        description="Images of a class that fewer than this share of the images have come more often, "
        "such as 0.1; null for each image once an epoch.",
    )
    negatives_ratio: Ratio | None = Field(
        default=None,
        description="Most images without objects in an epoch, for each image with objects; null for all.",
    )
    max_bad_samples: Count = Field(
        default=10,
        description="Training images that may turn out to be unusable before the run ends; others take "
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
        description="With several processes: batch norms see the images of all of them. With `False` each "
        "process normalises by its own images, which is faster on the CPU.",
    )
    nnodes: Positive = Field(
        default=1, description="Machines to train or evaluate on; the same command runs on each."
    )
    master: Annotated[str, StringConstraints(pattern=r"^[^\s:,]+:\d+$")] | None = Field(
        default=None,
        description="With `nnodes`: address and a free port of the first machine, `10.0.0.1:6070`.",
    )
    dist_ips: Addresses | None = Field(
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
        default=1, description="Images evaluated together; does not change the result."
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
        default=1, description="Images predicted together; does not change the result."
    )
    model_dir: Text = Field(default="output/best_model/inference", description="Folder that `export` wrote.")
    input: Inputs | None = Field(
        default=None,
        description="An image, a folder, a pattern such as `photos/*.jpg`, a URL, or a list of these.",
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

    def with_batch_size(self, images: int) -> Self:
        """The same with another ``Train.batch_size``."""
        return self.model_copy(update={"Train": self.Train.model_copy(update={"batch_size": images})})

    def to_yaml(self) -> str:
        """The effective configuration, defaults included; `load_config` reads it back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
