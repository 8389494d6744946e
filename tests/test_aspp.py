"""ASPP as one product and shifted sums: the sum of its branches, with their gradients, at any size and dilation."""

import pytest
import torch

from segmentation.aspp import ASPP


@pytest.mark.parametrize("size", [(9, 12), (1, 1), (1, 30), (41, 41), (17, 5)])
@pytest.mark.parametrize("rates", [(6, 12, 18, 24), (1,), (1, 2, 40)])
def test_it_is_the_sum_of_its_branches_with_their_gradients(size, rates):
    torch.manual_seed(0)
    aspp, features = ASPP(7, 5, rates), torch.randn(2, 7, *size, requires_grad=True)
    for parameter in aspp.parameters():
        torch.nn.init.normal_(parameter)
    found, expected = aspp(features), torch.stack([branch(features) for branch in aspp]).sum(dim=0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    given, seen = (features, *aspp.parameters()), torch.randn_like(expected)
    gradients = zip(torch.autograd.grad(found, given, seen), torch.autograd.grad(expected, given, seen), strict=True)
    for gradient, wanted in gradients:
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-3)


def test_far_from_borders_a_constant_map_gives_the_outputs_of_its_vector():
    aspp, vector = ASPP(7, 5, (1, 2, 4)), torch.randn(1, 7)
    middle = aspp(vector[:, :, None, None].expand(1, 7, 9, 9))[:, :, 4, 4]
    torch.testing.assert_close(middle, aspp.on_constant(vector))
