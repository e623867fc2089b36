"""``Train.batch_size=auto``: the batch size is found by measuring memory."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from command_line import Outcome
from small_runs import MODEL, annotation_file, last_checkpoint, run_slim, slim_model, train_options

from paddlex_seg.checkpoints.weights import read_weights
from paddlex_seg.config.read import load_config
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.samples.tasks import TrainingSet
from paddlex_seg.data.samples.transforms import RandomResize, Resize
from paddlex_seg.errors import ConfigError
from paddlex_seg.models.pp_yoloe_seg.model import PpYoloeSeg
from paddlex_seg.recipes import PP_YOLOE_SEG_SCRATCH
from paddlex_seg.runtime import device_memory
from paddlex_seg.runtime.ranks import ONE_RANK, Ranks
from paddlex_seg.structures import PreprocessSpec
from paddlex_seg.training import auto_batch
from paddlex_seg.training import output as training_output
from paddlex_seg.training.auto_batch import (
    MemoryLine,
    choose,
    crowded_batch,
    find_batch_size,
    fit_line,
    largest_resize,
    most_images,
)
from paddlex_seg.training.ema import Ema
from paddlex_seg.training.optimizer import build_optimizer
from paddlex_seg.training.step import OutOfMemoryError, TrainState

PLENTY = 10**15  # bytes

# The choice


@pytest.mark.parametrize(
    ("budget", "most", "expected"),
    [(50, 16, 1), (299, 16, 1), (300, 16, 2), (499, 16, 2), (500, 16, 4), (1e9, 16, 16), (1e9, 7, 4)],
)
def test_the_largest_power_of_two_within_budget_and_limit_is_chosen(
    budget: float, most: int, expected: int
) -> None:
    assert choose(MemoryLine(fixed=100, per_image=100), budget=budget, most=most) == expected


@pytest.mark.parametrize(
    ("peaks", "expected"),
    [
        ({0: 40, 1: 100}, (40, 60)),
        ({0: 40, 1: 200, 2: 300}, (100, 100)),  # the entry for 0 images is not used
        ({0: 40, 1: 200, 2: 300, 4: 500}, (100, 100)),
        ({0: 40, 1: 310, 2: 400, 4: 590}, (217, 93.57)),  # with two images exactly: the others lie below
        ({1: 300, 2: 300}, (300, 0)),
        ({1: 300, 2: 200}, (300, 0)),
    ],
)
def test_no_measurement_lies_above_the_line(peaks: Mapping[int, int], expected: tuple[float, float]) -> None:
    line = fit_line(peaks)
    assert (line.fixed, line.per_image) == pytest.approx(expected, rel=0.01)
    assert all(line.need(number) >= peak - 1e-6 for number, peak in peaks.items())


@pytest.mark.parametrize(
    ("epoch_length", "batches_per_step", "is_cpu", "expected"),
    [
        (10_000, 1, False, 16),
        (10_000, 1, True, 4),
        (100, 1, False, 6),
        (100, 2, False, 3),
        (8, 1, False, 1),
    ],
)
def test_an_epoch_keeps_sixteen_steps(
    epoch_length: int, batches_per_step: int, is_cpu: bool, expected: int
) -> None:
    assert most_images(epoch_length, batches_per_step=batches_per_step, is_cpu=is_cpu) == expected


# Memory


def test_the_peak_of_the_allocator_is_that_of_the_work_since_it_was_reset() -> None:
    paddle.set_device("cpu")
    before = device_memory.allocated_bytes()
    kept = paddle.zeros([1000, 1000])
    paddle.zeros([5000, 1000])
    device_memory.reset_peak()
    paddle.zeros([2000, 1000])
    assert device_memory.peak_bytes() - before == pytest.approx(12e6, rel=0.01)
    assert device_memory.allocated_bytes() - before == pytest.approx(4e6, rel=0.01)
    assert device_memory.room_bytes() > kept.size * 4


@pytest.mark.parametrize("version", [1, 2])
def test_the_control_groups_of_a_process_and_those_above_limit_its_memory(
    version: int, tmp_path: Path
) -> None:
    base, limit, usage = {
        1: (tmp_path / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
        2: (tmp_path, "memory.max", "memory.current"),
    }[version]
    own = base / "jobs" / "7"
    own.mkdir(parents=True)
    (own / limit).write_text("max\n" if version == 2 else "9223372036854771712\n")
    (own / usage).write_text("100\n")
    (own.parent / limit).write_text("5000\n")
    (own.parent / usage).write_text("1500\n")
    (own.parent / "memory.stat").write_text("anon 1200\ninactive_file 300\n")
    groups = "0::/jobs/7\n" if version == 2 else "9:cpu:/elsewhere\n4:memory:/jobs/7\n"
    assert min(device_memory.cgroup_bytes(groups, tmp_path)) == 5000 - 1500 + 300
    assert not list(device_memory.cgroup_bytes(groups.replace("/jobs/7", "/"), tmp_path))


class Driver:
    """Replaces NVIDIA's driver: a GPU with 700 free bytes."""

    def __init__(self, name: str) -> None:
        assert name == "libcuda.so.1"

    def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
        free._obj.value, total._obj.value = 700, 1000
        return 0


