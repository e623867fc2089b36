import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import Tensor, nn

from paddlex_seg.models.layers import BiasedConv2D, BiasedConv2DTranspose, add_, relu_


@pytest.mark.parametrize(
    ("ours", "plain", "kernel_size", "settings"),
    [
        (BiasedConv2D, nn.Conv2D, 3, {"padding": 1}),
        (BiasedConv2D, nn.Conv2D, 1, {"stride": 2}),
        (BiasedConv2DTranspose, nn.Conv2DTranspose, 2, {"stride": 2}),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_a_biased_convolution_and_its_gradients_are_those_of_paddle(
    ours: type[nn.Layer], plain: type[nn.Layer], kernel_size: int, settings: dict[str, int], count: int
) -> None:
    paddle.seed(0)
    one, other = (layer(4, 6, kernel_size, **settings) for layer in (ours, plain))
    one.bias.set_value(paddle.randn([6]))
    other.set_state_dict(one.state_dict())
    values = paddle.randn([count, 4, 8, 5])
    inputs = [values.detach(), values.detach()]
    outputs = []
    for layer, x in zip((one, other), inputs, strict=True):
        x.stop_gradient = False
        output = layer(x)
        (output * paddle.arange(output.size, dtype="float32").reshape(output.shape)).mean().backward()
        outputs.append(output)
    pairs: list[tuple[Tensor, Tensor]] = [
        (outputs[0], outputs[1]),
        (inputs[0].grad, inputs[1].grad),
        (one.weight.grad, other.weight.grad),
        (one.bias.grad, other.bias.grad),
    ]
    for found, expected in pairs:
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-4)


def test_in_place_operations_give_the_same_gradients() -> None:
    values = paddle.to_tensor([-2.0, -0.5, 0.5, 2.0])
    grads = []
    for in_place in (True, False):
        x, y = values.clone(), paddle.to_tensor([1.0, 1.0, 1.0, -3.0])
        x.stop_gradient = y.stop_gradient = False
        z = 2 * x
        z = relu_(add_(z, y)) if in_place else F.relu(z + y)
        (z * values).sum().backward()
        grads.append((x.grad.numpy(), y.grad.numpy(), z.numpy()))
    for found, expected in zip(*grads, strict=True):
        np.testing.assert_array_equal(found, expected)
