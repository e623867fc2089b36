"""What PaddleX's tutorials tell to type: commands and scripts, as they stand there, and how to find them."""

import html
import re
import shlex

HOST = "https://paddle-model-ecology.bj.bcebos.com"
DEMO_IMAGE = "general_instance_segmentation_004.png"
DEMO_IMAGES = f"{HOST}/paddlex/imgs/demo_image"
REMOTE_IMAGE = f"{DEMO_IMAGES}/remotesensing_demo.png"
L_YAML = "paddlex/configs/modules/instance_segmentation/Mask-RT-DETR-L.yaml"
H_YAML = "paddlex/configs/modules/instance_segmentation/Mask-RT-DETR-H.yaml"
COCO, LABELME = "./dataset/instance_seg_coco_examples", "./dataset/instance_seg_labelme_examples"
REMOTE = "./dataset/intseg_remote_sense_coco"


def python_main(yaml: str, *settings: str) -> str:
    return " ".join([f"python main.py -c {yaml}", *(f"-o {setting}" for setting in settings)])


PIPELINE_COMMANDS = {
    "a file on a GPU": f"paddlex --pipeline instance_segmentation --input {DEMO_IMAGE} --device gpu:0",
    "a file on an NPU": f"paddlex --pipeline instance_segmentation --input {DEMO_IMAGE} --device npu:0",
    "an address on a GPU": "paddlex --pipeline instance_segmentation "
    f"--input {DEMO_IMAGES}/{DEMO_IMAGE} --device gpu:0",
    "an address on an NPU": "paddlex --pipeline instance_segmentation "
    f"--input {DEMO_IMAGES}/{DEMO_IMAGE} --device npu:0",
    "an address": f"paddlex --pipeline instance_segmentation --input {REMOTE_IMAGE}",
    "a file with a YAML": f"paddlex --pipeline ./instance_segmentation.yaml --input {DEMO_IMAGE}",
    "an address with a YAML": "paddlex --pipeline ./instance_segmentation.yaml "
    f"--input {DEMO_IMAGES}/{DEMO_IMAGE}",
}
CONFIG_COMMANDS = {
    "paddlex --get_pipeline_config instance_segmentation": "instance_segmentation.yaml",
    "paddlex --get_pipeline_config instance_segmentation --save_path ./my_path": (
        "my_path/instance_segmentation.yaml"
    ),
    "paddlex --get_pipeline_config instance_segmentation --config_save_path ./my_path": (
        "my_path/instance_segmentation.yaml"
    ),
}
CHECK = python_main(L_YAML, "Global.mode=check_dataset", f"Global.dataset_dir={COCO}")
CHECK_LABELME = python_main(L_YAML, "Global.mode=check_dataset", f"Global.dataset_dir={LABELME}")
CONVERT = (
    f"{CHECK_LABELME} -o CheckDataset.convert.enable=True -o CheckDataset.convert.src_dataset_type=LabelMe"
)
SPLIT = (
    f"{CHECK_LABELME} -o CheckDataset.split.enable=True -o CheckDataset.split.train_percent=90 "
    "-o CheckDataset.split.val_percent=10"
)
TRAIN = python_main(L_YAML, "Global.mode=train", f"Global.dataset_dir={COCO}")
EVALUATE = python_main(L_YAML, "Global.mode=evaluate", f"Global.dataset_dir={COCO}")
PREDICT = python_main(
    L_YAML,
    "Global.mode=predict",
    "Predict.model_dir=./output/best_model/inference",
    f"Predict.input={DEMO_IMAGE}",
)
REMOTE_CHECK = python_main(H_YAML, "Global.mode=check_dataset", f"Global.dataset_dir={REMOTE}")
REMOTE_TRAIN = python_main(
    H_YAML, "Global.mode=train", f"Global.dataset_dir={REMOTE}", "Train.num_classes=10"
)
REMOTE_EVALUATE = python_main(H_YAML, "Global.mode=evaluate", f"Global.dataset_dir={REMOTE}")
REMOTE_PREDICT = python_main(
    H_YAML,
    "Global.mode=predict",
    "Predict.model_dir=output/best_model/inference",
    f"Predict.input={REMOTE_IMAGE}",
)
MODULE_COMMANDS = (
    *(CHECK, CHECK_LABELME, CONVERT, SPLIT, TRAIN, EVALUATE, PREDICT),
    *(REMOTE_CHECK, REMOTE_TRAIN, REMOTE_EVALUATE, REMOTE_PREDICT),
)
ARCHIVES = ("instance_seg_coco_examples", "instance_seg_labelme_examples", "intseg_remote_sense_coco")
DATA_COMMANDS = tuple(
    command
    for name in ARCHIVES
    for command in (
        f"wget {HOST}/paddlex/data/{name}.tar -P ./dataset",
        f"tar -xf ./dataset/{name}.tar -C ./dataset/",
    )
)
CONVERT_YAML = """
CheckDataset:
  convert:
    enable: True
    src_dataset_type: LabelMe
"""
SPLIT_YAML = """
CheckDataset:
  split:
    enable: True
    train_percent: 90
    val_percent: 10
"""


def commands_in(text: str) -> list[str]:
    """The commands of a tutorial, each on one line, its words quoted as a shell needs it."""
    text = re.sub(r"\\\n\s*", " ", html.unescape(re.sub(r"</?(pre|code)[^>]*>", "", text)))
    lines = (line.strip() for line in text.splitlines())
    return [
        shlex.join(shlex.split(line))
        for line in lines
        if re.match(r"(paddlex --|python main\.py|wget |tar |curl |pip )", line)
    ]


def scripts_in(text: str) -> list[str]:
    """The Python scripts of a tutorial that import paddlex."""
    return [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "from paddlex" in block]
