"""The configuration keys: type, default and meaning of each.

`python docs/generate.py` writes `docs/config.md` from the descriptions in this file.
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from paddlex_seg.config.values import (
    Addresses,
    AnyNumber,
    Backends,
    BatchSize,
    Classes,
    Count,
    Device,
    Epochs,
    Factors,
    Folds,
    Fraction,
    Fractions,
    Images,
    ImageSize,
    Inputs,
    Master,
    Minutes,
    Names,
    PathText,
    Percent,
    Places,
    Port,
    Ports,
    Positive,
    Precision,
    Processes,
    Rate,
    Ratio,
    Seconds,
    Seed,
    SourceFormat,
    Switch,
    TargetFormat,
    Text,
    Threshold,
    ValueRange,
    Workers,
)
from paddlex_seg.config.yaml_text import dump_yaml
from paddlex_seg.structures import BackendChoice, Bands, RunMode
from paddlex_seg.structures import Precision as BackendPrecision

SCRATCH = "scratch"  # the value of Train.pretrain_weight_path that means random weights
MODES = ("check_dataset", "train", "evaluate", "export", "predict")


class Section(BaseModel):
    """Keys with values."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _mapping(cls, content: Any) -> Any:
        """An empty section of a file is None. It sets nothing."""
        if content is not None and not isinstance(content, dict | BaseModel):
            raise ValueError("expected a section: keys with values, below it and indented")
        return content or {}


class BandsConfig(Section):
    """How images with more than 8 bits or 3 bands are read. The file ``bands.yaml`` has the same keys."""

    red: Positive
    green: Positive
    blue: Positive
    range: ValueRange | None = None
    stretch: ValueRange | None = None
    nodata: AnyNumber | None = None

    @model_validator(mode="after")
    def _make_sense(self) -> Self:
        self.to_bands()
        return self

    def to_bands(self) -> Bands:
        """The setting as the rest of the toolkit uses it. Raises ValueError if it makes no sense."""
        pairs = self.range and (self.range * 3 if len(self.range) == 1 else self.range)
        if self.stretch is not None and len(self.stretch) != 1:
            raise ValueError("stretch: expected two percentiles such as [2, 98]")
        return Bands(
            red=self.red,
            green=self.green,
            blue=self.blue,
            range=pairs,
            stretch=None if self.stretch is None else self.stretch[0],
            nodata=self.nodata,
        )


class GlobalConfig(Section):
    """Keys of every mode."""

    model: Text = Field(description="Model name, one of those in `docs/models.md`.")
    mode: Literal[
        "check_dataset",
        "train",
        "folds",
        "evaluate",
        "compare",
        "label_review",
        "export",
        "predict",
        "benchmark",
        "serve",
    ] = Field(
        default="check_dataset",
        description="What to run: `check_dataset`, `train`, `folds`, `evaluate`, `compare`, `label_review`, "
        "`export`, `predict` or `serve`.",
    )
    dataset_dir: PathText = Field(
        default="dataset/instance_seg_coco_examples",
        description="Dataset folder. It contains `images/`, `annotations/instance_train.json` and "
        "`annotations/instance_val.json`. Mode `check_dataset` with `CheckDataset.convert` also takes the "
        "export of an annotation tool, or its zip archive.",
    )
    device: Device = Field(
        default="auto",
        description="Device: `cpu`, `gpu:0`, `gpu:0,1` (two GPUs), `npu:0`, `xpu:0` or `mlu:0`. `auto`: a "
        "GPU if one is usable, otherwise the CPU.",
    )
    output: PathText = Field(
        default="output", description="Output folder for all results. It is created if it does not exist."
    )
    max_detections: Positive | None = Field(
        default=None,
        description="Maximum number of objects that a model finds in an image, in evaluation and in the "
        "exported model. null: 300 for PP-YOLOE_seg, 100 for the other models. Mask-RT-DETR allows up to "
        "300, Mask R-CNN and Cascade Mask R-CNN 1000, SOLOv2 2000, PP-YOLOE_seg the number of its grid "
        "cells (8400 for inputs of 640 x 640 pixels).",
    )
    max_image_pixels: Positive = Field(
        default=178_956_970,
        description="Largest number of pixels of an image, height x width, in every mode. Larger images are "
        "reported: a small file can unpack to more pixels than fit into memory. There is no limit of the "
        "sides. Raise it for larger images.",
    )
    bands: BandsConfig | None = Field(
        default=None,
        description="How images with more than 8 bits or 3 bands are read, such as `{red: 4, green: 3, "
        "blue: 2, range: [0, 3000], nodata: 0}`: the numbers of the bands, from 1; `range`, the values that "
        "become 0 and 255, or `stretch`, the same as percentiles of each image; the value without data. "
        "null: as `bands.yaml` in the dataset says, or as any image. See `docs/bands.md`.",
    )


