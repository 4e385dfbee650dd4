"""Small things that tests of methods share: a backbone that shows its input, and synthetic images."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset

from wsss_zoo.backbones.backbone import Backbone, Stage
from wsss_zoo.normalization import IMAGENET

#: 82 thousand parameters.
TINY = "timm/test_efficientnet"


class Pixels(Backbone):
    """Its only feature map is the input."""

    stages = (Stage("pixels", 3, 1),)
    normalization = IMAGENET

    def forward(self, images):
        return {"pixels": images}


class ColouredSquares(Dataset):
    """32 x 32 noise with a square of one of two colours: red is class 1, blue class 2."""

    def __init__(self, length=16, classes=2):
        self.length, self.classes = length, classes

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image = 0.1 * torch.randn(3, 32, 32, generator=generator)
        label = index % 2
        top, left = torch.randint(0, 16, (2,), generator=generator).tolist()
        image[2 * label, top : top + 16, left : left + 16] += 2
        mask = torch.zeros(32, 32, dtype=torch.int64)
        mask[top : top + 16, left : left + 16] = label + 1
        mask[0] = 255
        labels = torch.zeros(self.classes)
        labels[label] = 1
        return {"image": image, "labels": labels, "mask": mask, "image_id": str(index), "size": (32, 32)}
