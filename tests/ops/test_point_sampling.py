import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from paddlex_seg.ops import point_sampling as sampling
from paddlex_seg.ops.point_sampling import (
    RandomPoints,
    bilinear_taps,
    sample_features,
    sample_masks,
    uncertain_points,
)


def by_grid_sample(maps: paddle.Tensor, points: paddle.Tensor) -> np.ndarray:
    return with_grid_sample(maps, points).numpy()


def with_grid_sample(maps: paddle.Tensor, points: paddle.Tensor) -> paddle.Tensor:
    grid = 2 * points.transpose([0, 2, 1]).unsqueeze(1) - 1
    return F.grid_sample(maps.unsqueeze(1), grid, align_corners=False).squeeze([1, 2])


def edge_and_inner_points(num_rows: int) -> paddle.Tensor:
    corners = np.array([[0, 0], [1, 1], [0, 1], [1, 0], [0.5, 1], [1e-7, 0.3], [1 - 1e-7, 0.6]], np.float32)
    inner = np.random.default_rng(0).random((num_rows, 50, 2), dtype=np.float32)
    points = np.concatenate([np.tile(corners, (num_rows, 1, 1)), inner], axis=1)
    return paddle.to_tensor(points.transpose(0, 2, 1).copy())  # x and y in separate rows


def test_masks_at_points_and_their_gradient_equal_grid_sample() -> None:
    paddle.seed(0)
    maps = paddle.randn([3, 6, 9])
    points, weights = edge_and_inner_points(3), paddle.randn([3, 57])
    gradients = []
    for sample in (sample_masks, with_grid_sample):
        maps.stop_gradient = False
        (sample(maps, points) * weights).sum().backward()
        gradients.append(maps.grad.numpy())
        maps.clear_grad()
    np.testing.assert_allclose(
        sample_masks(maps, points).numpy(), by_grid_sample(maps, points), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-5)


def test_binary_masks_are_shared_by_rows_of_points() -> None:
    masks = (paddle.rand([2, 7, 5]) > 0.5).astype("uint8")
    points = edge_and_inner_points(4)
    rows = paddle.to_tensor([1, 0, 0, 1])
    expected = by_grid_sample(masks.gather(rows).astype("float32"), points)
    found = sample_masks(masks, points, rows)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert found.stop_gradient


def test_more_rows_than_a_block_has() -> None:
    masks = paddle.randn([5, 4, 6])
    rows = paddle.to_tensor(np.random.default_rng(0).integers(5, size=29))
    points = edge_and_inner_points(29)
    expected = by_grid_sample(masks.gather(rows), points)
    np.testing.assert_allclose(sample_masks(masks, points, rows).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_sampling_zero_masks_gives_zero_rows() -> None:
    maps = paddle.zeros([0, 4, 4])
    maps.stop_gradient = False
    values = sample_masks(maps, paddle.zeros([0, 2, 3]))
    assert values.shape == [0, 3]
    assert uncertain_points(maps, RandomPoints(0, 8), 3).shape == [0, 2, 3]


def test_features_at_points_equal_grid_sample() -> None:
    features = paddle.randn([2, 3, 5, 8])
    points = edge_and_inner_points(2)
    grid = 2 * points.transpose([0, 2, 1]).unsqueeze(1) - 1
    expected = F.grid_sample(features, grid, align_corners=False)[:, :, 0]
    found = sample_features(features, points)
    np.testing.assert_allclose(found.numpy(), expected.transpose([0, 2, 1]).numpy(), rtol=1e-4, atol=1e-5)


def test_taps_outside_have_weight_0_and_a_gradient() -> None:
    points = paddle.to_tensor([[[-3.0, 0.5], [0.5, 9.0], [0.3, 0.4]]])
    points.stop_gradient = False
    index, weight = bilinear_taps(points, paddle.to_tensor([4.0, 3.0]))
    assert ((index >= 0) & (index < 12)).all()
    np.testing.assert_allclose(weight.sum(axis=-1).numpy(), [[0, 0, 1]], atol=1e-6)
    (weight * index.astype("float32")).sum().backward()
    # Inside the map, the sum of index * weight is linear in x and y; a row has 4 pixels.
    np.testing.assert_allclose(points.grad.numpy()[0, 2], [4.0, 12.0], rtol=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e30])
def test_positions_of_non_finite_points_stay_in_the_map(value: float) -> None:
    index, _ = bilinear_taps(paddle.full([2, 2], value), paddle.to_tensor([4.0, 3.0]))
    assert ((index >= 0) & (index < 12)).all()


def test_uncertain_points_have_the_logits_nearest_to_0() -> None:
    paddle.seed(0)
    logits = paddle.randn([3, 10, 10])
    candidates = RandomPoints(3, 400)
    found = uncertain_points(logits, candidates, 100)
    distance = np.abs(by_grid_sample(logits, candidates.all()))
    expected = np.sort(distance, axis=1)[:, :100]
    np.testing.assert_allclose(np.sort(np.abs(by_grid_sample(logits, found)), axis=1), expected, atol=1e-5)


def test_points_come_from_paddles_seed_and_fill_the_square() -> None:
    paddle.seed(3)
    first = RandomPoints(2, 1000)
    paddle.seed(3)
    np.testing.assert_array_equal(first.all().numpy(), RandomPoints(2, 1000).all().numpy())
    assert not np.array_equal(first.row(0), first.row(1))
    assert not np.array_equal(first.row(0), RandomPoints(2, 1000).row(0))
    np.testing.assert_array_equal(first.all().numpy()[1], first.row(1))
    np.testing.assert_allclose(first.all().numpy().mean(axis=(0, 2)), 0.5, atol=0.05)


def test_code_for_other_devices_gives_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    class ElsewhereTensor:
        """A tensor that claims not to be on the CPU."""

        def __init__(self, tensor: paddle.Tensor) -> None:
            self._tensor = tensor
            self.place = self

        def is_cpu_place(self) -> bool:
            return False

        def __getattr__(self, name: str):
            return getattr(self._tensor, name)

    paddle.seed(0)
    masks = (paddle.rand([2, 7, 5]) > 0.5).astype("uint8")
    points, rows = edge_and_inner_points(4), paddle.to_tensor([1, 0, 0, 1])
    here = sample_masks(masks, points, rows).numpy()
    np.testing.assert_allclose(sample_masks(ElsewhereTensor(masks), points, rows).numpy(), here, atol=1e-5)
    logits, candidates = paddle.randn([3, 10, 10]), RandomPoints(3, 400)
    expected = uncertain_points(logits, candidates, 100).numpy()
    found = uncertain_points(ElsewhereTensor(logits), candidates, 100).numpy()
    assert [set(map(tuple, row.T)) for row in found] == [set(map(tuple, row.T)) for row in expected]


def test_an_error_in_a_thread_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        sampling._for_blocks(lambda rows: 1 // 0, np.arange(3))
