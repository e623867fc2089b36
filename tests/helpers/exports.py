"""Small data sets in the layouts of annotation tools, after the documentation or the writers of the tools.

Each image is 96 x 64 and shows one rectangle of 40 x 30 = 1,200 pixels, a bolt.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    return _with_palette(pixels)


def _with_palette(pixels: Any) -> Image.Image:
    image = Image.fromarray(pixels, mode="P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, *[224, 224, 192] * 252])
    return image


def coco(
    file_names: Sequence[str],
    *,
    categories: Sequence[Mapping[str, Any]] = (),
    category_id: int = 1,
    first_id: int = 1,
    **of_record: Any,
) -> dict[str, Any]:
    """A COCO document with one object in each image.

    first_id: of images and annotations. of_record: other keys of each annotation.
    """
    return {
        "info": {"description": "made for a test"},
        "licenses": [{"id": 0, "name": "", "url": ""}],
        "categories": list(categories) or [{"id": category_id, "name": "bolt", "supercategory": ""}],
        "images": [
            {"id": id, "file_name": name, "width": SIZE_WH[0], "height": SIZE_WH[1], "license": 0}
            for id, name in enumerate(file_names, start=first_id)
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
            for id in range(first_id, first_id + len(file_names))
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
    """Roboflow, COCO Segmentation. Roboflow does not publish its writer, so after two exports of it.

    They are data/strawberry_coco_1.v1i.coco-segmentation of yuta310274/yolact (the folders, both files
    README, keys, the project as class 0) and tests/datasets/sharks-tiny-coco of roboflow/roboflow-python (the
    folder test; ids from 0). Augmentation writes an image several times with the same begin of its name.
    """
    categories = [
        {"id": 0, "name": "parts", "supercategory": "none"},
        {"id": 1, "name": "bolt", "supercategory": "parts"},
    ]
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        names = [f"a{number}_jpg.rf.0a1b.jpg" for number in range(count)]
        for number, name in enumerate(names):
            draw(root / split / name, number + 10 * count)
        document = coco(names, categories=categories, first_id=0)
        for entry in document["images"]:
            entry |= {"license": 1, "date_captured": "2024-09-24T10:58:56+00:00"}
        document["licenses"] = [{"id": 1, "url": "", "name": "Unknown"}]
        put(root / split / "_annotations.coco.json", document)
    for name in ("README.dataset.txt", "README.roboflow.txt"):
        put(root / name, "parts - v1 2024\n")


def label_studio_coco(root: Path) -> None:
    """Label Studio: convert_to_coco in converter.py of HumanSignal/label-studio-converter, on Linux."""
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
    document = coco(
        [pattern.format(name) for name in names],
        categories=[{"id": 0, "name": "bolt"}],
        category_id=0,
        first_id=0,
        ignore=0,
    )
    del document["licenses"]
    put(root / "result.json", {"images": document.pop("images"), **document})


def label_studio_brush_coco(root: Path) -> None:
    """Label Studio, Brush labels to COCO: converter/exports/brush_to_coco.py of HumanSignal/label-studio-sdk.

    It makes an empty folder of images. Here the images were copied there.
    """
    names = [f"3f2a1b4c-t{number}.jpg" for number in range(5)]
    for number, name in enumerate(names):
        draw(root / "images" / name, number)
    category = {"id": 1, "name": "bolt", "supercategory": "", "color": "#a1b2c3", "metadata": {}}
    document = coco(names, categories=[category], first_id=0, annotator="unknown")
    del document["licenses"]
    for entry in document["images"]:
        entry["path"] = f"/data/upload/3/{entry['file_name']}"
    put(root / "result_coco.json", document)


def coco_2017(root: Path) -> None:
    """COCO's own layout, with the files for other tasks beside it.

    The keys: dataset/format-data.htm of cocodataset/cocodataset.github.io. The names of folders and files:
    datasets/README.md of facebookresearch/detectron2; it has no captions.
    """
    for split, count in (("train2017", 3), ("val2017", 2)):
        names = [f"{number:012d}.jpg" for number in range(count)]
        for number, name in enumerate(names):
            draw(root / split / name, number + 10 * count)
        put(root / f"annotations/instances_{split}.json", coco(names))
        keypoints = coco(names, keypoints=[1, 1, 2], num_keypoints=1)
        keypoints["categories"] = [
            {"supercategory": "", "id": 1, "name": "bolt", "keypoints": ["head"], "skeleton": []}
        ]
        put(root / f"annotations/person_keypoints_{split}.json", keypoints)
        captions = coco(names)
        del captions["categories"]
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
    """X-AnyLabeling's COCO export: a folder beside that of the images, with the background as class 0.

    custom_to_coco in anylabeling/views/labeling/label_converter.py and export_coco_annotation in
    views/labeling/utils/export.py of CVHub520/X-AnyLabeling. Its own files stay beside the images. The box is
    one pixel larger than the polygon.
    """
    categories = [
        {"id": 0, "name": "_background_", "supercategory": None},
        {"id": 1, "name": "bolt", "supercategory": None},
    ]
    names = [f"t{number}.jpg" for number in range(5)]
    for number, name in enumerate(names):
        draw(root / "photos" / name, number)
        labelme(root / f"photos/t{number}.json", name)
    document = coco(names, categories=categories, first_id=0, ignore=0, bbox=[10.0, 10.0, 41.0, 31.0])
    for entry in document["images"]:
        entry |= {"license": 0, "url": None, "date_captured": None}
    put(root / "annotations/coco_instance_segmentation.json", {**document, "type": "instances"})


def paddlex2(root: Path) -> None:
    """PaddleX 2, instance segmentation, before the split.

    docs/data/format/instance_segmentation.md and paddlex/tools/x2coco.py of PaddlePaddle/PaddleX (branch 2):
    only three lists, and area and box one pixel too small.
    """
    for number in range(5):
        draw(root / f"JPEGImages/t{number}.jpg", number)
    put(root / "annotations.json", _paddlex2(range(5)))


def _paddlex2(numbers: Iterable[int]) -> dict[str, Any]:
    category = {"supercategory": "component", "id": 1, "name": "bolt"}
    document = coco(
        [f"t{number}.jpg" for number in numbers],
        categories=[category],
        bbox=[10.0, 10.0, 39.0, 29.0],
        area=39.0 * 29.0,
    )
    return {key: document[key] for key in ("images", "categories", "annotations")}


def paddlex2_split(root: Path) -> None:
    """PaddleX 2 after its split (paddlex/tools/dataset_split/coco_split.py): beside annotations.json."""
    paddlex2(root)
    put(root / "train.json", _paddlex2(range(3)))
    put(root / "val.json", _paddlex2(range(3, 5)))


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
    """Roboflow, YOLOv8: paths in data.yaml lead out of the data set.

    Roboflow does not publish its writer, so after an export: hybrid-seg/data.yaml and README.roboflow.txt of
    Indudhar-GJ/Cotton-Imputity-Detection.
    """
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        for number in range(count):
            draw(root / f"{split}/images/{number}_jpg.rf.1f.jpg", number + 10 * count)
            put(root / f"{split}/labels/{number}_jpg.rf.1f.txt", f"0 {NORMALISED}\n")
    paths = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    project = (
        "roboflow:\n  workspace: w\n  project: parts\n  version: 4\n  license: Private\n  url: https://x\n"
    )
    put(root / "data.yaml", f"{paths}\nnc: 1\nnames: ['bolt']\n\n{project}")
    for name in ("README.dataset.txt", "README.roboflow.txt"):
        put(root / name, "parts - v4 2025\n")


def label_studio_yolo(root: Path) -> None:
    """Label Studio: convert_to_yolo in converter.py of HumanSignal/label-studio-converter."""
    for number in range(5):
        draw(root / f"images/3f2a1b4c-t{number}.jpg", number)
        put(root / f"labels/3f2a1b4c-t{number}.txt", f"0 {NORMALISED}\n")
    put(root / "classes.txt", "bolt\n")
    put(
        root / "notes.json",
        {
            "categories": [{"id": 0, "name": "bolt"}],
            "info": {"year": 2024, "version": "1.0", "contributor": "Label Studio"},
        },
    )


# ---- masks


def voc(root: Path) -> None:
    """Masks in the folders of Pascal VOC, with a list of classes."""
    _voc(root)
    put(root / "class_names.txt", "_background_\nbolt\n")


def vocdevkit(root: Path) -> None:
    """The same in the folders in which Pascal VOC is unpacked. The real content: `pascal_voc`."""
    voc(root / "VOCdevkit/VOC2012")


def pascal_voc(root: Path) -> None:
    """Pascal VOC 2012 as it is unpacked.

    Only the begin of its own documentation could be opened (host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc):
    train, val and trainval for each task. After pages of others: the folders and the XML files
    (coguo.com/1764558692.html), value 1 for aeroplane and 255 for a border around each object (3lc-examples,
    create-pascal-voc-semseg-table.ipynb). There is no list of classes, and XML files are also for images
    without masks.
    """
    place = root / "VOCdevkit/VOC2012"
    stems = [f"2007_{number:06d}" for number in (32, 33, 39, 42, 61)]
    for number, stem in enumerate([*stems, "2008_000002"]):
        draw(place / f"JPEGImages/{stem}.jpg", number)
        box = "<xmin>11</xmin><ymin>11</ymin><xmax>50</xmax><ymax>40</ymax>"
        thing = f"<object><name>aeroplane</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
        size = f"<size><width>{SIZE_WH[0]}</width><height>{SIZE_WH[1]}</height><depth>3</depth></size>"
        head = f"<folder>VOC2012</folder><filename>{stem}.jpg</filename>{size}"
        put(place / f"Annotations/{stem}.xml", f"<annotation>{head}{thing}</annotation>")
    for folder in ("SegmentationClass", "SegmentationObject"):
        (place / folder).mkdir()
        for stem in stems:
            pixels = np.zeros((SIZE_WH[1], SIZE_WH[0]), np.uint8)
            pixels[8:42, 8:52] = 255
            pixels[10:40, 10:50] = 1
            _with_palette(pixels).save(place / folder / f"{stem}.png")
    lists = {"train": stems[:3], "val": stems[3:], "trainval": stems}
    for name, listed in lists.items():
        put(place / f"ImageSets/Segmentation/{name}.txt", "".join(f"{stem}\n" for stem in listed))
        put(place / f"ImageSets/Main/{name}.txt", "".join(f"{stem}\n" for stem in [*listed, "2008_000002"]))
        put(place / f"ImageSets/Main/aeroplane_{name}.txt", "".join(f"{stem}  1\n" for stem in listed))


def labelme2voc(root: Path) -> None:
    """labelme2voc.py of wkentaro/labelme, examples/instance_segmentation: also arrays and drawings.

    ``class_names.txt`` has no end of line at its end. Pixels with the label ``__ignore__`` are 255 in the
    mask of classes and 0 in that of objects.
    """
    for number in range(5):
        draw(root / f"JPEGImages/p{number}.jpg", number)
        for kind in ("Class", "Object"):
            pixels = np.array(mask_of(1))
            pixels[50:60, 70:80] = 255 if kind == "Class" else 0
            values = np.where(pixels == 255, -1, pixels.astype(np.int32))
            for folder in ("", "Npy", "Visualization"):
                (root / f"Segmentation{kind}{folder}").mkdir(parents=True, exist_ok=True)
            _with_palette(pixels).save(root / f"Segmentation{kind}/p{number}.png")
            np.save(root / f"Segmentation{kind}Npy/p{number}.npy", values)
            draw(root / f"Segmentation{kind}Visualization/p{number}.jpg", number + 50)
    put(root / "class_names.txt", "_background_\nbolt")


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
    """Label Studio, Brush labels to PNG, with the JSON export and the images.

    save_brush_images_from_annotation in brush.py of HumanSignal/label-studio-converter: the name of a mask is
    task, annotation, person (an e-mail address, or the number of the person), tag, labels and number.
    """
    tasks = []
    for number in range(5):
        draw(root / f"images/3f2a1b4c-t{number}.jpg", number)
        result = {
            **{"type": "brushlabels", "from_name": "tag", "to_name": "image"},
            **{"original_width": SIZE_WH[0], "original_height": SIZE_WH[1]},
            "value": {"format": "rle", "rle": [0, 0], "brushlabels": ["bolt"]},
        }
        image = f"/data/upload/3/3f2a1b4c-t{number}.jpg"
        tasks.append(
            {"id": number, "annotations": [{"id": number, "result": [result]}], "data": {"image": image}}
        )
        mask = Image.fromarray(np.asarray(mask_of(1), np.uint8) * 255)
        person = "1" if number else "someone@example.com"
        mask.save(root / f"task-{number}-annotation-{number}-by-{person}-tag-bolt-0.png")
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
    label_studio_brush_coco: ("COCO", DIVIDED),
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
    labelme2voc: ("VOC", DIVIDED),
    cvat_segmentation_mask: ("VOC", DIVIDED),
    mask_pngs: ("MaskPNG", DIVIDED),
    mask_split_folders: ("MaskPNG", WITH_VAL),
    label_studio_brush: ("MaskPNG", DIVIDED),
    labelme_flat: ("LabelMe", DIVIDED),
    labelme_split_folders: ("LabelMe", WITH_VAL),
    labelme_folders: ("LabelMe", DIVIDED),
}