class ConvertConfig(Section):
    """Conversion from and to other annotation formats."""

    enable: Switch = Field(default=False, description="Convert the annotations before the check.")
    src_dataset_type: SourceFormat | None = Field(
        default=None,
        description="Source format: `LabelMe`, `VOC`, `YOLO`, `MaskPNG` or `COCO`; `auto` to recognise it. "
        "`docs/annotate.md` lists the tools.",
    )
    dst_dir: PathText | None = Field(
        default=None,
        description="Folder of the converted dataset. null: `<Global.output>/dataset`, and for LabelMe files "
        "beside a folder `images/`, the folder of the source. A source in another layout is never changed.",
    )
    dst_dataset_type: TargetFormat = Field(
        default="COCO",
        description="Target format: `COCO`, `LabelMe`, `YOLO` or `MaskPNG`. A dataset in a format other than "
        "`COCO` is written to `<Global.output>/check_dataset/`.",
    )


class SplitConfig(Section):
    """A new split into train, val and test."""

    enable: Switch = Field(default=False, description="Split the dataset again before the check.")
    train_percent: Percent | None = Field(
        default=None, description="Percentage of the images in the train split."
    )
    val_percent: Percent | None = Field(
        default=None, description="Percentage of the images in the val split."
    )
    test_percent: Percent | None = Field(
        default=None, description="Percentage of the images in the test split, `instance_test.json`."
    )
    folds: Folds | None = Field(
        default=None,
        description="Number of cross-validation folds, instead of the percentages. Each fold is written to "
        "`folds/` as a separate dataset.",
    )
    seed: Seed = Field(default=0, description="Random seed of the split. The same seed gives the same split.")
    group_by: Text | None = Field(
        default=None,
        description="Keeps related images in the same split: `folder` (images of one folder), `duplicates` "
        "(near-duplicate images), or a regular expression. Images belong together if its capturing groups "
        "(without groups: its whole match) are the same in their file names.",
    )


class FixConfig(Section):
    """Automatic repair of problems that need no guessing."""

    enable: Switch = Field(
        default=False, description="Write a repaired copy of the dataset and check the copy."
    )
    dst_dir: PathText | None = Field(
        default=None, description="Folder of the repaired copy. null: `<dataset_dir>_fixed`."
    )
    allow_loss: Switch = Field(
        default=False,
        description="Let the check pass although the repair removed more than 5 % of the objects or images.",
    )


class CheckDatasetConfig(Section):
    """Mode `check_dataset`."""

    decode: Literal["header", "thumbnail", "full"] = Field(
        default="thumbnail",
        description="How much of each image file is decoded. `header`: only the size. `thumbnail`: a small "
        "version, enough to find near-duplicate images. `full`: all pixels, as in training.",
    )
    convert: ConvertConfig = ConvertConfig()
    split: SplitConfig = SplitConfig()
    fix: FixConfig = FixConfig()


class AugmentConfig(Section):
    """Augmentation in addition to that of the model's recipe. Masks stay exact."""

    large_scale_jitter: Fraction = Field(
        default=0.0,
        description="Probability of large scale jitter: the image is scaled by 0.1 to 2, then cropped or "
        "padded to its original size.",
    )
    mosaic: Fraction | None = Field(
        default=None,
        description="Probability that a sample is a mosaic of four images. null: 0, except 0.6 for "
        "PP-YOLOE_seg from random weights.",
    )
    copy_paste: Fraction = Field(
        default=0.0, description="Probability that objects of another image are pasted onto a sample."
    )
    plain_share: Fraction = Field(
        default=0.2,
        description="Mosaic and copy-paste are off for this fraction of the epochs at the end of training.",
    )


