"""Finds the image of a mask when the mask file has another name than the image."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from paddlex_seg.data.images import IMAGE_SUFFIXES

# Words that tools and people add to the name of a mask or of its image.
MASK_WORDS = frozenset(
    "mask masks seg segm segmentation segmentations label labels labelids labeltrainids gt gtfine gtcoarse "
    "groundtruth truth annotation annotations anno ann instance instances instanceids inst ids object "
    "objects matte alpha png".split()
)
IMAGE_WORDS = frozenset("image images img imgs photo picture pic rgb leftimg8bit orig original sat".split())
# Words in the names of files that show masks to people.
SHOWING_WORDS = frozenset(
    "pseudo cutout color colour colored overlay vis viz visual visualization blend preview".split()
)


def images_of_masks(masks: Iterable[str], images: Collection[str]) -> dict[str, str]:
    """The image of each mask; both are names without endings, relative to their folders.

    A mask whose image has the same name belongs to it. The other masks are matched by other upper and lower
    case, other Unicode forms, or words such as ``mask`` in the name (``p0_mask``, ``mask-p0``,
    ``p0.jpg``), if in this way each of them fits exactly one image; otherwise they are left out.
    """
    found = {mask: mask for mask in masks if mask in images}
    rest = [mask for mask in masks if mask not in found]
    if not rest:
        return found
    free = [image for image in images if image not in found]
    for with_folder in (True, False):
        image_of_key = _unique({image: plain_name(image, with_folder=with_folder) for image in free})
        keys = {mask: plain_name(mask, with_folder=with_folder) for mask in rest}
        if len(set(keys.values())) == len(rest) and all(key in image_of_key for key in keys.values()):
            return found | {mask: image_of_key[key] for mask, key in keys.items()}
    return found


def plain_name(stem: str, *, with_folder: bool = True) -> str:
    """The name without endings of images, without words such as ``mask``, in lower case."""
    folder, _, name = unicodedata.normalize("NFC", stem).casefold().rpartition("/")
    while os.path.splitext(name)[1] in IMAGE_SUFFIXES:
        name = os.path.splitext(name)[0]
    words = [word for word in re.split(r"[\s_.-]+", name) if word]
    kept = [word for word in words if word not in MASK_WORDS | IMAGE_WORDS | SHOWING_WORDS]
    return (f"{folder}/" if with_folder else "") + ("_".join(kept) or name)


def has_word(stem: str, words: Collection[str]) -> bool:
    """Whether the name has one of the words."""
    return any(word in words for word in re.split(r"[\s_.-]+", stem.rpartition("/")[2].casefold()))


def _unique(keys: Mapping[str, str]) -> dict[str, str]:
    """The name of each key that only one name has."""
    counts = Counter(keys.values())
    return {key: name for name, key in keys.items() if counts[key] == 1}
