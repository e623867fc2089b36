"""Numbers that the processes of a distributed run agree on."""

import paddle
from paddle import Tensor


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a detached tensor over all processes; the tensor itself where there is one process."""
    num_processes = paddle.distributed.get_world_size()
    if num_processes > 1:
        value = value.clone()
        paddle.distributed.all_reduce(value)
        value = value / num_processes
    return value
