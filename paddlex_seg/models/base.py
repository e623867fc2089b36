"""The contract between a network and the rest of the toolkit: two public methods, and where classes are."""

from dataclasses import dataclass

from paddle import Tensor, nn

from paddlex_seg.structures import Batch, Detections, MaskFrame


@dataclass(frozen=True)
class ClassAxis:
    """Where a tensor of a network has entries of its own for each class.

    Along ``axis`` there are ``entries_per_class`` for the first class, as many for the second, and so on,
    then ``background_entries``.
    """

    tensor: Tensor
    axis: int
    entries_per_class: int = 1
    background_entries: int = 0


class InstanceSegmenter(nn.Layer):
    """A network that finds objects and their masks.

    ``mask_frame`` says what a row of ``Detections.mask`` covers and whether it holds probabilities or logits.
    """

    mask_frame: MaskFrame

    def class_axes(self) -> tuple[ClassAxis, ...]:
        """All tensors whose shape depends on the number of classes."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses of a batch. ``"loss"`` is the one to minimise; the others are reported.

        Every trainable parameter takes part in ``"loss"``, also when the batch has no object, so that no
        gradient is missing. Outputs that are not finite make a loss that is not finite, not an exception:
        the training loop then names the images.

        A batch may be a part of a larger one: on one of several processes, or computed in parts. A loss
        divides by what ``batch.joined`` says, never by a number of its own images, objects or samples; then
        the means over processes and parts, of losses and of gradients, are those of the joined batch. All
        processes and parts make the same calls and return the same names.
        """
        raise NotImplementedError

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> Detections:
        """Detections of a batch, the same for an image in whatever batch it is.

        image: float32 [B, 3, H, W]; im_shape: float32 [B, 2], height and width before padding; scale_factor:
        float32 [B, 2], im_shape over the size of the original image. Boxes are in pixels of the original
        image.
        """
        raise NotImplementedError
