"""The contract between a network and the rest of the toolkit: two public methods, nothing else."""

from paddle import Tensor, nn

from paddlex_seg.structures import Batch, Detections, MaskFrame


class InstanceSegmenter(nn.Layer):
    """A network that finds objects and their masks.

    ``mask_frame`` says what a row of ``Detections.mask`` covers and whether it holds probabilities or logits.
    """

    mask_frame: MaskFrame

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses of a batch. ``"loss"`` is the one to minimise; the others are reported.

        Every trainable parameter takes part in ``"loss"``, also when the batch has no object, so that no
        gradient is missing. Outputs that are not finite make a loss that is not finite, not an exception:
        the training loop then names the pictures.

        In a distributed run the means over the processes, of losses and of gradients, are those of the joined
        batch. All processes get the same names.
        """
        raise NotImplementedError

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> Detections:
        """Detections of a batch, the same for an image in whatever batch it is.

        image: float32 [B, 3, H, W]; im_shape: float32 [B, 2], height and width before padding; scale_factor:
        float32 [B, 2], im_shape over the size of the original image. Boxes are in pixels of the original
        image.
        """
        raise NotImplementedError
