"""paddlex_seg: instance segmentation from annotated images to a served model, on PaddlePaddle 3."""

__version__ = "0.1.0"
