"""Finds the image of each LabelMe file: by ``imagePath``, and by the name of the file.

LabelMe pairs images and files by their names when it opens a folder, but reads the image from ``imagePath``.
So the two can disagree after files were renamed.
"""

import base64
import binascii
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paddlex_seg.data.findings import Finding, finding
from paddlex_seg.data.formats.labelme.drafts import Draft
from paddlex_seg.data.formats.name_index import NameIndex
from paddlex_seg.data.formats.source_files import files_below, files_left, image_sizes
from paddlex_seg.data.image_search import ImageIndex
from paddlex_seg.data.images import IMAGE_SUFFIXES, ImageSize
from paddlex_seg.errors import DatasetError


@dataclass(slots=True)
class FoundImages:
    """The images of the LabelMe files, by the name of the file.

    A file that is in neither ``places`` nor ``left_out`` has no image file; its image may be embedded.
    """

    places: dict[str, Path] = field(default_factory=dict)
    sizes: Mapping[Path, ImageSize | DatasetError] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)  # another file is for the same image; reported
    unused: list[str] = field(default_factory=list)  # images without a file, relative to the root


def find_images(root: Path, drafts: Mapping[str, Draft], findings: list[Finding]) -> FoundImages:
    """The image of each LabelMe file. Doubtful and shared images become findings."""
    finder = _ImageFinder(root)
    candidates = {name: finder.candidates(name, draft.image) for name, draft in drafts.items()}
    found = FoundImages(sizes=image_sizes(Path(image) for images in candidates.values() for image in images))
    first_of = {images[0]: name for name, images in reversed(candidates.items()) if images}
    for name, images in candidates.items():
        if len(images) == 1:
            found.places[name] = Path(images[0])
        elif images:
            other = first_of[images[0]]
            also = f", as {other} does," if other != name else ""
            found.places[name] = Path(_decide(root, name, drafts[name], images, also, found, findings))
    found.unused = finder.others(found.places.values())
    _leave_out_shared(root, drafts, found, findings)
    return found


def _decide(
    root: Path,
    name: str,
    draft: Draft,
    images: Sequence[str],
    also: str,
    found: FoundImages,
    findings: list[Finding],
) -> str:
    """The image to use of two: ``imagePath`` names the first, the file has the name of the second.

    also: which other file names the first image, as a part of the message; empty if none does.
    """
    by_path, by_name = (os.path.relpath(image, root).replace(os.sep, "/") for image in images)
    both = f"imagePath names {by_path}{also or ','} but the file has the name of {by_name}"
    if (proved := _proved(draft, images, found)) is not None:
        image, proof = proved
        if image == images[1]:
            message = f"{both}; {proof} fits only the latter, so the shapes were read for it"
            findings.append(finding("image_path_corrected", name, message))
        return image
    message = f"{both}; its shapes ({len(draft.shapes)}) were put on {by_name}"
    hint = (
        f"Look at the shapes on both images. If they are for {by_name}, correct imagePath in the file. If "
        f"they are for {by_path}, rename the file like that image."
    )
    findings.append(finding("image_path_differs", name, message, hint=hint))
    return images[1]


def _proved(draft: Draft, images: Sequence[str], found: FoundImages) -> tuple[str, str] | None:
    """The only image that the embedded image or the listed size fits, and the proof; None if it is open."""
    if draft.embedded is not None:
        same = [image for image in images if _holds(image, draft.embedded)]
        if len(same) == 1:
            return same[0], "the embedded image"
    if draft.listed_hw is not None:
        sizes = ((image, found.sizes[Path(image)]) for image in images)
        fitting = [
            image
            for image, size in sizes
            if isinstance(size, ImageSize) and draft.listed_hw in (size.shown_hw, size.stored_hw)
        ]
        if len(fitting) == 1:
            return fitting[0], f"the size in the file, {draft.listed_hw} (height, width),"
    return None


def _holds(image: str, embedded: str) -> bool:
    """Whether the image file has the bytes that are embedded in base64."""
    try:
        content = base64.b64decode(embedded)
    except (binascii.Error, ValueError):
        return False
    return os.path.getsize(image) == len(content) and Path(image).read_bytes() == content