class TrainConfig(Section):
    """Mode `train`."""

    num_classes: Classes | None = Field(
        default=None,
        description="Number of classes. null: read from the dataset. A number must match the dataset.",
    )
    epochs_iters: Epochs = Field(
        default=40,
        description="Number of epochs. The learning rate schedule is stretched to this length.",
    )
    batch_size: BatchSize = Field(
        default=2,
        description="Batch size per device. `auto`: measure memory before the first epoch and choose a batch "
        "size that fits.",
    )
    learning_rate: Rate = Field(default=0.001, description="Learning rate after warm-up.")
    pretrain_weight_path: PathText | None = Field(
        default=None,
        description="Pretrained weights: a `.pdparams` or `.safetensors` file, a URL, or `scratch` for "
        "random weights. null: the official weights of the model.",
    )
    warmup_steps: Count = Field(
        default=100, description="Steps of linear warm-up, limited to a third of all training steps."
    )
    resume: PathText | None = Field(
        default=None,
        description="Checkpoint to resume from: a checkpoint folder, its `.pdparams` file, or the output "
        "folder of a run. `auto`: the newest undamaged checkpoint in `Global.output`; if there is no "
        "checkpoint, training starts from the beginning.",
    )
    resume_path: PathText | None = Field(
        default=None, description="The same as `Train.resume`, under the name that PaddleX uses."
    )
    save_interval: Positive | None = Field(
        default=None,
        description="Save a checkpoint every this many steps, in addition to the one after each evaluation.",
    )
    keep_last: Positive = Field(
        default=2,
        description="Number of newest checkpoints to keep. The best one is kept too; older ones are deleted.",
    )
    accumulate_steps: Images = Field(
        default=1,
        description="Gradient accumulation: number of batches per optimizer step. The result is that of a "
        "batch of `accumulate_steps` x `batch_size` images, except for batch norm.",
    )
    amp: Precision = Field(
        default="OFF",
        description="Mixed precision. `O1`: convolutions and matrix products run in 16 bits. The CPU always "
        "uses float32.",
    )
    amp_dtype: Literal["float16", "bfloat16"] = Field(
        default="float16",
        description="16-bit type of `amp`. `float16` uses loss scaling; `bfloat16` does not need it.",
    )
    freeze: Names = Field(
        default=(),
        description="Layers or parameters to freeze, by name; `*` matches any text. Examples: `backbone`, "
        "`[backbone.stem, '*.norm*']`.",
    )
    lr_factors: Factors = Field(
        default={},
        description="Learning rate factors for parts of the model, with names as in `freeze`. Example: "
        "`{backbone: 0.1}`.",
    )
    early_stop: Positive | None = Field(
        default=None,
        description="Stop training after this many evaluations without a better mask AP. null: never.",
    )
    time_budget: Minutes | None = Field(
        default=None,
        description="Time limit in minutes for training and its evaluations. The number of epochs is chosen "
        "to fit and replaces `epochs_iters`.",
    )
    self_check: Switch = Field(
        default=True,
        description="Test run before the first epoch: one forward and backward pass, one evaluation and one "
        "export, so that errors in later stages show up at once.",
    )
    log_interval: Positive = Field(default=10, description="Write a log line every this many steps.")
    eval_interval: Positive | None = Field(
        default=None,
        description="Evaluate every this many epochs. null: every epoch, or less often where evaluations "
        "would take more than 15 % of the time of the training steps.",
    )
    image_size: ImageSize | None = Field(
        default=None,
        description="Input size in pixels. null: the default of the model. PP-YOLOE_seg and Mask-RT-DETR "
        "resize every image to exactly this size: one number for a square or `[height, width]`, in multiples "
        "of 32. Mask R-CNN, Cascade Mask R-CNN and SOLOv2 keep the aspect ratio: `[short, long]` are the "
        "limits of the short and the long side. One number is the limit of the short side; the limit of the "
        "long side is then 1.67 times as large (officially 800 and 1333).",
    )
    seed: Seed = Field(default=0, description="Random seed of training.")
    num_workers: Workers = Field(
        default=2,
        description="Number of worker processes that load and augment images. 0: the training process "
        "does it.",
    )
    augment: AugmentConfig = AugmentConfig()
    repeat_threshold: Fraction | None = Field(
        default=None,
        description="Oversample images of rare classes: classes present in less than this fraction of the "
        "images, such as 0.1. null: every image once per epoch.",
    )
    negatives_ratio: Ratio | None = Field(
        default=None,
        description="Maximum number of images without objects per image with objects in an epoch. null: no "
        "maximum.",
    )
    max_bad_samples: Count = Field(
        default=10,
        description="Maximum number of unusable training images. Up to this number they are replaced by "
        "other images; with more, training stops with an error.",
    )
    tensorboard: Switch = Field(
        default=False,
        description="Also write TensorBoard logs. Needs `pip install paddlex_seg[tensorboard]`.",
    )
    visualdl: Switch = Field(
        default=False,
        description="Also write VisualDL logs. Needs `pip install paddlex_seg[visualdl]`.",
    )
    num_processes: Processes = Field(
        default=1,
        description="Number of processes for training and evaluation with `Global.device: cpu`. They share "
        "the cores of the machine. On other devices there is always one process per device.",
    )
    sync_bn: Switch = Field(
        default=True,
        description="Synchronize batch norm across processes in training. `False`: each process uses only "
        "its own images, which is faster on the CPU.",
    )
    nnodes: Processes = Field(
        default=1,
        description="Number of machines for training and evaluation. Run the same command on each of them.",
    )
    master: Master | None = Field(
        default=None,
        description="With `nnodes`: address and free port of the first machine, such as `10.0.0.1:6070`.",
    )
    dist_ips: Addresses | None = Field(
        default=None,
        description="Addresses of all machines, such as `10.0.0.1,10.0.0.2`, instead of `nnodes` and "
        "`master`. The first one is the master.",
    )

    @field_validator("resume_path")
    @classmethod
    def _one_name_for_resuming(cls, path: str | None, info: ValidationInfo) -> str | None:
        if path is not None and info.data.get("resume") is not None:
            raise ValueError("resume and resume_path mean the same; set only one of them")
        return path

    @property
    def from_scratch(self) -> bool:
        """Whether training starts from random weights. Resuming must not change this."""
        return self.pretrain_weight_path == SCRATCH

    @property
    def resumes_from(self) -> str | None:
        """The value of `resume` or `resume_path`, whichever is set."""
        return self.resume if self.resume is not None else self.resume_path


