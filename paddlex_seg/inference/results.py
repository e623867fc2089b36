"""The prediction result of one image: a dictionary as in PaddleX, with one schema for all models."""

import errno
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.errors import PaddlexSegError
from paddlex_seg.files.images import encode_image
from paddlex_seg.files.names import printable
from paddlex_seg.files.written import WrittenFiles
from paddlex_seg.inference.mask_forms import MaskForm, check_mask_form, json_masks, mask_entries
from paddlex_seg.inference.outputs.coco import FoundObjects, coco_text, image_name
from paddlex_seg.inference.outputs.id_masks import id_mask_png
from paddlex_seg.inference.outputs.labelme import result_to_labelme
from paddlex_seg.inference.outputs.supervision import to_supervision
from paddlex_seg.inference.outputs.table import csv_bytes, table_rows
from paddlex_seg.structures import Instances
from paddlex_seg.visualize import draw_instances

_LOGGER = logging.getLogger(__name__)
# Drawings are saved in the format of the input for these formats, else as PNG.
DRAWING_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
JPEG_QUALITY = 95
# Errors that are due to the name of one file or the rights of one folder. Others, such as a full disk, would
# also hit the next file.
_OF_ONE_FILE = {
    *(errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ELOOP),
    *(errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY),
}


# ``str`` is the name of a property in the class.
SavePath = str | os.PathLike[str]
Text = str


class UnwritableResult(PaddlexSegError):
    """The result of one image cannot be written; those of others can."""


@dataclass(frozen=True)
class SavedResult:
    """The files of a result."""

    image: Path
    json: Path


