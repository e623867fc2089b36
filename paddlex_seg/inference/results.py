"""The prediction result of one image, saved as JSON (one schema for all models) or as a drawing."""

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.errors import PaddlexSegError
from paddlex_seg.files.images import encode_image
from paddlex_seg.files.written import WrittenFiles
from paddlex_seg.masks.rle import rle_to_json
from paddlex_seg.structures import Instances
from paddlex_seg.visualize import draw_instances

# Drawings are saved in the format of the input for these formats, else as PNG.
DRAWING_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
JPEG_QUALITY = 95
# Errors that are due to the name of one file or the rights of one folder. Others, such as a full disk, would
# also hit the next file.
_OF_ONE_FILE = {
    *(errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ELOOP),
    *(errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY),
}


class UnwritableResult(PaddlexSegError):
    """The result of one image cannot be written; those of others can."""


@dataclass(frozen=True)
class SavedResult:
    """The files of a result."""

    image: Path
    json: Path


@dataclass(frozen=True)
class Result:
    """The prediction result of one image.

    ``image`` is uint8 [H, W, 3], RGB. Boxes of ``instances`` are inside the image, see ``clip_to_image``.
    ``save_name`` is the path relative to the output folder, without file extension. It is unique in a run.
    ``written`` are the files that may be replaced.
    """

    input_path: str | None  # None for an array
    page_index: int | None  # from 0, for a multi-page file; else None
    image: NDArray[np.uint8]
    instances: Instances
    labels: tuple[str, ...]  # name of each class index
    save_name: str
    written: WrittenFiles = field(default_factory=WrittenFiles, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dump``. ``masks[i]`` belongs to ``boxes[i]``.

        A mask is COCO's compressed RLE of the whole image.
        """
        found = self.instances
        return {
            "input_path": self.input_path,
            "page_index": self.page_index,
            "boxes": [
                {
                    "cls_id": int(class_id),
                    "label": self.labels[class_id],
                    "score": float(score),
                    "coordinate": [float(edge) for edge in box],
                }
                for class_id, score, box in zip(found.class_ids, found.scores, found.boxes_xyxy, strict=True)
            ],
            "masks": [rle_to_json(mask) for mask in found.masks],
        }

    def draw(self) -> NDArray[np.uint8]:
        """The image with masks, boxes, labels and scores, uint8 [H, W, 3], RGB."""
        return draw_instances(self.image, self.instances, self.labels)

    def write_files(self, folder: Path) -> SavedResult:
        """Write drawing and JSON into a folder, named as by `save_to_img` and `save_to_json`.

        Raises UnwritableResult when this result cannot be written, and OSError when no other could be,
        either.
        """
        with _naming_unwritable(self.input_path or self.save_name):
            f"{self.input_path}{self.save_name}".encode()
            json_file = self.save_to_json(folder)  # first, because it has the longer name
            try:
                return SavedResult(self.save_to_img(folder), json_file)
            except BaseException:
                json_file.unlink(missing_ok=True)
                raise

    def save_to_json(self, save_path: Path | str) -> Path:
        """Write the JSON to the file ``save_path``, or into that folder as ``<name>_res.json``.

        A file that the toolkit did not write is not replaced in a folder: drawing and JSON then have the
        name ``<name>_res_2``, or the next free number. Returns the file.
        """
        path = self._target(Path(save_path), (".json",), ".json")
        text = json.dumps(self.to_json(), ensure_ascii=False, indent=4)
        self.written.put(path, text.encode("utf-8"))
        return path

    def save_to_img(self, save_path: Path | str) -> Path:
        """Write the drawing to the file ``save_path``, or into that folder as ``<name>_res<ending>``.

        The file extension is that of the input, or .png if that format cannot be written. In a folder, it is
        numbered as in `save_to_json`. Returns the file.
        """
        path = self._target(Path(save_path), DRAWING_SUFFIXES, self._drawing_suffix)
        options = {"quality": JPEG_QUALITY} if path.suffix.lower() in (".jpg", ".jpeg") else {}
        self.written.put(path, encode_image(Image.fromarray(self.draw()), path.suffix, **options))
        return path

    @property
    def _drawing_suffix(self) -> str:
        suffix = Path(self.input_path).suffix.lower() if self.input_path else ".png"
        return suffix if suffix in DRAWING_SUFFIXES else ".png"

    def _target(self, save_path: Path, file_suffixes: tuple[str, ...], suffix: str) -> Path:
        if save_path.suffix.lower() in file_suffixes and not save_path.is_dir():
            return save_path
        stems = (f"{self.save_name}_res" + (f"_{number}" if number > 1 else "") for number in count(1))
        free = next(stem for stem in stems if self._may_write(save_path, stem))
        return save_path / f"{free}{suffix}"

    def _may_write(self, folder: Path, stem: str) -> bool:
        """Whether both files of this result can have the name."""
        names = (f"{stem}{self._drawing_suffix}", f"{stem}.json")
        return all(self.written.may_write(folder / name) for name in names)


@contextmanager
def _naming_unwritable(name: str) -> Iterator[None]:
    try:
        yield
    except UnicodeEncodeError as error:
        raise UnwritableResult(
            f"{name}: the name is not valid UTF-8, as JSON needs it. Rename the image."
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
    return Instances(
        size_hw=instances.size_hw,
        class_ids=instances.class_ids[keep],
        scores=instances.scores[keep],
        boxes_xyxy=boxes[keep],
        masks=tuple(instances.masks[i] for i in keep),
    )
