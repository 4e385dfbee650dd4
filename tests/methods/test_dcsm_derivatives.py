"""Guided back-propagation against networks with hooks, and derivatives at the layers of DCSM's VGG16."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.methods.tiny import TINY, Pixels
from wsss_zoo.backbones import create_backbone
from wsss_zoo.backbones.backbone import Backbone, Stage
from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods.dcsm.derivatives import class_derivatives
from wsss_zoo.methods.dcsm.guided_relu import GuidedReLUs, guided_relu
from wsss_zoo.methods.dcsm.network import DCSMNetwork
from wsss_zoo.normalization import IMAGENET


def hooked_derivative(network, layer_input, scores):
    """What everybody writes: a backward hook on each ReLU that clips what it passes on."""
    hooks = [
        module.register_full_backward_hook(lambda module, inputs, outputs: (inputs[0].clamp(min=0),))
        for module in network.modules()
        if isinstance(module, nn.ReLU | nn.ReLU6)
    ]
    try:
        return torch.autograd.grad(scores(network(layer_input)), layer_input)[0]
    finally:
        for hook in hooks:
            hook.remove()


def small_network(relu):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        relu(),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        relu(),
        nn.Dropout(),
        nn.Conv2d(12, 5, 1),
    ).eval()


@pytest.mark.parametrize("relu", [nn.ReLU, nn.ReLU6])
def test_guided_like_hooks_and_all_classes_at_once(relu):
    network = small_network(relu)
    image = (4 * torch.randn(1, 3, 13, 18)).requires_grad_()
    with GuidedReLUs() as relus:
        scores = network(image)
    assert relus.count == 2
    seeds = torch.zeros(5, *scores.shape)
    seeds[torch.arange(5), 0, torch.arange(5)] = 1
    together = torch.vmap(lambda seed: torch.autograd.grad(scores, image, seed)[0])(seeds)
    for index in range(5):
        alone = hooked_derivative(network, image, lambda x, c=index: x[:, c].sum())
        plain = torch.autograd.grad(network(image)[:, index].sum(), image)[0]
        assert torch.allclose(together[index], alone, atol=1e-6)
        assert not torch.allclose(together[index], plain, atol=1e-2)


def test_relu6_passes_nothing_above_six():
    x = torch.tensor([-1.0, 0.0, 3.0, 6.0, 7.0], requires_grad=True)
    y = guided_relu(x, 6.0)
    assert y.tolist() == [0, 0, 3, 6, 6]
    assert torch.autograd.grad(y, x, torch.tensor([1.0, 1, 1, 1, 1]), retain_graph=True)[0].tolist() == [
        *[0, 0, 1, 0, 0]
    ]
    assert torch.autograd.grad(y, x, -torch.ones(5))[0].abs().max() == 0


@pytest.mark.parametrize(
    "relu",
    [
        F.relu,
        torch.relu,
        lambda x: x.relu(),
        lambda x: torch.relu_(x.clone()),
        lambda x: x.clone().relu_(),
        nn.ReLU(inplace=True),
        nn.ReLU6(inplace=True),
        F.relu6,
        lambda x: F.hardtanh(x, 0.0, 6.0),
    ],
)
def test_every_way_to_write_a_relu(relu):
    x = torch.tensor([-1.0, 2.0, 3.0], requires_grad=True)
    with GuidedReLUs():
        y = relu(x)
    assert y.tolist() == [0, 2, 3]
    assert torch.autograd.grad(y, x, torch.tensor([1.0, 1.0, -1.0]))[0].tolist() == [0, 1, 0]
    y = relu(x.clone())  # outside nothing has changed
    assert torch.autograd.grad(y, x, torch.tensor([1.0, 1.0, -1.0]))[0].tolist() == [0, 1, -1]


def test_an_in_place_relu_changes_its_tensor():
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    with GuidedReLUs():
        y = x * 1
        y.relu_()
    assert y.tolist() == [0, 2]


def test_other_functions_are_left_alone():
    x = torch.linspace(-3, 3, 7, requires_grad=True)
    with GuidedReLUs():
        y = F.hardtanh(x) + F.silu(x)
    assert torch.equal(y, F.hardtanh(x) + F.silu(x))
    assert (torch.autograd.grad(y.sum(), x)[0] < 0).any()


class PlainVGG(nn.Module):
    """VGG16 as modules, fc6 a 7x7 convolution; remembers the inputs of its convolutions."""

    def __init__(self, backbone, classifier):
        super().__init__()
        self.steps = nn.ModuleDict()
        for group, count in enumerate((2, 2, 3, 3, 3), 1):
            for index in range(1, count + 1):
                self.steps[f"conv{group}_{index}"] = backbone.get_submodule(f"conv{group}_{index}")
                self.steps[f"relu{group}_{index}"] = nn.ReLU()
            self.steps[f"pool{group}"] = nn.MaxPool2d(2, 2, ceil_mode=True)
        for name, channels in (("fc6", 512), ("fc7", backbone.fc6.out_features)):
            linear = getattr(backbone, name)
            side = 7 if name == "fc6" else 1
            layer = nn.Conv2d(channels, linear.out_features, side)
            layer.weight.data = linear.weight.data.view_as(layer.weight)
            layer.bias.data = linear.bias.data
            self.steps[name], self.steps[f"relu_{name}"] = layer, nn.ReLU()
        self.steps["fc8"] = classifier
        self.inputs = {}

    def forward(self, x):
        for name, step in self.steps.items():
            self.inputs[name] = x
            x = step(x)
        return x


@pytest.fixture(scope="module")
def vgg():
    torch.manual_seed(0)
    network = DCSMNetwork(create_backbone("vgg16_fcn", fc_channels=24), 6).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
        else:
            nn.init.normal_(parameter, std=0.1)
    return network


LAYERS = [f"conv{group}_{index}" for group in (3, 4, 5) for index in (1, 2, 3)]


@pytest.mark.parametrize("guided", [True, False])
def test_derivatives_of_vgg_at_the_inputs_of_nine_convolutions(vgg, guided):
    image, classes = 50 * torch.randn(1, 3, 201, 250), [4, 0, 2]
    with torch.no_grad():  # as inference is run
        ours = vgg.derivatives(image, classes, guided=guided)
        score_map = vgg(image)
    assert list(ours) == LAYERS[::-1]
    plain = PlainVGG(vgg.backbone, vgg.classifier).eval()
    if guided:
        for module in plain.modules():
            if isinstance(module, nn.ReLU):
                module.register_full_backward_hook(lambda module, inputs, outputs: (inputs[0].clamp(min=0),))
    scores = plain(image.requires_grad_())
    assert torch.allclose(score_map, scores, rtol=1e-4, atol=1e-4 * scores.abs().max().item())
    assert score_map.shape == (1, 6, 1, 2)
    for row, index in enumerate(classes):
        inputs = [plain.inputs[layer] for layer in LAYERS]
        expected = torch.autograd.grad(scores[:, index].sum(), inputs, retain_graph=True)
        for layer, theirs in zip(LAYERS, expected, strict=True):
            assert ours[layer][row].shape == theirs.shape[1:]
            assert (ours[layer][row] - theirs[0]).abs().max() <= 1e-4 * theirs.abs().max(), layer
    assert {layer: ours[layer].shape[1] for layer in ("conv5_1", "conv4_1", "conv3_1")} == {
        "conv5_1": 512,
        "conv4_1": 256,
        "conv3_1": 128,
    }
    assert ours["conv3_1"].shape[2:] == (51, 63)
    assert ours["conv5_3"].shape[2:] == (13, 16)


def test_nothing_is_recorded_below_the_shallowest_layer(vgg):
    image = torch.randn(1, 3, 200, 200)
    traced = vgg.trace(image)
    assert list(traced.maps) == LAYERS
    assert traced.maps["conv3_1"].is_leaf
    # the weights below need gradients, the leaf has no history all the same
    assert vgg.backbone.conv1_1.weight.requires_grad
    assert list(vgg.trace(image, ["conv5_2"]).maps) == ["conv5_2"]
    assert vgg.trace(image, ["conv5_2"]).maps["conv5_2"].is_leaf
    assert not vgg.trace(image, ["conv5_2", "image"]).maps["conv5_2"].is_leaf
    with torch.no_grad():
        assert vgg.backbone(image, graph_from="fc7").keys() == {"fc7"}


def test_derivative_at_the_image(vgg):
    image = 50 * torch.randn(1, 3, 200, 200)
    ours = vgg.derivatives(image, [3], ["image"], guided=False)["image"]
    expected = torch.autograd.grad(vgg(image.requires_grad_())[:, 3].sum(), image)[0]
    assert torch.allclose(ours[0], expected[0], rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_small_images_are_refused(vgg):
    assert vgg(torch.zeros(1, 3, 193, 193)).shape[2:] == (1, 1)
    with pytest.raises(WsssZooError, match="at least 193 pixels"):
        vgg(torch.zeros(1, 3, 192, 300))


def test_any_backbone_with_relus():
    torch.manual_seed(0)
    network = DCSMNetwork(create_backbone("timm/test_resnet"), 3).eval()
    image = torch.randn(1, 3, 64, 64)
    ours = network.derivatives(image, [0, 2])
    assert list(ours) == list(network.layers)[::-1]
    maps = network.backbone(image)
    layer = network.layers[-1]
    with GuidedReLUs():
        scores = network(image)
    assert torch.allclose(scores, network(image))
    assert ours[layer].shape == (2, *maps[layer].shape[1:])
    alone = network.derivatives(image, [2])
    for name, derivative in alone.items():
        assert torch.allclose(derivative[0], ours[name][1], atol=1e-6)


def test_a_backbone_without_relus_has_plain_derivatives_only():
    network = DCSMNetwork(create_backbone(TINY), 2).eval()
    image = torch.randn(1, 3, 32, 32)
    with pytest.raises(WsssZooError, match="has none; choose a backbone with ReLU"):
        network.derivatives(image, [0])
    assert list(network.derivatives(image, [0], guided=False)) == list(network.layers)[::-1]


class Bypass(Backbone):
    """Its second map can be reached past the first one; or not at all."""

    stages = (Stage("a", 3, 1), Stage("b", 3, 1), Stage("c", 3, 1))
    normalization = IMAGENET

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, images):
        a = F.relu(images)
        b = F.relu(a * 2)
        c = F.relu(b + a) if self.kind == "bypass" else F.relu(b.detach() + images)
        return {"a": a, "b": b, "c": c}


def test_layers_that_are_no_chain():
    image = torch.rand(1, 3, 4, 4)
    bypass, cut = DCSMNetwork(Bypass("bypass"), 2), DCSMNetwork(Bypass("cut"), 2)
    with pytest.raises(WsssZooError, match="connection past 'b'; leave one of them out"):
        bypass.derivatives(image, [0])
    assert set(bypass.derivatives(image, [0], ["a"])) == {"a"}
    with pytest.raises(WsssZooError, match="no derivative reaches the layer 'b'"):
        cut.derivatives(image, [0], ["b"])


def test_what_cannot_be_traced(vgg):
    with pytest.raises(WsssZooError, match="did you mean 'conv5_3'"):
        vgg.trace(torch.zeros(1, 3, 200, 200), ["conv53"])
    with pytest.raises(WsssZooError, match="there are no layers"):
        vgg.trace(torch.zeros(1, 3, 200, 200), [])
    with pytest.raises(WsssZooError, match="a batch of 2"):
        next(class_derivatives(torch.zeros(2, 2, 1, 1), {}, [0]))
    with pytest.raises(WsssZooError, match="vgg16_fcn has no map"):
        vgg.backbone(torch.zeros(1, 3, 200, 200), graph_from="pool2")


def test_the_network_is_the_score_map():
    network = DCSMNetwork(Pixels(), 2).eval()
    network.classifier.weight.data = torch.tensor([[1.0, 0, 0], [0, 1, -1]])[:, :, None, None]
    image = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]], [[1.0, 4.0]]]])
    assert network(image).tolist() == [[[[1, 2]], [[2, -4]]]]
    assert network.trace(image, ["pixels"], guided=False).logits.tolist() == [2, 2]
