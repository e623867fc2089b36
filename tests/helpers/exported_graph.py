"""Running a model as an exported graph, by Paddle's two ways to load one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import paddle

INPUT_NAMES = ("image", "im_shape", "scale_factor")


class ExportedGraph:
    """A model exported for inputs of one height and width, in batches of any size."""

    def __init__(self, model: paddle.nn.Layer, folder: Path, size_hw: tuple[int, int]) -> None:
        model.eval()
        shapes = ([-1, 3, *size_hw], [-1, 2], [-1, 2])
        spec = [paddle.static.InputSpec(s, "float32", n) for s, n in zip(shapes, INPUT_NAMES, strict=True)]
        self.path = str(folder / "inference")
        paddle.jit.save(paddle.jit.to_static(model, input_spec=spec, full_graph=True), self.path)

    def runs(self, inputs: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """The outputs of the graph loaded as a layer, then those of Paddle's inference library."""
        graph = paddle.jit.load(self.path)
        yield [tensor.numpy() for tensor in graph(*map(paddle.to_tensor, inputs))]
        config = paddle.inference.Config(f"{self.path}.json", f"{self.path}.pdiparams")
        config.disable_mkldnn()
        config.disable_glog_info()
        predictor = paddle.inference.create_predictor(config)
        assert sorted(predictor.get_input_names()) == sorted(INPUT_NAMES)
        for name, array in zip(INPUT_NAMES, inputs, strict=True):
            predictor.get_input_handle(name).copy_from_cpu(array)
        predictor.run()
        yield [predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()]