class EvaluateConfig(Section):
    """Mode `evaluate`."""

    weight_path: PathText | None = Field(
        default=None,
        description="Weights to evaluate: the `.pdparams` file of a checkpoint. null: the best model of the "
        "run in `Global.output`; if that folder holds no run, of the run in `output`.",
    )
    backend: BackendChoice | None = Field(
        default=None,
        description="Evaluate the exported model in `Evaluate.model_dir` with this library instead of "
        "weights; `auto`: the fastest that is proven on this machine. null: evaluate `Evaluate.weight_path`.",
    )
    model_dir: PathText | None = Field(
        default=None,
        description="Folder of the exported model, with `Evaluate.backend`. null: `best_model/inference` of "
        "the run in `Global.output`; if that folder holds no run, of the run in `output`.",
    )
    predictions: PathText | None = Field(
        default=None,
        description="Evaluate the detections in this file instead of a model: COCO's result format, of any "
        "tool. Neither Paddle nor images are needed. null: evaluate a model.",
    )
    annotations: PathText | None = Field(
        default=None,
        description="COCO annotation file to compare with, instead of one of `Global.dataset_dir`. Its "
        "images are searched in `images/` beside it or beside its folder, and in these folders.",
    )
    split: Literal["train", "val", "test"] = Field(
        default="val", description="Part of `Global.dataset_dir` to evaluate on: `train`, `val` or `test`."
    )
    write_thresholds: Switch = Field(
        default=False,
        description="Write the best score threshold of each class into the exported model as its default.",
    )
    page: Switch = Field(default=True, description="Also write a page with the results, `evaluation.html`.")
    bootstraps: Count = Field(
        default=1000,
        description="Number of resamples of the images, from which 95 % intervals are computed. 0: none.",
    )
    log_interval: Positive = Field(default=10, description="Write a log line every this many batches.")
    batch_size: Images = Field(default=1, description="Batch size. It does not change the result.")


