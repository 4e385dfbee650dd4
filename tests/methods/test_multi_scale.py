"""Merging over scales and mirrors against PSA's numbers and against a plain reading of the rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from wsss_zoo.methods.multi_scale import image_pyramid, multi_scale_localize, multi_scale_segment
from wsss_zoo.normalization import IMAGENET, Normalization

SCALES = (1.0, 0.5, 1.5, 2.0)
SIZE = (61, 83)


class StandIn:
    """Gives the fixture's random network outputs, scale by scale, plain then mirrored."""

    def __init__(self):
        self.rng = np.random.default_rng(62)

    def activation_maps(self, images):
        height, width = (-(-side // 8) for side in images.shape[2:])
        draws = [self.rng.standard_normal((20, height, width)) for _ in range(len(images))]
        return torch.from_numpy(np.stack(draws).astype(np.float32)).relu()

    def merge_maps(self, maps):
        from wsss_zoo.methods import CAM

        return CAM.merge_maps(None, maps)


def test_psa_merge():
    pyramid = [torch.zeros(1, 3, round(SIZE[0] * scale), round(SIZE[1] * scale)) for scale in SCALES]
    labels = torch.zeros(20)
    labels[[2, 14]] = 1
    merged = multi_scale_localize(StandIn(), pyramid, labels, SIZE)
    with np.load(Path(__file__).parents[1] / "parity" / "psa_merge.npz") as arrays:
        for index in (2, 14):
            theirs = arrays[f"psa_norm_cam_{index}"]
            assert np.abs(merged[index].numpy() - theirs).max() < 1e-5
    assert merged[[0, 1, 3, 19]].abs().max() == 0


def test_pyramid_resizes_the_8_bit_image_and_rounds_half_to_even():
    image = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    pyramid = image_pyramid(image, SCALES, IMAGENET)
    assert [tuple(x.shape[2:]) for x in pyramid] == [(61, 83), (30, 42), (92, 124), (122, 166)]
    half = np.asarray(Image.fromarray(image).resize((42, 30), Image.Resampling.BICUBIC))
    assert np.array_equal(pyramid[1][0].permute(1, 2, 0).numpy(), IMAGENET(half))


def test_normalization_inverts_and_swaps_channels():
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    for bgr in (False, True):
        normalization = Normalization((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), bgr=bgr)
        normalised = normalization(image)
        first = image[..., 2 if bgr else 0]
        assert normalised[..., 0] == pytest.approx((first - 1.0) / 4.0)
        assert np.array_equal(normalization.invert(normalised), image)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_segment_averages_over_scales_and_mirrors(average):
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1)
    pyramid = [torch.randn(1, 3, 20, 30), torch.randn(1, 3, 10, 15)]
    ours = multi_scale_segment(network, pyramid, (20, 30), average=average)
    scores = []
    with torch.no_grad():
        for image in pyramid:
            for mirrored in (False, True):
                logits = network(image.flip(3) if mirrored else image)
                logits = F.interpolate(logits, (20, 30), mode="bilinear")
                logits = logits.flip(3) if mirrored else logits
                scores.append(logits.softmax(1) if average == "probabilities" else logits)
    mean = torch.cat(scores).mean(0)
    expected = mean if average == "probabilities" else mean.softmax(0)
    assert torch.allclose(ours, expected, atol=1e-6)
    assert torch.allclose(ours.sum(0), torch.ones(20, 30), atol=1e-5)
