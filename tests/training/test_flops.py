import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from training.flops import attention_flops, block_flops, linear_flops, training_flops
from training.models.blocks import Attention, Block


def counted(model, x):
    """Operations of a forward and backward pass, by torch; fused kernels would count what they do twice."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    return counter.get_total_flops()


def test_a_linear_layer_is_two_operations_a_weight_and_row():
    assert linear_flops(10, 3, 4) == 2 * 10 * 3 * 4
    model, x = nn.Linear(3, 4), torch.rand(10, 3)
    assert counted(model, x) == training_flops(linear_flops(10, 3, 4), first=linear_flops(10, 3, 4))
    assert counted(model, x.requires_grad_()) == training_flops(linear_flops(10, 3, 4))


def test_a_convolution_by_patches_is_a_linear_layer_over_their_pixels():
    model = nn.Conv2d(3, 8, kernel_size=4, stride=4)
    forward = linear_flops(2 * 16, 3 * 4 * 4, 8)
    assert counted(model, torch.rand(2, 3, 16, 16)) == training_flops(forward, first=forward)


def test_attention_and_block_are_what_torch_counts():
    x = torch.rand(1, 7, 12, requires_grad=True)
    forward = linear_flops(7, 12, 36) + attention_flops(7, 12) + linear_flops(7, 12, 12)
    assert counted(Attention(12, heads=3), x) == training_flops(forward)
    assert counted(Block(12, heads=3), x) == training_flops(block_flops(7, 12))
    assert counted(Block(12, heads=3, mlp_ratio=2), x) == training_flops(block_flops(7, 12, mlp_ratio=2))