class CompareConfig(Section):
    """Mode `compare`. The data set is that of `Evaluate.annotations` or `Evaluate.split`."""

    sources: Places = Field(
        default=(),
        description="What is compared, two or more: files of detections in COCO's result format, output "
        "folders of `evaluate` or `train`, weights, or folders of exported models. The others are compared "
        "with the first one. One is enough with several thresholds or backends.",
    )
    names: Names = Field(default=(), description="Names of the sources in results. `[]`: from their paths.")
    thresholds: Fractions | None = Field(
        default=None,
        description="For each source (or one for all): detections with a higher score are compared. null: "
        "all.",
    )
    backends: Backends | None = Field(
        default=None,
        description="For each source (or one for all), if these are exported models: what runs them, as "
        "`Evaluate.backend`. null: `paddle`.",
    )


class FoldsConfig(Section):
    """Mode `folds`. Trainings are set in `Train`; `CheckDataset.split` has the seed and `group_by`."""

    number: Folds = Field(
        default=5, description="Number of folds. Each of them is a training on all images outside of it."
    )


class LabelReviewConfig(Section):
    """Mode `label_review`. The labels are those of `Evaluate.annotations` or `Evaluate.split`."""

    predictions: PathText | None = Field(
        default=None,
        description="Detections with masks, in COCO's result format, of a model that was not trained on "
        "these images. null: in `Global.output`, `segm_<split>.json` of mode `folds`, else `segm.json` of "
        "mode `evaluate`.",
    )
    max_suspects: Positive = Field(
        default=100, description="Number of suspects to write, the most suspicious ones."
    )
    apply: Switch = Field(
        default=False,
        description="Read the corrected folder `label_review` in `Global.output` back into the annotation "
        "file. The old file is kept as `.bak`.",
    )


class ExportConfig(Section):
    """Mode `export`."""

    weight_path: PathText | None = Field(
        default=None,
        description="Weights to export: the `.pdparams` file of a checkpoint, or the URL of official weights "
        "(80 COCO classes). null: as for `Evaluate.weight_path`.",
    )
    onnx: Switch | None = Field(
        default=None,
        description="Also write `network.onnx`, for ONNX Runtime and OpenVINO. Needs "
        "`pip install paddlex_seg[convert]`. null: if that is installed.",
    )
    int8: Switch = Field(
        default=False,
        description="Also write an 8-bit network (`Predict.precision: int8`), calibrated with the train "
        "images of `Global.dataset_dir`, if it costs at most 0.01 of the mask AP on its val images. "
        "PP-YOLOE_seg-S and Mask-RT-DETR-S only.",
    )
    edge: Switch = Field(
        default=False,
        description="Also write a network for phones and browsers, `network_edge.onnx`; with `Export.int8` "
        "also in 8 bits. PP-YOLOE_seg-S only.",
    )


class KernelOptionConfig(Section):
    """How the exported model is run."""

    run_mode: RunMode = Field(
        default="paddle",
        description="Kernels of the backend `paddle`: `paddle`; `mkldnn` for oneDNN on the CPU; `trt_fp32` "
        "or `trt_fp16` for TensorRT on a GPU, where Paddle has it.",
    )


class PredictConfig(Section):
    """Mode `predict`."""

    batch_size: Images = Field(default=1, description="Batch size. It does not change the result.")
    model_dir: PathText | None = Field(
        default=None,
        description="Folder of the exported model. null: `best_model/inference` of the run in "
        "`Global.output`; if that folder holds no run, of the run in `output`.",
    )
    input: Inputs | None = Field(
        default=None,
        description="Images to predict: an image file, a folder, a pattern such as `photos/*.jpg`, a URL, or "
        "a list of these.",
    )
    threshold: Threshold | None = Field(
        default=None,
        description="Objects with a higher score are kept. A number from 0 to 1, or classes and such "
        "numbers, such as `{bolt: 0.3}`. null, and for classes that are not named: the threshold stored with "
        "the model.",
    )
    backend: BackendChoice | None = Field(
        default=None,
        description="What runs the exported model: `paddle`, `onnxruntime`, `openvino`, or `auto` for the "
        "fastest one that is installed and certified. null: `paddle`, and where PaddlePaddle is not "
        "installed, `auto`. See `docs/backends.md`.",
    )
    precision: BackendPrecision = Field(
        default="f32",
        description="How it computes: `f32`; `bf16` on CPUs that have it, or `int8` with a quantized file, "
        "both with `openvino` and at a cost of AP.",
    )
    kernel_option: KernelOptionConfig = KernelOptionConfig()


