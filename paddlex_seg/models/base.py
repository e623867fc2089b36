"""The interface of a network: ``loss``, ``forward``, and the tensors that depend on the number of classes."""

from dataclasses import dataclass

from paddle import Tensor, nn

from paddlex_seg.structures import Batch, Detections, MaskFrame


@dataclass(frozen=True)
class ClassAxis:
    """A tensor of a network whose ``axis`` has separate entries for each class.

    Order along the axis: ``entries_per_class`` entries for class 0, for class 1, and so on, then
    ``background_entries``.
    """

    tensor: Tensor
    axis: int
    entries_per_class: int = 1
    background_entries: int = 0


class InstanceSegmenter(nn.Layer):
    """An instance segmentation network.

    ``mask_frame`` says what region a row of ``Detections.mask`` covers, and whether it contains probabilities
    or logits. ``max_detections`` is how many detections of an image ``forward`` returns at most, the best
    ones; it may be set to a number up to ``most_detections``.
    """

    mask_frame: MaskFrame
    max_detections: int

    def most_detections(self, input_hw: tuple[int, int]) -> int:
        """How many detections the structure of the network allows in an image, for inputs of this size."""
        raise NotImplementedError

    def class_axes(self) -> tuple[ClassAxis, ...]:
        """All tensors whose shape depends on the number of classes."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses of a batch. ``"loss"`` is minimised; the others are only logged.

        Every trainable parameter must get a gradient from ``"loss"``, even if the batch has no objects. If an
        output is not finite, the loss is not finite and no exception is raised; the training loop then names
        the images.

        A batch may be one part of a joined batch: the part of one process, or one of several parts computed
        one after the other. So a loss divides by the result of ``batch.joined``, never by its own number of
        images, objects or samples. Then the mean loss and gradient over processes and parts are those of the
        joined batch. All processes and parts make the same calls and return the same names.
        """
        raise NotImplementedError

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> Detections:
        """Detections of a batch. The detections of an image do not depend on the other images of the batch.

        image: float32 [B, 3, H, W]; im_shape: float32 [B, 2], height and width before padding; scale_factor:
        float32 [B, 2], im_shape / size of the original image. Boxes are in pixels of the original image.
        """
        raise NotImplementedError
