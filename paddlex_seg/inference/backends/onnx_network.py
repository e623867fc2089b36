"""Runs ``network.onnx`` as a `structures.Backend`, whatever library loads it.

The images of a batch run one after the other. The converter holds the suppression of PP-YOLOE_seg and of the
R-CNNs to one image, and on a CPU a batch gains nothing. So the result of an image does not depend on others.
"""

import threading
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paddlex_seg.errors import BackendError
from paddlex_seg.inference.export_spec import ExportedSpec
from paddlex_seg.structures import BackendName, DetectionArrays, MaskFrame, PreprocessSpec

INT8_FILES: Mapping[BackendName, str] = {
    "onnxruntime": "network_edge_int8.onnx",
    "openvino": "network_int8.xml",  # and .bin
}
INPUT_NAMES = ("image", "im_shape", "scale_factor")


@dataclass(frozen=True)
class LoadedOnnx:
    """A file as a library has loaded it."""

    input_names: Set[str]  # those that the graph uses
    num_outputs: int
    run: Callable[[Mapping[str, NDArray[np.float32]]], Sequence[NDArray]]  # arrays that stay as they are


class OnnxNetwork:
    """A loaded ``network.onnx``. Threads that use it take turns."""

    def __init__(self, name: BackendName, file: Path, spec: ExportedSpec, loaded: LoadedOnnx) -> None:
        """Run what ``loaded`` has of ``file``. Raises BackendError when it is no network of this toolkit."""
        if "image" not in loaded.input_names or not loaded.input_names <= set(INPUT_NAMES):
            raise BackendError(
                f"{file}: the inputs are {', '.join(sorted(loaded.input_names))}; expected "
                f"{', '.join(INPUT_NAMES)}. This is not a network that mode export wrote."
            )
        if loaded.num_outputs != 3:
            raise BackendError(
                f"{file}: the graph has {loaded.num_outputs} outputs; expected 3 (boxes, number of boxes, "
                "masks). This is not a network that mode export wrote."
            )
        self.name = name
        self.spec = spec
        self._loaded = loaded
        self._turn = threading.Lock()  # outputs may be buffers that the next run fills

    @property
    def mask_frame(self) -> MaskFrame:
        """How the masks must be pasted."""
        return self.spec.mask_frame

    @property
    def preprocess(self) -> PreprocessSpec:
        """How an image is converted to the network input."""
        return self.spec.preprocess

    def __call__(
        self,
        image: NDArray[np.float32],
        im_shape: NDArray[np.float32],
        scale_factor: NDArray[np.float32],
    ) -> DetectionArrays:
        """See `structures.Backend`. Raises BackendError when the library cannot run the graph."""
        arrays = dict(zip(INPUT_NAMES, (image, im_shape, scale_factor), strict=True))
        with self._turn:
            found = [self._run_one(arrays, index) for index in range(len(image))]
        if len(found) == 1:
            return found[0]
        return DetectionArrays(
            *(np.concatenate(parts) for parts in zip(*found, strict=True))  # rows are ordered by image
        )

    def _run_one(self, arrays: Mapping[str, NDArray[np.float32]], index: int) -> DetectionArrays:
        one = {
            name: np.ascontiguousarray(arrays[name][index : index + 1], np.float32)
            for name in INPUT_NAMES
            if name in self._loaded.input_names
        }
        return DetectionArrays(*self._loaded.run(one))


def last_line(error: Exception) -> str:
    """The last line of an error of a library, which says what is wrong; those before it say where."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