class ServingConfig(Section):
    """Mode `serve`, and the HTTP service of a pipeline: ``Serving`` in its YAML file."""

    host: Text = Field(
        default="127.0.0.1",
        description="Address to listen on. `127.0.0.1`: only programs of this machine reach the service. "
        "`0.0.0.0`: all of the network do.",
    )
    port: Port = Field(default=8080, description="Port to listen on. 0: a free one, which the log names.")
    workers: Processes | None = Field(
        default=None,
        description="Number of copies of the model on each device, which predict at the same time and share "
        "the cores. null: 1.",
    )
    batch_size: Images | None = Field(
        default=None,
        description="Largest number of waiting images that the network gets at once. null: measured at the "
        "start, 1 unless a batch is faster.",
    )
    queue_size: Positive = Field(
        default=64,
        description="Number of images that may wait. A request beyond it is answered at once with 429 and "
        "`Retry-After`.",
    )
    deadline: Seconds = Field(
        default=30,
        description="Seconds within which a request is answered. One that is still waiting then is answered "
        "with 503, and not predicted.",
    )
    drain: Seconds = Field(
        default=30,
        description="Seconds that requests have to end after SIGTERM or Ctrl-C. New ones are not accepted.",
    )
    visualize: Switch = Field(
        default=True,
        description="Whether replies contain the drawing, unless a request says it. `false` is faster.",
    )
    api_key_file: PathText | None = Field(
        default=None,
        description="File whose first line is the key that requests need, in the header `X-API-Key` or "
        "`Authorization: Bearer`. null: no key is needed.",
    )
    max_body_mb: Positive = Field(default=30, description="Largest request, in MB (10^6 bytes).")
    max_image_pixels: Positive = Field(
        default=50_000_000, description="Largest number of pixels of an image, height x width."
    )
    max_images: Images = Field(default=16, description="Largest number of images in one request.")
    max_json_depth: Positive = Field(
        default=64, description="How deep objects and lists in the JSON of a request may be nested."
    )
    allow_urls: Switch = Field(
        default=False,
        description="Accept URLs of images. Only http and https addresses are downloaded, and only from "
        "public servers: no address of this machine or of a private network.",
    )
    url_ports: Ports = Field(default=(80, 443), description="Ports that URLs of images may name.")
    url_seconds: Seconds = Field(default=15, description="Seconds that the download of an image may take.")
    url_redirects: Count = Field(
        default=3, description="Number of redirections that a download may follow. Each is checked again."
    )
    page: Switch = Field(default=True, description="Offer the page to try the model in a browser, at `/`.")
    return_urls: Any = Field(default=None, description="Of PaddleX; not used.")
    extra: Any = Field(default=None, description="Of PaddleX; not used.")


class Config(Section):
    """The whole configuration. Sections and keys follow PaddleX; `docs/config.md` explains each key."""

    Global: GlobalConfig
    CheckDataset: CheckDatasetConfig = CheckDatasetConfig()
    Train: TrainConfig = TrainConfig()
    Evaluate: EvaluateConfig = EvaluateConfig()
    Compare: CompareConfig = CompareConfig()
    Folds: FoldsConfig = FoldsConfig()
    LabelReview: LabelReviewConfig = LabelReviewConfig()
    Export: ExportConfig = ExportConfig()
    Predict: PredictConfig = PredictConfig()
    Serving: ServingConfig = ServingConfig()

    def with_batch_size(self, images: int) -> Self:
        """A copy with another ``Train.batch_size``."""
        return self.model_copy(update={"Train": self.Train.model_copy(update={"batch_size": images})})

    def to_yaml(self) -> str:
        """The effective configuration as YAML, defaults included. `load_config` can read it back."""
        return dump_yaml(self.model_dump(mode="json"))
