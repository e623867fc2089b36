"""The recipe of each PaddleX model."""

from paddlex_seg.recipes import (
    CASCADE_MASK_RCNN,
    MASK_RCNN,
    MASK_RCNN_C4,
    MASK_RCNN_RESNEXT,
    MASK_RCNN_SSLD,
    MASK_RT_DETR,
    PP_YOLOE_SEG,
    SOLOV2,
)

OFFICIAL = {
    "PP-YOLOE_seg-S": PP_YOLOE_SEG,
    **{f"Mask-RT-DETR-{size}": MASK_RT_DETR for size in "SMLXH"},
    "MaskRCNN-ResNet50": MASK_RCNN_C4,
    "MaskRCNN-ResNet50-FPN": MASK_RCNN,
    "MaskRCNN-ResNet50-vd-FPN": MASK_RCNN,
    "MaskRCNN-ResNet50-vd-SSLDv2-FPN": MASK_RCNN_SSLD,
    "MaskRCNN-ResNet101-FPN": MASK_RCNN,
    "MaskRCNN-ResNet101-vd-FPN": MASK_RCNN,
    "MaskRCNN-ResNeXt101-vd-FPN": MASK_RCNN_RESNEXT,
    "Cascade-MaskRCNN-ResNet50-FPN": CASCADE_MASK_RCNN,
    "Cascade-MaskRCNN-ResNet50-vd-SSLDv2-FPN": CASCADE_MASK_RCNN,
    "SOLOv2": SOLOV2,
}
