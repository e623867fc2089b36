"""Small data sets in the layouts of annotation tools, after the documentation or the writers of the tools.

Each image is 96 x 64 and shows one rectangle of 40 x 30 = 1,200 pixels, a bolt.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE_WH = (96, 64)
POLYGON = [10, 10, 50, 10, 50, 40, 10, 40]
AREA = 1200
NORMALISED = "0.104166667 0.15625 0.520833333 0.15625 0.520833333 0.625 0.104166667 0.625"


def draw(path: Path, shade: int) -> None:
    """An image whose content depends on ``shade``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(shade).integers(0, 255, (SIZE_WH[1], SIZE_WH[0], 3), dtype=np.uint8)
    pixels[10:40, 10:50] = 40 + shade
    Image.fromarray(pixels).save(path)


def mask_of(value: int) -> Image.Image:
    """A palette image with the rectangle in this value, in the colours of Pascal VOC."""
    pixels = np.zeros((SIZE_WH[1], SIZE_WH[0]), np.uint8)
    pixels[10:40, 10:50] = value
    image = Image.fromarray(pixels, mode="P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    return image


def coco(
    file_names: Sequence[str],
    *,
    categories: Sequence[Mapping[str, Any]] = (),
    category_id: int = 1,
    **of_record: Any,
) -> dict[str, Any]:
    """A COCO document with one object in each image. ``of_record``: other keys of each annotation."""
    return {
        "info": {"description": "made for a test"},
        "licenses": [{"id": 0, "name": "", "url": ""}],
        "categories": list(categories) or [{"id": category_id, "name": "bolt", "supercategory": ""}],
        "images": [
            {"id": id, "file_name": name, "width": SIZE_WH[0], "height": SIZE_WH[1], "license": 0}
            for id, name in enumerate(file_names, start=1)
        ],
        "annotations": [
            {
                "id": id,
                "image_id": id,
                "category_id": category_id,
                "segmentation": [POLYGON],
                "bbox": [10, 10, 40, 30],
                "area": AREA,
                "iscrowd": 0,
                **of_record,
            }
            for id in range(1, len(file_names) + 1)
        ],
    }


def put(path: Path, content: Any) -> None:
    """Write text, or anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")


def labelme(path: Path, image: str) -> None:
    """A LabelMe file with the rectangle."""
    points = np.reshape(POLYGON, (-1, 2)).tolist()
    shape: dict[str, Any] = {
        "label": "bolt",
        "points": points,
        "group_id": None,
        "shape_type": "polygon",
        "flags": {},
    }
    put(
        path,
        {
            "version": "5.5.0",
            "flags": {},
            "shapes": [shape],
            "imagePath": image,
            "imageData": None,
            "imageHeight": SIZE_WH[1],
            "imageWidth": SIZE_WH[0],
        },
    )


# ---- COCO


def cvat_coco(root: Path) -> None:
    """CVAT, COCO 1.0: cvat-ai/cvat, site/content/en/docs/dataset_management/formats/format-coco.md."""
    for number in range(5):
        draw(root / f"images/default/frame_{number:06d}.PNG", number)
    names = [f"frame_{number:06d}.PNG" for number in range(5)]
    put(
        root / "annotations/instances_default.json",
        coco(names, attributes={"occluded": False, "rust": "low"}),
    )


def cvat_project_coco(root: Path) -> None:
    """CVAT, a project with subsets: the same document. The same image name is in both subsets."""
    for subset, count in (("Train", 3), ("Validation", 2)):
        for number in range(count):
            draw(root / f"images/{subset}/{number}.png", number + 10 * count)
        names = [f"{number}.png" for number in range(count)]
        put(root / f"annotations/instances_{subset}.json", coco(names))


def datumaro_coco(root: Path) -> None:
    """Datumaro: docs/data-formats/formats/coco of openvinotoolkit/datumaro, one folder for each subset."""
    for subset, count in (("train", 3), ("val", 2)):
        for number in range(count):
            draw(root / f"images/{subset}/{number}.jpg", number + 10 * count)
        put(root / f"annotations/instances_{subset}.json", coco([f"{number}.jpg" for number in range(count)]))


def mmdetection_coco(root: Path) -> None:
    """MMDetection's COCO layout, as in Datumaro's documentation of mmdet_coco: subsets beside annotations."""
    for subset, count in (("train", 3), ("val", 2)):
        for number in range(count):
            draw(root / f"{subset}/{number}.jpg", number + 10 * count)
        put(root / f"annotations/instances_{subset}.json", coco([f"{number}.jpg" for number in range(count)]))


def roboflow_coco(root: Path) -> None:
    """Roboflow, COCO segmentation: ``_annotations.coco.json`` of each split, as in roboflow/supervision."""
    categories = [
        {"id": 0, "name": "parts", "supercategory": "none"},
        {"id": 1, "name": "bolt", "supercategory": "parts"},
    ]
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        names = [f"a{number}_jpg.rf.0a1b.jpg" for number in range(count)]
        for number, name in enumerate(names):
            draw(root / split / name, number + 10 * count)
        put(root / split / "_annotations.coco.json", coco(names, categories=categories))
    put(root / "README.roboflow.txt", "parts > 2024\n")


def label_studio_coco(root: Path) -> None:
    """Label Studio: convert_to_coco of HumanSignal/label-studio-converter, on Linux."""
    _label_studio(root, "images/{}")


def label_studio_coco_windows(root: Path) -> None:
    """The same, written on Windows."""
    _label_studio(root, "images\\{}")


def label_studio_coco_urls(root: Path) -> None:
    """The same, where the images were not downloaded by the export but copied later."""
    _label_studio(root, "http://localhost:8080/data/upload/3/{}")


def label_studio_coco_local(root: Path) -> None:
    """The same, with files that Label Studio served from a folder."""
    _label_studio(root, "/data/local-files/?d=photos/{}")


def _label_studio(root: Path, pattern: str) -> None:
    names = [f"3f2a1b4c-t{number}.jpg" for number in range(5)]
    for number, name in enumerate(names):
        draw(root / "images" / name, number)
    categories = [{"id": 0, "name": "bolt"}]
    document = coco([pattern.format(name) for name in names], categories=categories, category_id=0, ignore=0)
    put(root / "result.json", {"images": document.pop("images"), **document})


def coco_2017(root: Path) -> None:
    """COCO's own layout (cocodataset.org), with the files for other tasks beside it."""
    for split, count in (("train2017", 3), ("val2017", 2)):
        names = [f"{number:012d}.jpg" for number in range(count)]
        for number, name in enumerate(names):
            draw(root / split / name, number + 10 * count)
        put(root / f"annotations/instances_{split}.json", coco(names))
        put(
            root / f"annotations/person_keypoints_{split}.json",
            coco(names, keypoints=[1, 1, 2], num_keypoints=1),
        )
        captions = coco(names)
        captions["annotations"] = [{"id": 1, "image_id": 1, "caption": "a bolt"}]
        put(root / f"annotations/captions_{split}.json", captions)


def coco_2017_in_images(root: Path) -> None:
    """COCO's layout for Ultralytics and others: images/train2017."""
    for split, count in (("train2017", 3), ("val2017", 2)):
        names = [f"{number:012d}.jpg" for number in range(count)]
        for number, name in enumerate(names):
            draw(root / "images" / split / name, number + 10 * count)
        put(root / f"annotations/instances_{split}.json", coco(names))


def flat_coco(root: Path) -> None:
    """One JSON file and the images beside it."""
    for number in range(5):
        draw(root / f"t{number}.jpg", number)
    put(root / "coco.json", coco([f"t{number}.jpg" for number in range(5)]))


def labelme2coco(root: Path) -> None:
    """labelme's examples/instance_segmentation/labelme2coco.py: JPEGImages, drawings of the same names."""
    categories = [
        {"supercategory": None, "id": 0, "name": "_background_"},
        {"supercategory": None, "id": 1, "name": "bolt"},
    ]
    for number in range(5):
        draw(root / f"JPEGImages/t{number}.jpg", number)
        draw(root / f"Visualization/t{number}.jpg", number + 50)
    names = [f"JPEGImages/t{number}.jpg" for number in range(5)]
    put(root / "annotations.json", coco(names, categories=categories))


def eiseg_coco(root: Path) -> None:
    """EISeg (save_status in EISeg/eiseg/app.py of PaddlePaddle/PaddleSeg): everything in the folder label.

    Records without areas and boxes, and masks, coloured masks and cut-outs with the names of the images.
    """
    for number in range(5):
        draw(root / f"t{number}.png", number)
        (root / "label").mkdir(exist_ok=True)
        for ending in ("", "_pseudo", "_cutout"):
            mask_of(1).save(root / f"label/t{number}{ending}.png")
    document = coco([f"t{number}.png" for number in range(5)], area=0, bbox=[0, 0, 0, 0])
    for entry in document["annotations"]:
        del entry["iscrowd"]
    put(root / "label/annotations.json", document)


def xanylabeling_coco(root: Path) -> None:
    """X-AnyLabeling's COCO export: a folder beside that of the images, with the background as class 0."""
    categories = [
        {"id": 0, "name": "_background_", "supercategory": ""},
        {"id": 1, "name": "bolt", "supercategory": ""},
    ]
    for number in range(5):
        draw(root / f"photos/t{number}.jpg", number)
    names = [f"t{number}.jpg" for number in range(5)]
    put(root / "annotations/coco_polygon.json", coco(names, categories=categories, ignore=0))


def paddlex2(root: Path) -> None:
    """PaddleX 2, instance segmentation: JPEGImages, annotations.json before the split, and labels.txt."""
    for number in range(5):
        draw(root / f"JPEGImages/t{number}.jpg", number)
    put(root / "annotations.json", coco([f"t{number}.jpg" for number in range(5)]))
    put(root / "labels.txt", "bolt\n")


def paddlex2_split(root: Path) -> None:
    """PaddleX 2 after its split: train.json and val.json beside annotations.json."""
    paddlex2(root)
    put(root / "train.json", coco([f"t{number}.jpg" for number in range(3)]))
    put(root / "val.json", coco([f"t{number}.jpg" for number in range(3, 5)]))


def supervisely_coco(root: Path) -> None:
    """Supervisely's COCO form: supervisely-ecosystem/import-wizard-docs, converter_docs/images/coco.md."""
    for number in range(5):
        draw(root / f"dataset/images/t{number}.png", number)
    put(root / "dataset/annotations/instances.json", coco([f"t{number}.png" for number in range(5)]))


# ---- YOLO


def ultralytics_yolo(root: Path) -> None:
    """CVAT, Ultralytics YOLO Segmentation 1.0: format-yolo-ultralytics.md of cvat-ai/cvat."""
    for subset, count in (("train", 3), ("val", 2)):
        for number in range(count):
            draw(root / f"images/{subset}/{number}.jpg", number + 10 * count)
            put(root / f"labels/{subset}/{number}.txt", f"0 {NORMALISED}\n")
        put(root / f"{subset}.txt", "".join(f"images/{subset}/{number}.jpg\n" for number in range(count)))
    put(root / "data.yaml", "path: ./\ntrain: train.txt\nval: val.txt\nnames:\n  0: bolt\n")


def roboflow_yolo(root: Path) -> None:
    """Roboflow, YOLOv8: paths in data.yaml lead out of the data set."""
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        for number in range(count):
            draw(root / f"{split}/images/{number}_jpg.rf.1f.jpg", number + 10 * count)
            put(root / f"{split}/labels/{number}_jpg.rf.1f.txt", f"0 {NORMALISED}\n")
    paths = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    put(root / "data.yaml", f"{paths}\nnc: 1\nnames: ['bolt']\n")
    put(root / "README.roboflow.txt", "parts\n")


def label_studio_yolo(root: Path) -> None:
    """Label Studio: convert_to_yolo of HumanSignal/label-studio-converter."""
    for number in range(5):
        draw(root / f"images/3f2a1b4c-t{number}.jpg", number)
        put(root / f"labels/3f2a1b4c-t{number}.txt", f"0 {NORMALISED}\n")
    put(root / "classes.txt", "bolt\n")
    put(
        root / "notes.json",
        {"categories": [{"id": 0, "name": "bolt"}], "info": {"contributor": "Label Studio"}},
    )


# ---- masks


def voc(root: Path) -> None:
    """Pascal VOC 2012 (its development kit's documentation), also written by labelme2voc.py."""
    _voc(root)
    put(root / "class_names.txt", "_background_\nbolt\n")


def vocdevkit(root: Path) -> None:
    """Pascal VOC as it is unpacked."""
    voc(root / "VOCdevkit/VOC2012")


def cvat_segmentation_mask(root: Path) -> None:
    """CVAT, Segmentation mask 1.1: format-smask.md of cvat-ai/cvat, with images."""
    _voc(root)
    put(root / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbolt:128,0,0::\n")
    put(root / "ImageSets/Segmentation/default.txt", "".join(f"p{number}\n" for number in range(5)))
    for folder in ("SegmentationClass", "SegmentationObject"):
        for number in range(5):
            path = root / folder / f"p{number}.png"
            Image.open(path).convert("RGB").save(path)


def _voc(root: Path) -> None:
    for number in range(5):
        draw(root / f"JPEGImages/p{number}.jpg", number)
        for folder in ("SegmentationClass", "SegmentationObject"):
            (root / folder).mkdir(parents=True, exist_ok=True)
            mask_of(1).save(root / folder / f"p{number}.png")


def mask_pngs(root: Path) -> None:
    """One mask of object numbers for each image."""
    (root / "masks").mkdir(parents=True, exist_ok=True)
    for number in range(5):
        draw(root / f"images/p{number}.jpg", number)
        mask_of(1).save(root / f"masks/p{number}.png")
    put(root / "label.txt", "bolt\n")


# ---- LabelMe


def labelme_flat(root: Path) -> None:
    """LabelMe and X-AnyLabeling as they save by default: beside the images."""
    for number in range(5):
        draw(root / f"p{number}.jpg", number)
        labelme(root / f"p{number}.json", f"p{number}.jpg")


def labelme_folders(root: Path) -> None:
    """The same in two folders."""
    for number in range(5):
        draw(root / f"cam{number % 2}/p{number}.jpg", number)
        labelme(root / f"cam{number % 2}/p{number}.json", f"p{number}.jpg")


def labelme_split_folders(root: Path) -> None:
    """The same in folders that are the splits."""
    for split, count in (("train", 3), ("valid", 2)):
        for number in range(count):
            draw(root / f"{split}/p{number}.jpg", number + 10 * count)
            labelme(root / f"{split}/p{number}.json", f"p{number}.jpg")


def mask_split_folders(root: Path) -> None:
    """Masks and images in folders that are the splits."""
    for split, count in (("train", 3), ("val", 2)):
        (root / "masks" / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            draw(root / f"images/{split}/p{number}.jpg", number + 10 * count)
            mask_of(1).save(root / f"masks/{split}/p{number}.png")
    put(root / "label.txt", "bolt\n")


def label_studio_brush(root: Path) -> None:
    """Label Studio: brush.py of HumanSignal/label-studio-converter, with the JSON export and the images."""
    tasks = []
    for number in range(5):
        draw(root / f"images/3f2a1b4c-t{number}.jpg", number)
        result = {"type": "brushlabels", "from_name": "tag", "value": {"brushlabels": ["bolt"]}}
        image = f"/data/upload/3/3f2a1b4c-t{number}.jpg"
        tasks.append(
            {"id": number, "annotations": [{"id": number, "result": [result]}], "data": {"image": image}}
        )
        mask = Image.fromarray(np.asarray(mask_of(1), np.uint8) * 255)
        mask.save(root / f"task-{number}-annotation-{number}-by-1-tag-bolt-0.png")
    put(root / "project-3.json", tasks)


Layout = Callable[[Path], None]
# Each layout with its format and the images of each split of the converted data set. Without a val split, a
# fifth of the images goes there.
WITH_TEST = {"train": 3, "val": 2, "test": 1}
WITH_VAL = {"train": 3, "val": 2}
DIVIDED = {"train": 4, "val": 1}
EXPORTS: dict[Layout, tuple[str, dict[str, int]]] = {
    cvat_coco: ("COCO", DIVIDED),
    cvat_project_coco: ("COCO", WITH_VAL),
    datumaro_coco: ("COCO", WITH_VAL),
    mmdetection_coco: ("COCO", WITH_VAL),
    roboflow_coco: ("COCO", WITH_TEST),
    label_studio_coco: ("COCO", DIVIDED),
    label_studio_coco_windows: ("COCO", DIVIDED),
    label_studio_coco_urls: ("COCO", DIVIDED),
    label_studio_coco_local: ("COCO", DIVIDED),
    coco_2017: ("COCO", WITH_VAL),
    coco_2017_in_images: ("COCO", WITH_VAL),
    flat_coco: ("COCO", DIVIDED),
    labelme2coco: ("COCO", DIVIDED),
    eiseg_coco: ("COCO", DIVIDED),
    xanylabeling_coco: ("COCO", DIVIDED),
    paddlex2: ("COCO", DIVIDED),
    paddlex2_split: ("COCO", WITH_VAL),
    supervisely_coco: ("COCO", DIVIDED),
    ultralytics_yolo: ("YOLO", WITH_VAL),
    roboflow_yolo: ("YOLO", WITH_TEST),
    label_studio_yolo: ("YOLO", DIVIDED),
    voc: ("VOC", DIVIDED),
    vocdevkit: ("VOC", DIVIDED),
    cvat_segmentation_mask: ("VOC", DIVIDED),
    mask_pngs: ("MaskPNG", DIVIDED),
    mask_split_folders: ("MaskPNG", WITH_VAL),
    label_studio_brush: ("MaskPNG", DIVIDED),
    labelme_flat: ("LabelMe", DIVIDED),
    labelme_split_folders: ("LabelMe", WITH_VAL),
    labelme_folders: ("LabelMe", DIVIDED),
}
