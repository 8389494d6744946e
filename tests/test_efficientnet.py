"""EfficientNet-Lite0: timm's numbers on images that are normalised as ours are."""

import pytest
import torch

import backbones
from backbones.efficientnet import efficientnet_lite0
from backbones.vision_models import timm_network
from imagesets.transforms import MEAN, STANDARD_DEVIATION


@pytest.mark.parametrize(("stride", "dilated"), [(32, False), (8, True)])
def test_weights_of_timm_give_its_features_at_an_odd_size(stride, dilated, tmp_path):
    reference = timm_network("tf_efficientnet_lite0", output_stride=stride).eval()
    torch.nn.init.uniform_(reference.bn1.running_mean)
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    options = {"stride": stride, "dilated": dilated, "frozen_statistics": True}
    backbone = backbones.build(efficientnet_lite0, weights=str(tmp_path / "weights.pth"), **options).eval()
    images = torch.rand(1, 3, 97, 70)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, STANDARD_DEVIATION))
    with torch.no_grad():
        features = backbone((images - mean) / deviation)[-1]
        expected = reference.forward_features((images - 0.5) / 0.5)
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4)
    assert features.min() == 0 < features.max()
