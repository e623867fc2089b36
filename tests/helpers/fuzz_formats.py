"""The formats that are fuzzed: how a scene is written in each, and what may happen to it."""

from dataclasses import dataclass
from typing import Any

import fuzz_coco
import fuzz_labelme
import fuzz_voc
import fuzz_yolo
from fuzz_cases import Mutations, Source
from fuzz_desk import ways_of


@dataclass(frozen=True)
class Format:
    """A format of input."""

    source_type: str  # what CheckDataset.convert.src_dataset_type says; COCO needs no conversion
    source: type[Source]
    mutations: Mutations[Any]

    @property
    def all_ways(self) -> tuple[str, ...]:
        """The ways to run the mode on it."""
        return tuple(ways_of(self.source_type))

    @property
    def needed(self) -> frozenset[str]:
        """The ways (`fuzz_desk.examine`) in which all objects come back, if nothing was lost."""
        return frozenset({"fix"} if self.source_type == "COCO" else {"convert and fix", "auto"})

    @property
    def undamaged(self) -> frozenset[str]:
        """The ways in which an undamaged data set is complete."""
        return frozenset({"check", "fix"} if self.source_type == "COCO" else {"convert", *self.needed})


FORMATS = {
    "COCO": Format("COCO", fuzz_coco.CocoSource, fuzz_coco.MUTATIONS),
    "LabelMe": Format("LabelMe", fuzz_labelme.LabelMeSource, fuzz_labelme.MUTATIONS),
    "YOLO": Format("YOLO", fuzz_yolo.YoloSource, fuzz_yolo.MUTATIONS),
    "VOC": Format("VOC", fuzz_voc.VocSource, fuzz_voc.MUTATIONS),
}
