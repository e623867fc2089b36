"""Running a model as an exported graph, by Paddle's two ways to load one."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import paddle
from detecting import detect

from paddlex_seg.models.base import InstanceSegmenter

INPUT_NAMES = ("image", "im_shape", "scale_factor")


class ExportedGraph:
    """A model exported for inputs of one height and width, in batches of any size.

    From then on the model itself runs the graph: what it says without comes first.
    """

    def __init__(self, model: paddle.nn.Layer, folder: Path, size_hw: tuple[int, int]) -> None:
        model.eval()
        shapes = ([-1, 3, *size_hw], [-1, 2], [-1, 2])
        spec = [paddle.static.InputSpec(s, "float32", n) for s, n in zip(shapes, INPUT_NAMES, strict=True)]
        self._traced = paddle.jit.to_static(model, input_spec=spec, full_graph=True)
        self._folder = folder
        self.write()

    def write(self) -> None:
        """Export the weights that the model has now. Tracing takes longest, and is done once."""
        path = str(self._folder / "inference")
        paddle.jit.save(self._traced, path)
        self._layer = paddle.jit.load(path)
        config = paddle.inference.Config(f"{path}.json", f"{path}.pdiparams")
        config.disable_mkldnn()
        config.disable_glog_info()
        self._predictor = paddle.inference.create_predictor(config)
        assert sorted(self._predictor.get_input_names()) == sorted(INPUT_NAMES)

    def runs(self, inputs: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """The outputs of the graph loaded as a layer, then those of Paddle's inference library."""
        yield [tensor.numpy() for tensor in self._layer(*map(paddle.to_tensor, inputs))]
        for name, array in zip(INPUT_NAMES, inputs, strict=True):
            self._predictor.get_input_handle(name).copy_from_cpu(array)
        self._predictor.run()
        names = self._predictor.get_output_names()
        yield [self._predictor.get_output_handle(name).copy_to_cpu() for name in names]


def assert_exported_equals_dynamic(
    model: InstanceSegmenter,
    batches: Sequence[Sequence[np.ndarray]],
    folder: Path,
    size_hw: tuple[int, int],
    find_nothing: Callable[[InstanceSegmenter], None],
    *,
    rtol: float,
    atol: float,
) -> None:
    """The graph of a model gives the same results as the model, also with the weights of `find_nothing`."""

    def outputs() -> list[list[np.ndarray]]:
        return [[tensor.numpy() for tensor in detect(model, *inputs)] for inputs in batches]

    weights = {name: value.clone() for name, value in model.state_dict().items()}
    something = outputs()
    find_nothing(model)
    nothing = outputs()
    model.set_state_dict(weights)
    graph = ExportedGraph(model, folder, size_hw)
    for expected, is_blind in ((something, False), (nothing, True)):
        if is_blind:
            find_nothing(model)
            graph.write()
        for inputs, arrays in zip(batches, expected, strict=True):
            assert (arrays[1] == 0).all() == is_blind
            for found in graph.runs(list(inputs)):
                for ours, theirs in zip(found, arrays, strict=True):
                    assert ours.shape == theirs.shape
                    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)