def _leave_out_shared(
    root: Path, drafts: Mapping[str, Draft], found: FoundImages, findings: list[Finding]
) -> None:
    """Keep one file for each image. Every other one is a finding and goes to ``left_out``."""
    names_of = defaultdict(list)
    for name, place in found.places.items():
        names_of[place].append(name)
    for place, names in names_of.items():
        if len(names) == 1:
            continue
        kept = min(names, key=lambda name: (Path(name).stem != place.stem, names.index(name)))
        image = os.path.relpath(place, root).replace(os.sep, "/")
        for name in names:
            if name == kept:
                continue
            del found.places[name]
            found.left_out.add(name)
            if drafts[name].shapes == drafts[kept].shapes:
                message = f"the file is a copy of {kept}, for the same image {image}"
                findings.append(finding("source_repeated", name, message))
                continue
            message = (
                f"two files are for the image {image}, {kept} and {name}; the shapes of the first were used, "
                f"those of the second ({len(drafts[name].shapes)}) were left out"
            )
            hint = (
                f"If {name} is for another image, write that image into its imagePath and rename the file "
                "like it. If both are for this image, put all shapes into one file."
            )
            findings.append(finding("source_shared", name, message, hint=hint))


class _ImageFinder:
    """Finds the image file of a LabelMe file, even if its path is from another machine."""

    def __init__(self, root: Path):
        self._root, self._image_dir = str(root), os.path.join(root, "images")
        self._files = files_below(root, IMAGE_SUFFIXES)
        self._by_name = NameIndex(self._files)
        self._any_spelling = ImageIndex(root)
        stems = {file: os.path.splitext(file)[0] for file in self._files}
        self._by_stem = NameIndex(self._files, key_of=stems)

    def others(self, used: Iterable[Path]) -> list[str]:
        """The images below the root that are not ``used``."""
        return files_left(Path(self._root), self._files, used)

    def candidates(self, name: str, image: str) -> list[str]:
        """The image that the file ``name`` is for; none if it is not found.

        Two images: the one that ``imagePath`` names and another one that has the name of the file.
        """
        by_path, by_name = self._named(name, image), self._of_same_name(name)
        if by_path is None:
            outside = os.path.normpath(image) if _is_absolute(image) else None
            return [by_name] if by_name else [outside] if outside and os.path.isfile(outside) else []
        if by_name in (None, by_path) or _stem(by_path) == _stem(name):
            return [by_path]
        return [by_path, by_name]

    def _named(self, name: str, image: str) -> str | None:
        """The image that ``imagePath`` names."""
        for candidate in self._places(name, image):
            if os.path.isfile(candidate):
                return candidate
        if not image:
            return None
        inside = image if _is_absolute(image) else os.path.join(os.path.dirname(name), image)
        found = self._by_name.find(inside) or self._any_spelling.find(os.path.normpath(inside))
        return None if found is None else os.path.join(self._root, found)

    def _places(self, name: str, image: str) -> Iterator[str]:
        if image and not _is_absolute(image):
            yield os.path.normpath(os.path.join(self._root, os.path.dirname(name), image))
        parts = [part for part in image.split("/") if part not in ("", ".", "..")]
        for start in range(len(parts)):
            yield os.path.join(self._image_dir, *parts[start:])

    def _of_same_name(self, name: str) -> str | None:
        """The image with the name of the file: in ``images``, beside the file, or anywhere else if unique."""
        stem = os.path.splitext(name)[0]
        parts = stem.split("/")
        places = [stem, *("/".join(["images", *parts[start:]]) for start in range(len(parts)))]
        for place in places:
            same = self._by_stem.exact(place)
            if same is not None:
                return os.path.join(self._root, same)
        found = self._by_stem.find(stem)
        return None if found is None else os.path.join(self._root, found)


def _is_absolute(image: str) -> bool:
    return image.startswith("/") or image[1:2] == ":"


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]
