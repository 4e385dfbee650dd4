"""`create_backbone`: names, arguments and lazy imports."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from wsss_zoo.backbones import BACKBONES, create_backbone
from wsss_zoo.backbones.backbone import Backbone
from wsss_zoo.errors import WsssZooError


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_name_builds_a_backbone(name):
    with torch.device("meta"):
        backbone = create_backbone(name)
    assert isinstance(backbone, Backbone)
    assert backbone.out_channels == backbone.stages[-1].channels
    strides = [stage.stride for stage in backbone.stages]
    assert strides == sorted(strides)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(WsssZooError, match="did you mean 'resnet38d'"):
        create_backbone("resnet38")


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "resnet50_irn"])
def test_an_unknown_argument_is_told(name):
    with pytest.raises(WsssZooError, match="has no argument 'dilations'"):
        create_backbone(name, dilations=3)


def test_a_fixed_argument_cannot_be_given():
    with pytest.raises(WsssZooError, match="has no argument 'depth'"):
        create_backbone("resnet50", depth=101)


def test_importing_the_package_leaves_torch_alone():
    code = "import sys, wsss_zoo.backbones, wsss_zoo.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
