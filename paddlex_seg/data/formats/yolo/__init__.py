"""YOLO segmentation labels: one text file for each image."""

from paddlex_seg.data.formats.yolo.read import read_yolo
from paddlex_seg.data.formats.yolo.write import write_yolo

__all__ = ["read_yolo", "write_yolo"]