class Result(dict[str, Any]):
    """The prediction result of one image, or what is wrong with an input.

    The keys are those of PaddleX, and attributes of the same names: ``input_path`` (None for an image in
    memory), ``page_index`` (from 0, of a multi-page file, else None), ``input_img`` (uint8 [H, W, 3], BGR),
    ``boxes`` and ``masks``. ``boxes[i]`` has ``cls_id``, ``label``, ``score`` and ``coordinate`` (x1, y1, x2,
    y2 in pixels, inside the image), and ``masks[i]`` is its mask. The best score comes first. The result of
    a bad input has the key ``error`` as well, no boxes and masks, and ``input_img`` is None.

    More attributes: ``image`` is uint8 [H, W, 3], RGB. ``instances`` has the same objects in arrays.
    ``labels`` are the names of all classes. ``save_name`` is the path of saved files relative to the output
    folder, without file extension; it is unique in a prediction.
    """

    def __init__(
        self,
        *,
        input_path: str | None,
        page_index: int | None,
        save_name: str,
        image: NDArray[np.uint8] | None = None,
        instances: Instances | None = None,
        labels: Sequence[str] = (),
        error: str | None = None,
        masks: MaskForm = "rle",
        whole_masks: bool = False,
        place: str | None = None,
        written: WrittenFiles | None = None,
        tables: set[Path] | None = None,
    ) -> None:
        """Of an image with its instances, whose boxes are inside the image; or of a bad input with ``error``.

        masks, whole_masks: as in `mask_entries`. place: the whole path, or the URL; in a folder, results of
        other places are not replaced. written: the files that the toolkit wrote. tables: the CSV files of
        this prediction so far.
        """
        assert (image is None) == (instances is None) != (error is None)
        self.image, self.labels, self.save_name = image, tuple(labels), save_name
        self.instances = _NOTHING if instances is None else instances
        self.written = WrittenFiles() if written is None else written
        self._whole_masks, self._place = whole_masks, place
        self._tables = set() if tables is None else tables
        super().__init__(
            input_path=input_path,
            page_index=page_index,
            input_img=None if image is None else image[..., ::-1],
            boxes=_boxes(self.instances, self.labels),
            masks=mask_entries(self.instances, masks, whole=whole_masks),
        )
        if error is not None:
            self["error"] = error

    def __missing__(self, key: Text) -> None:
        if key != "error":
            raise KeyError(key)

    def __repr__(self) -> Text:
        return f"Result({self.str['res']})"

    @property
    def input_path(self) -> Text | None:
        """The path or URL; None for an image in memory."""
        return self["input_path"]

    @property
    def page_index(self) -> int | None:
        """The page of a multi-page file, from 0; else None."""
        return self["page_index"]

    @property
    def input_img(self) -> NDArray[np.uint8] | None:
        """The image, uint8 [H, W, 3], BGR; None for a bad input."""
        return self["input_img"]

    @property
    def boxes(self) -> list[dict[Text, Any]]:
        """One entry per object: ``cls_id``, ``label``, ``score``, ``coordinate``."""
        return self["boxes"]

    @property
    def masks(self) -> list[Any]:
        """The mask of each box."""
        return self["masks"]

    @property
    def error(self) -> Text | None:
        """What is wrong with the input; None for a good one."""
        return self["error"]

    def masks_as(self, form: MaskForm) -> list[Any]:
        """The masks in another form; see `mask_forms.mask_entries`. Raises ConfigError if there is none."""
        return mask_entries(self.instances, check_mask_form(form), whole=self._whole_masks)

    def to_json(self, masks: MaskForm | None = None) -> dict[Text, Any]:
        """Plain values for ``json.dump``: all keys but ``input_img``. masks: another form of the masks."""
        values = {key: value for key, value in self.items() if key != "input_img"}
        return values | {"masks": json_masks(self.masks if masks is None else self.masks_as(masks))}

    @property
    def json(self) -> dict[Text, Any]:
        """``{"res": values}``, see `to_json`."""
        return {"res": self.to_json()}

    @property
    def img(self) -> dict[Text, Image.Image | None]:
        """``{"res": drawing}`` as a PIL image; None instead of a drawing for a bad input."""
        return {"res": None if self.error is not None else Image.fromarray(self.draw())}

    @property
    def str(self) -> dict[Text, Any]:
        """``{"res": values}`` with ``...`` in place of the masks."""
        return {"res": self.to_json() | {"masks": "..."}}

    def print(self, format_json: bool = False, indent: int = 4, ensure_ascii: bool = False) -> None:
        """Print the result without its masks: on one line, or as JSON with ``indent``."""
        values = self.str
        if format_json:
            print(printable(json.dumps(values, indent=indent, ensure_ascii=ensure_ascii)))
        else:
            print(printable(repr(values)))

    def draw(self) -> NDArray[np.uint8]:
        """The image with masks, boxes, labels and scores, uint8 [H, W, 3], RGB."""
        return draw_instances(self._good_image(), self.instances, self.labels)

    def write_files(self, folder: Path) -> SavedResult:
        """Write drawing and JSON into a folder, named as by `save_to_img` and `save_to_json`.

        Raises UnwritableResult when this result cannot be written, and OSError when no other could be,
        either.
        """
        with _naming_unwritable(self.input_path or self.save_name):
            f"{self.input_path}{self.save_name}".encode()
            json_file = self.save_to_json(folder)  # first, because it has the longer name
            try:
                drawing = self.save_to_img(folder)
            except BaseException:
                json_file.unlink(missing_ok=True)
                raise
        assert drawing is not None, "a bad input has no image"
        return SavedResult(drawing, json_file)

    def save_to_json(
        self,
        save_path: SavePath,
        indent: int = 4,
        ensure_ascii: bool = False,
        masks: MaskForm | None = None,
    ) -> Path:
        """Write the JSON to the file ``save_path``, or into that folder as ``<name>_res.json``.

        masks: another form of the masks than the result has; see `mask_forms.mask_entries`. In a folder,
        neither files of the user nor results of other images are replaced: drawing and JSON then have the
        name ``<name>_res_2``, or the next free number. Returns the file.
        """
        path = self._target(Path(save_path), (".json",), ".json")
        text = json.dumps(self.to_json(masks), ensure_ascii=ensure_ascii, indent=indent)
        self.written.put(path, self._encoded(text), self._place)
        return path

    def save_to_img(self, save_path: SavePath) -> Path | None:
        """Write the drawing to the file ``save_path``, or into that folder as ``<name>_res<ending>``.

        The file extension is that of the input, or .png if that format cannot be written. In a folder, it is
        numbered as in `save_to_json`. Returns the file; None for a bad input, which is logged.
        """
        if self._is_bad():
            return None
        path = self._target(Path(save_path), DRAWING_SUFFIXES, self._drawing_suffix)
        options = {"quality": JPEG_QUALITY} if path.suffix.lower() in (".jpg", ".jpeg") else {}
        drawing = encode_image(Image.fromarray(self.draw()), path.suffix, **options)
        self.written.put(path, drawing, self._place)
        return path

    def save_to_coco(self, save_path: SavePath) -> Path | None:
        """Write a COCO annotation file of this image: to the file ``save_path``, or into that folder as
        ``<name>_coco.json``. The function `save_to_coco` writes one file for many images.

        It lists all classes, and the image under its name relative to the folder that was predicted. Returns
        the file; None for a bad input, which is logged.
        """
        return self._save(
            save_path,
            (".json",),
            "_coco.json",
            lambda _: self._encoded(coco_text([self.found_objects()], self.labels)),
        )

    def found_objects(self) -> FoundObjects:
        """The objects with the name of the image, without its pixels."""
        name = image_name(self.input_path, self.save_name)
        return FoundObjects(self.instances, name, self.page_index)

    def save_to_labelme(self, save_path: SavePath) -> Path | None:
        """Write a LabelMe file: to the file ``save_path``, or into that folder as ``<name>.json``.

        LabelMe opens it, and mode check_dataset converts it back; see docs/pipeline.md. Returns the
        file; None for a bad input, which is logged.
        """
        return self._save(
            save_path,
            (".json",),
            ".json",
            lambda folder: self._encoded(
                result_to_labelme(
                    self.instances,
                    self.labels,
                    image=self._good_image(),
                    input_path=self.input_path,
                    page_index=self.page_index,
                    save_name=self.save_name,
                    folder=folder,
                )
            ),
        )

    def save_to_masks(self, save_path: SavePath) -> Path | None:
        """Write all masks into one PNG with 16 bits: to the file ``save_path``, or into that folder as
        ``<name>_masks.png``.

        A pixel is 0 outside of objects, else the position of its object in ``boxes``, counted from 1. Where
        objects overlap, the one with the best score is on top. Returns the file; None for a bad input, which
        is logged.
        """
        return self._save(save_path, (".png",), "_masks.png", lambda _: id_mask_png(self.instances))

    def save_to_csv(self, save_path: SavePath) -> Path | None:
        """Write a table with one row per object: to the file ``save_path``, or into that folder as
        ``<name>_res.csv``.

        If an earlier result of the same prediction was written to the file ``save_path``, rows are appended:
        one file can have the objects of all images. See `outputs.table` for the columns. Returns the file;
        None for a bad input, which is logged.
        """
        path = Path(save_path)
        rows = table_rows(
            self.instances,
            self.labels,
            input_path=self.input_path,
            page_index=self.page_index,
            save_name=self.save_name,
        )
        if self.error is None and path in self._tables and path.is_file():
            self.written.append(path, csv_bytes(rows, header=False))
            return path
        saved = self._save(path, (".csv",), "_res.csv", lambda _: csv_bytes(rows))
        if saved is not None:
            self._tables.add(saved)
        return saved

    def to_supervision(self) -> Any:
        """The objects as ``supervision.Detections``, if that library is installed."""
        return to_supervision(self.instances, self.labels)

    def save_all(self, save_path: SavePath) -> None:
        """Write JSON and drawing into a folder."""
        self.save_to_json(save_path)
        self.save_to_img(save_path)

    def _save(
        self,
        save_path: SavePath,
        file_suffixes: tuple[Text, ...],
        ending: Text,
        content: Callable[[Path], bytes],
    ) -> Path | None:
        """Write ``content(folder of the file)``. In a folder, only a result of this image is replaced."""
        if self._is_bad():
            return None
        path = Path(save_path)
        if path.suffix.lower() not in file_suffixes or path.is_dir():
            path = self.written.free_name(path / f"{self.save_name}{ending}", self._place)
        self.written.put(path, content(path.parent), self._place)
        return path

    def _encoded(self, text: Text) -> bytes:
        """``text`` in UTF-8. Raises UnwritableResult when it has the name of a file that is not UTF-8."""
        with _naming_unwritable(self.input_path or self.save_name):
            return text.encode()

    def _good_image(self) -> NDArray[np.uint8]:
        assert self.image is not None, "a bad input has no image"
        return self.image

    def _is_bad(self) -> bool:
        """Whether this is a bad input, which has nothing to save. The log has said what is wrong with it."""
        if self.error is not None:
            _LOGGER.info("Nothing to save for a bad input: %s", printable(self.error))
        return self.error is not None

    @property
    def _drawing_suffix(self) -> Text:
        suffix = Path(self.input_path).suffix.lower() if self.input_path else ".png"
        return suffix if suffix in DRAWING_SUFFIXES else ".png"

    def _target(self, save_path: Path, file_suffixes: tuple[Text, ...], suffix: Text) -> Path:
        if save_path.suffix.lower() in file_suffixes and not save_path.is_dir():
            return save_path
        stems = (f"{self.save_name}_res" + (f"_{number}" if number > 1 else "") for number in count(1))
        free = next(stem for stem in stems if self._may_write(save_path, stem))
        return save_path / f"{free}{suffix}"

    def _may_write(self, folder: Path, stem: Text) -> bool:
        """Whether both files of this result can have the name."""
        names = (f"{stem}{self._drawing_suffix}", f"{stem}.json")
        return all(self.written.may_write(folder / name, self._place) for name in names)


