"""Find where a number that is not finite comes from: weights, image, object, layer or operator."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import Tensor, nn

from paddlex_seg.data.samples.loader import TrainBatch, split_batch
from paddlex_seg.models.base import InstanceSegmenter
from paddlex_seg.structures import Batch, Target

MOST_OBJECTS = 32  # tried one by one


def describe_culprit(
    model: InstanceSegmenter,
    batch: TrainBatch,
    losses: Mapping[str, float],
    bad_gradients: Sequence[str],
    *,
    several_processes: bool,
) -> str:
    """A sentence with the images of a step, the bad losses or gradients, and their first cause.

    losses: of the step; bad_gradients: the parameters whose gradients are not finite. The model's weights
    stay unchanged. Its gradients are cleared, and its running statistics may change.
    """
    images = [", ".join(names) for names in batch.file_names]
    bad_losses = [name for name, value in losses.items() if not np.isfinite(value)]
    parts = [f"the images of this step are {', '.join(images)}"]
    if bad_losses:
        parts.append(f"losses that are not finite: {', '.join(bad_losses)}")
    else:
        bad = f"gradients of {_some(bad_gradients)}" if bad_gradients else "running statistics"
        parts.append(f"the losses are finite, but the {bad} are not")
    weights = [name for name, tensor in model.state_dict().items() if not _is_finite(tensor)]
    if weights:
        return "; ".join([*parts, f"the weights of {_some(weights)} are not finite"])
    found = [
        f"{image}: {problem}"
        for image, single in zip(images, split_batch(batch.batch, len(images)), strict=True)
        if (problem := _problem_of_image(model, single, several_processes=several_processes))
    ]
    return "; ".join([*parts, *(found or ["each of these images alone gives finite numbers"])])


def _problem_of_image(model: InstanceSegmenter, batch: Batch, *, several_processes: bool) -> str | None:
    """What is wrong with a batch of one image; None when its loss and gradients are finite.

    With several processes, the loss is computed exactly once: all processes must compute it equally often.
    """
    target = batch.targets[0]
    problem = _problem_of_pixels(batch.image) or _problem_of_objects(target)
    with _watched(model) as layers:
        is_finite = _step_is_finite(model, batch)
    if several_processes or is_finite:
        if is_finite and problem is None:
            return None
        return problem or _said_of_layers(layers) or "its loss or gradient is not finite"
    if problem is None:
        problem = _said_of_layers(layers)
        if objects := _guilty_objects(model, batch):
            problem = f"{problem}, {objects}" if problem else objects
    operator = _first_operator(model, batch)
    return (problem or "its loss or gradient is not finite") + (
        f", first in operator {operator}" if operator else ""
    )


def _problem_of_pixels(image: Tensor) -> str | None:
    return None if _is_finite(image) else "its pixels are not finite"


def _problem_of_objects(target: Target) -> str | None:
    boxes = target.boxes_xyxy.numpy()
    for number, (box, class_id) in enumerate(zip(boxes, target.class_ids.numpy(), strict=True), start=1):
        if not np.isfinite(box).all() or (box[2:] <= box[:2]).any():
            return f"object {number} of class index {class_id} has the invalid box {_rounded(box)}"
    return None


def _guilty_objects(model: InstanceSegmenter, batch: Batch) -> str | None:
    """The objects that give a loss that is not finite also when they are alone in the image."""
    (target,) = batch.targets
    count = target.class_ids.shape[0]
    guilty = [
        index
        for index in range(min(count, MOST_OBJECTS))
        if not _step_is_finite(model, batch._replace(targets=[_one_object(target, index)]))
    ]
    if not guilty or len(guilty) == count > 1:
        return None
    boxes = target.boxes_xyxy.numpy()
    return "also with object " + ", ".join(
        f"{index + 1} alone (box {_rounded(boxes[index])} in the network input)" for index in guilty
    )


def _one_object(target: Target, index: int) -> Target:
    return Target(*(values[index : index + 1] for values in target))


def _step_is_finite(model: InstanceSegmenter, batch: Batch) -> bool:
    """Whether the loss and all gradients are finite. Clears the gradients."""
    try:
        losses = model.loss(batch)
        losses["loss"].backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        return all(map(_is_finite, [*losses.values(), *gradients]))
    finally:
        model.clear_gradients(set_to_zero=False)


@contextmanager
def _watched(model: nn.Layer) -> Iterator[list[str]]:
    """The names of the layers with finite inputs and an output that is not finite, in order."""
    found: list[str] = []

    def watch(name: str) -> Any:
        def look(layer: nn.Layer, inputs: Any, outputs: Any) -> None:
            if all(map(_is_finite, _tensors(inputs))) and not all(map(_is_finite, _tensors(outputs))):
                found.append(f"{name} ({type(layer).__name__})")

        return look

    leaves = [(name, layer) for name, layer in model.named_sublayers() if not layer._sub_layers]
    handles = [layer.register_forward_post_hook(watch(name)) for name, layer in leaves]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _said_of_layers(layers: Sequence[str]) -> str | None:
    return f"the first layer whose output is not finite is {layers[0]}" if layers else None


def _first_operator(model: InstanceSegmenter, batch: Batch) -> str | None:
    """The first operator whose result is not finite, forward or backward, as Paddle's own check names it.

    While the check is on, Paddle keeps a trace of the code for each operator that will have a gradient:
    gigabytes for a whole network. So it is never on while such operators are recorded.
    """
    try:
        with _checked(), paddle.no_grad():
            model.loss(batch)
        loss = model.loss(batch)["loss"]
        with _checked():
            loss.backward()
    except Exception as error:
        text = str(error)
        return text.split("op=", 1)[1].split(",", 1)[0].split("]", 1)[0] if "op=" in text else None
    finally:
        model.clear_gradients(set_to_zero=False)
    return None


@contextmanager
def _checked() -> Iterator[None]:
    """Inside the context, an operator whose result is not finite raises an exception with its name."""
    paddle.set_flags({"FLAGS_check_nan_inf": True})
    try:
        yield
    finally:
        paddle.set_flags({"FLAGS_check_nan_inf": False})


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(paddle.isfinite(tensor.detach()).all())


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _rounded(box: NDArray[np.float32]) -> list[float]:
    return [round(float(edge), 1) for edge in box]