def test_the_room_on_a_gpu_is_what_is_free_and_what_paddle_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle.device.cuda, "memory_reserved", lambda: 50)
    monkeypatch.setattr(device_memory.ctypes, "CDLL", Driver)
    assert device_memory.room_bytes() == 750


def test_a_device_whose_memory_is_not_known_asks_for_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddle, "get_device", lambda: "xpu:0")
    with pytest.raises(ConfigError, match=r"Train\.batch_size: found auto.*Expected a number"):
        device_memory.room_bytes()


# The batch


def test_the_measured_batch_has_the_most_objects_at_the_largest_size(dataset: Path) -> None:
    coco = read_coco(annotation_file(dataset, "train"))
    spec = PreprocessSpec((80, 120), keep_ratio=True, pad_stride=32)
    resize = RandomResize(((64, 120), (80, 120), (72, 120)))
    images = TrainingSet(coco, dataset / "images", (), (resize,), spec, seed=0)
    batch = crowded_batch(images, 3)
    counts = sorted((images.num_objects(index) for index in range(len(images))), reverse=True)
    assert [len(target.class_ids) for target in batch.targets] == counts[:3]
    assert batch.im_shape.numpy().min(axis=1).tolist() == [80, 80, 80]
    # The data set has portrait and landscape images; a batch may contain both.
    assert {record.height > record.width for record in coco.images} == {True, False}
    heights, widths = zip(*(crowded_batch(images, len(images)).im_shape.tolist()), strict=True)
    assert batch.image.shape[2:] == [-(-int(max(side)) // 32) * 32 for side in (heights, widths)]
    assert all(target.masks.shape[1:] == batch.image.shape[2:] for target in batch.targets)
    assert len(crowded_batch(images, 11).targets) == 11  # of eight


def test_the_largest_size_counts_by_its_pixels() -> None:
    sizes = [(480, 480), (640, 800), (800, 608)]
    assert largest_resize([Resize(size) for size in sizes]).size_hw == (640, 800)


# Measuring


@pytest.fixture
def measure(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Find the batch size of a slim network with the given memory; two steps per epoch are allowed."""
    paddle.set_device("cpu")
    monkeypatch.setattr(auto_batch, "FEWEST_STEPS", 2)
    coco = read_coco(annotation_file(dataset, "train"))
    recipe = PP_YOLOE_SEG_SCRATCH
    resizes, spec = recipe.resizes((64, 64)), recipe.preprocess((64, 64))
    images = TrainingSet(coco, dataset / "images", recipe.policies, resizes, spec, seed=0)

    def find(state: TrainState, room: float, ranks: Ranks = ONE_RANK) -> int:
        monkeypatch.setattr(auto_batch, "room_bytes", lambda: int(room))
        return find_batch_size(state, images, ranks, optimizer="adamw", accumulate_steps=1)

    return find


def slim_state() -> TrainState:
    paddle.seed(0)
    model = slim_model(num_classes=2, from_scratch=True)
    optimizer = build_optimizer(model, kind="adamw", learning_rate=0.01, weight_decay=0.0)
    return TrainState(model, optimizer, Ema(model, decay=0.9))


def test_the_size_follows_the_memory_that_there_is(
    measure: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[MemoryLine] = []

    def noted(peaks: Mapping[int, int]) -> MemoryLine:
        lines.append(fit_line(peaks))
        return lines[-1]

    state = slim_state()
    before = {name: tensor.numpy().copy() for name, tensor in state.model.state_dict().items()}
    loss = PpYoloeSeg.loss
    monkeypatch.setattr(PpYoloeSeg, "loss", lambda self, batch: (paddle.rand([1]), loss(self, batch))[1])
    paddle.seed(7)
    drawn = paddle.rand([4]).tolist()
    paddle.seed(7)
    monkeypatch.setattr(auto_batch, "fit_line", noted)
    assert measure(state, PLENTY) == 4
    line = lines[-1]
    # The float32 input of an image alone takes this much; layers keep more.
    assert line.per_image > 10 * 3 * 64 * 64 * 4
    assert line.fixed > 3 * 4 * sum(parameter.size for parameter in state.parameters)
    assert measure(state, line.need(3) / auto_batch.SHARE) == 2
    assert measure(state, line.need(1) / auto_batch.SHARE) == 1
    assert measure(state, room=1) == 1
    assert paddle.rand([4]).tolist() == drawn
    for name, tensor in state.model.state_dict().items():
        assert tensor.numpy().tobytes() == before[name].tobytes(), name
    assert all(parameter.grad is None for parameter in state.parameters)


@pytest.mark.parametrize("measured", [(1, 2, 4), (1, 2)], ids=["measured", "tried"])
def test_a_step_that_does_not_fit_after_all_is_halved(
    measured: tuple[int, ...], measure: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_images(monkeypatch, most=2)
    monkeypatch.setattr(auto_batch, "MEASURED", measured)
    assert measure(slim_state(), PLENTY) == 2


def test_an_image_that_does_not_fit_alone_is_an_error(
    measure: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_images(monkeypatch, most=0)
    with pytest.raises(OutOfMemoryError, match=r"Train\.image_size"):
        measure(slim_state(), PLENTY)


def limit_images(patch: pytest.MonkeyPatch, most: int) -> None:
    loss = PpYoloeSeg.loss

    def limited(self: PpYoloeSeg, batch: Any) -> Any:
        if len(batch.targets) > most:
            raise MemoryError("ResourceExhaustedError: out of memory")
        return loss(self, batch)

    patch.setattr(PpYoloeSeg, "loss", limited)


@dataclass(frozen=True)
class BesideAFullDevice(Ranks):
    """One of two processes; the device of the other process has one byte of memory."""

    world_size: int = 2

    def gather(self, value: Any) -> list[Any]:
        return [value, 1]


def test_all_processes_take_the_smallest_size_of_any(measure: Callable[..., int]) -> None:
    assert measure(slim_state(), PLENTY, BesideAFullDevice()) == 1


# Whole runs


def run(dataset: Path, output: Path, batch_size: int | str, **changes: Any) -> Outcome:
    options = train_options(dataset, **{"Train__batch_size": batch_size, "Train__num_classes": 2, **changes})
    outcome = run_slim("train", output, **options)
    assert outcome.code == 0, outcome.stderr
    return outcome


def weights_of(output: Path) -> dict[str, bytes]:
    return {
        f"{suffix}/{name}": np.asarray(value).tobytes()
        for suffix in ("pdparams", "pdema", "pdopt")
        for name, value in read_weights(last_checkpoint(output, suffix)).items()
    }


def test_a_run_with_auto_is_that_with_the_number_it_finds_also_when_resumed(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_output, "export_model", lambda *args: None)
    monkeypatch.setattr(auto_batch, "FEWEST_STEPS", 2)
    monkeypatch.setattr(auto_batch, "room_bytes", lambda: PLENTY)
    auto, fixed = tmp_path / "auto", tmp_path / "fixed"
    printed = run(dataset, auto, "AUTO", Train__epochs_iters=1).stdout
    assert re.search(
        r"Train\.batch_size=auto: 4 image\(s\) per step\. Memory: 0\.\d\d GB fixed, 0\.\d\d GB per image, "
        r"1000000\.00 GB available\.",
        " ".join(printed.split()),
    )
    run(dataset, fixed, 4, Train__epochs_iters=1)
    assert weights_of(auto) == weights_of(fixed)
    for folder in (auto, last_checkpoint(auto).parent):
        assert load_config(str(folder / "config.yaml")).Train.batch_size == 4

    monkeypatch.setattr(auto_batch, "room_bytes", lambda: pytest.fail("measured again"))
    again = run(dataset, auto, "auto", Train__resume="auto")
    assert "4 image(s) per step, as in the checkpoint" in again.stdout
    assert load_config(str(auto / "config.yaml")).Train.batch_size == 4


# The setting


@pytest.mark.parametrize(
    ("text", "value"), [("auto", "auto"), ("Auto", "auto"), ("AUTO", "auto"), ("8", 8), ("'8'", 8)]
)
def test_a_batch_size_is_a_number_or_auto(text: str, value: int | str) -> None:
    assert load_config(f"{MODEL}.yaml", [f"Train.batch_size={text}"]).Train.batch_size == value


@pytest.mark.parametrize("text", ["large", "0", "-1", "2.5", "True", "null", "[2]"])
def test_another_batch_size_is_refused_with_the_name_of_the_key(text: str) -> None:
    with pytest.raises(ConfigError, match=r"-o: Train\.batch_size: found .*; expected a number of images"):
        load_config(f"{MODEL}.yaml", [f"Train.batch_size={text}"])