def save_to_coco(results: Iterable[Result], save_path: SavePath) -> Path:
    """Write one COCO annotation file for all images of a prediction; see `Result.save_to_coco`.

    Of each result, only its objects are kept in memory. Bad inputs are left out; the log names them. Two
    images with the same name get different ones. Raises PaddlexSegError when no input gave a result.
    """
    images: list[FoundObjects] = []
    names: set[tuple[str, int | None]] = set()
    labels: tuple[str, ...] = ()
    for result in results:
        if result.error is not None:
            continue
        labels, found = result.labels, result.found_objects()
        if (found.file_name, found.page_index) in names:
            found = replace(found, file_name=result.save_name + Path(found.file_name).suffix)
        names.add((found.file_name, found.page_index))
        images.append(found)
    path = Path(save_path)
    if not images:
        raise PaddlexSegError(f"{path}: no input gave a result, so nothing was written.")
    WrittenFiles().put(path, coco_text(images, labels).encode("utf-8", "backslashreplace"))
    return path


_NOTHING = Instances(
    size_hw=(0, 0),
    class_ids=np.zeros(0, np.int64),
    scores=np.zeros(0, np.float32),
    boxes_xyxy=np.zeros((0, 4), np.float32),
    masks=(),
)


def _boxes(found: Instances, labels: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "cls_id": int(class_id),
            "label": labels[class_id],
            "score": float(score),
            "coordinate": [float(edge) for edge in box],
        }
        for class_id, score, box in zip(found.class_ids, found.scores, found.boxes_xyxy, strict=True)
    ]


@contextmanager
def _naming_unwritable(name: str) -> Iterator[None]:
    try:
        yield
    except UnicodeEncodeError as error:
        raise UnwritableResult(
            f"{printable(name)}: the name is not valid UTF-8, as JSON needs it. Rename the image."
        ) from error
    except OSError as error:
        if error.errno is not None and error.errno not in _OF_ONE_FILE:
            raise
        place = error.filename2 or error.filename or "the drawing"
        in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "it is not a folder" if in_the_way else error.strerror or error
        raise UnwritableResult(f"{name}: {place} cannot be written ({reason}).") from error


def clip_to_image(instances: Instances) -> Instances:
    """The instances with boxes clipped to the image. Instances with an empty box are dropped."""
    height, width = instances.size_hw
    boxes = instances.boxes_xyxy.clip(0, np.array([width, height, width, height], np.float32))
    keep = np.flatnonzero((boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3]))
    return replace(instances, boxes_xyxy=boxes).take(keep)
