"""FickleNet as a module: weights, training, inference that repeats, and its place in the predict step."""

from __future__ import annotations

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from tests.methods.tiny import TINY, ColouredSquares
from wsss_zoo import create_model
from wsss_zoo.artifacts import LocalizationMaps
from wsss_zoo.artifacts.masks import load_mask
from wsss_zoo.data import MiniVOCDataModule
from wsss_zoo.errors import RecipeError, WeightsError, WsssZooError
from wsss_zoo.methods import CAM, FickleNet
from wsss_zoo.methods.image_localizer import ImageLocalizer, SamplingLocalizer
from wsss_zoo.methods.optimization import halving_factor
from wsss_zoo.pipeline.predict import predict
from wsss_zoo.pipeline.predict_images import predict_images
from wsss_zoo.pipeline.recipe import Predict
from wsss_zoo.weights.pretrained import save_pretrained

LAYERS = [f"conv{group}_{index}" for group, n in enumerate((2, 2, 3, 3, 3), 1) for index in range(1, n + 1)]
POSITIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def small(**changes):
    """FickleNet on a small network whose scores are spread around 0.5."""
    torch.manual_seed(0)
    settings = {"num_classes": 6, "backbone": TINY, "kernel": 3, "p": 0.6, "n_maps": 5} | changes
    model = FickleNet(**settings).eval()
    nn.init.normal_(model.network.head.weight, std=0.3)
    return model


def vgg_layout(names):
    """Weights of a FickleNet on VGG16 with three classes, the convolutions under the given names."""
    generator, inputs, state_dict = torch.Generator().manual_seed(0), 3, {}
    widths = (64, 64, 128, 128, *(256,) * 3, *(512,) * 6)
    for name, width in zip(names, widths, strict=True):
        scale = (2 / (9 * inputs)) ** 0.5
        state_dict[f"{name}.weight"] = scale * torch.randn(width, inputs, 3, 3, generator=generator)
        state_dict[f"{name}.bias"] = 0.1 * torch.randn(width, generator=generator)
        inputs = width
    state_dict["head.weight"] = 0.01 * torch.randn(3, 512, 5, 5, generator=generator)
    state_dict["head.bias"] = torch.randn(3, generator=generator)
    return state_dict


def test_the_published_network():
    with torch.device("meta"):
        model = FickleNet()
    shapes = {key: tuple(value.shape) for key, value in model.network.state_dict().items()}
    assert (shapes["head.weight"], shapes["head.bias"]) == ((20, 512, 9, 9), (20,))
    assert sum(np.prod(shape) for shape in shapes.values()) == 14_714_688 + 20 * 512 * 81 + 20
    images = torch.empty(2, 3, 321, 321, device="meta")
    assert model.network.features(images).shape == (2, 512, 41, 41)
    assert (model.hparams["p"], model.hparams["n_maps"], model.hparams["threshold"]) == (0.9, 200, 0.35)
    assert isinstance(model, ImageLocalizer)
    assert isinstance(model, SamplingLocalizer)
    assert not isinstance(CAM(backbone=TINY), SamplingLocalizer)


@pytest.mark.parametrize("layout", ["caffe", "torchvision"])
def test_weights_of_both_layouts_compute_what_they_say(layout):
    state_dict = vgg_layout(LAYERS)
    names = LAYERS if layout == "caffe" else [f"features.{position}" for position in POSITIONS]
    model = create_model("ficklenet", weights=vgg_layout(names), n_maps=3)
    assert (model.hparams["num_classes"], model.hparams["kernel"]) == (3, 5)
    x = image = 50 * torch.randn(1, 3, 49, 33)
    with torch.no_grad():
        for name in LAYERS:
            dilation = 2 if name.startswith("conv5") else 1
            weight, bias = state_dict[f"{name}.weight"], state_dict[f"{name}.bias"]
            x = F.conv2d(x, weight, bias, padding=dilation, dilation=dilation).relu()
            if name in ("conv1_2", "conv2_2", "conv3_3", "conv4_3"):
                x = F.max_pool2d(x, 3, stride=1 if name == "conv4_3" else 2, padding=1)
        expected = F.conv2d(x, state_dict["head.weight"], state_dict["head.bias"], padding=2).mean((2, 3))
        logits = model(image, stochastic=False)
        score_maps = model.network.score_maps(image)
    assert x.shape[2:] == (7, 5)
    assert torch.allclose(logits, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert score_maps.shape == (1, 3, 7, 5)
    with pytest.raises(WeightsError, match=r"head\.bias: expected \(2,\), got \(3,\)"):
        create_model("ficklenet", weights=vgg_layout(names), num_classes=2)


@pytest.mark.parametrize("layout", ["vgg16_20M", "torchvision"])
def test_fully_connected_layers_beside_the_head_are_left_out(layout):
    names, connected = LAYERS, ["fc6", "fc7"]
    if layout == "torchvision":
        names = [f"features.{position}" for position in POSITIONS]
        connected = [f"classifier.{position}" for position in (0, 3, 6)]
    state_dict = vgg_layout(names)
    extra = {f"{name}.{kind}": torch.zeros(1) for name in connected for kind in ("weight", "bias")}
    model = create_model("ficklenet", weights=state_dict | extra)
    assert torch.equal(model.network.head.weight, state_dict["head.weight"])
    assert torch.equal(model.network.backbone.conv5_3.weight, state_dict[f"{names[-1]}.weight"])
    headless = {key: value for key, value in state_dict.items() if not key.startswith("head")} | extra
    with pytest.raises(WeightsError, match="without a head; to start training from it, pass it as"):
        create_model("ficklenet", weights=headless)


def test_backbone_weights_without_the_fully_connected_layers(tmp_path):
    convolutions = {key: value for key, value in vgg_layout(LAYERS).items() if key.startswith("conv")}
    connected = {"fc6.weight": torch.zeros(1024, 512, 3, 3), "fc6.bias": torch.zeros(1024)}
    torch.save(convolutions | connected, tmp_path / "vgg16_20M.pth")
    model = FickleNet(num_classes=2, backbone_weights=str(tmp_path / "vgg16_20M.pth"))
    assert torch.equal(model.network.backbone.conv5_3.weight, convolutions["conv5_3.weight"])
    # expanded: a zero is stored, not 400 MB
    shapes = {"0.weight": (4096, 512 * 49), "0.bias": (4096,), "3.weight": (4096, 4096), "3.bias": (4096,)}
    theirs = {f"classifier.{key}": torch.zeros(1).expand(shape) for key, shape in shapes.items()}
    for position, name in zip(POSITIONS, LAYERS, strict=True):
        for kind in ("weight", "bias"):
            theirs[f"features.{position}.{kind}"] = convolutions[f"{name}.{kind}"]
    torch.save(theirs, tmp_path / "torchvision.pth")
    model = FickleNet(num_classes=2, backbone_weights=str(tmp_path / "torchvision.pth"))
    assert torch.equal(model.network.backbone.conv5_3.weight, convolutions["conv5_3.weight"])
    # torchvision's first layer takes RGB divided by a standard deviation; here it takes BGR in 0..255
    first = model.network.backbone.conv1_1.weight
    assert torch.allclose(first[:, 0] * 0.225 * 255, convolutions["conv1_1.weight"][:, 2], atol=1e-6)


def test_own_files(tmp_path):
    model = small(map_size=(7, 9), selection="general")
    save_pretrained(model, tmp_path / "fickle.safetensors")
    read = create_model("ficklenet", weights=tmp_path / "fickle.safetensors", n_maps=2)
    assert (read.map_size, read.network.head.selection, read.hparams["n_maps"]) == ((7, 9), "general", 2)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(read(images, stochastic=False), model(images, stochastic=False))


def test_an_image_has_the_same_maps_every_time():
    model, image, labels = small(), torch.randn(1, 3, 64, 48), torch.tensor([1.0, 0, 0, 1, 0, 0])
    found, maps = model.localize_samples(image, labels)
    torch.manual_seed(99)  # whatever ran before
    model.localize_samples(torch.randn(1, 3, 32, 32), labels)
    _, again = model.localize_samples(image.clone(), labels)
    assert torch.equal(found, labels)
    assert all(torch.equal(maps[kind], again[kind]) for kind in ("maps", "maps_max"))
    other = small(inference_seed=1).localize_samples(image, labels)[1]
    assert not torch.equal(maps["maps"], other["maps"])
    assert maps["maps_max"].shape == (6, 2, 2)
    assert maps["maps_max"][[1, 2, 4, 5]].abs().max() == 0
    assert (maps["maps_max"] >= maps["maps"]).all()
    assert maps["maps"].min() >= 0
    assert maps["maps_max"].max() == 1


def test_localize_enlarges_the_average_map():
    model = small(map_size=(8, 6))
    images, labels = torch.randn(2, 3, 64, 48), torch.tensor([[1.0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]])
    maps = model.localize(images, labels)
    average = model.localize_samples(images[:1], labels[0])[1]["maps"]
    expected = F.interpolate(average[None], (64, 48), mode="bilinear", align_corners=False)[0]
    assert torch.equal(maps[0], expected)
    assert maps[1].abs().max() == 0
    assert torch.equal(model.background(maps[0]), torch.full((64, 48), 0.35))


def test_any_and_average_of_a_batch():
    model = small()
    images, labels = torch.randn(2, 3, 64, 48), torch.tensor([[1.0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0]])
    anywhere, mean = model.network.localize(images, labels, 6, 0.35, torch.Generator().manual_seed(0))
    assert (anywhere.dtype, anywhere.shape, mean.shape) == (torch.bool, (2, 6, 2, 2), (2, 6, 2, 2))
    assert torch.equal(mean.amax((2, 3)) > 0, labels > 0)
    assert torch.equal(anywhere.any(3).any(2), labels > 0)
    # the average of maps that are nowhere above the threshold cannot be above it
    assert (anywhere | (mean <= 0.35)).all()


def test_without_labels_classes_are_found_by_their_expected_scores():
    model, image = small(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = (model(image, stochastic=False)[0] > 0).float()
    assert 0 < expected.sum() < 6
    assert torch.equal(model.localize_image(image)[0], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_maps": 0}, "n_maps is at least 1"),
        ({"inference_seed": -1}, "inference_seed at least 0"),
        ({"lr_halved_every": 0}, "lr_halved_every above 0"),
        ({"map_size": (41,)}, r"map_size is \[rows, columns\]"),
        ({"kernel": 2}, "kernel is odd"),
        ({"selection": "none"}, "no selection 'none'"),
    ],
)
def test_wrong_arguments(change, message):
    with pytest.raises(WsssZooError, match=message):
        FickleNet(num_classes=2, **({"backbone": TINY} | change))


def test_the_learning_rate_is_halved():
    assert [halving_factor(step, 4) for step in (0, 3, 4, 7, 8)] == [1, 1, 0.5, 0.5, 0.25]


def test_training_lowers_the_loss(tmp_path):
    L.seed_everything(0, verbose=False)
    model = FickleNet(num_classes=3, backbone=TINY, kernel=3, p=0.5, lr=5e-3, lr_halved_every=8)
    data = ColouredSquares(classes=3)  # the third class never occurs
    loader = DataLoader(data, batch_size=8)
    trainer = L.Trainer(
        max_epochs=20,
        accelerator="cpu",
        logger=CSVLogger(tmp_path),
        log_every_n_steps=1,
        callbacks=[LearningRateMonitor("step")],
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    before = trainer.validate(model, loader, verbose=False)[0]
    trainer.fit(model, loader, loader)
    after = trainer.validate(model, loader, verbose=False)[0]
    assert after["val/loss"] < 0.6 * before["val/loss"]
    assert after["val/map"] > 0.95
    optimizer = trainer.optimizers[0]
    assert type(optimizer) is torch.optim.Adam
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.999)}
    assert {group["lr"] for group in optimizer.param_groups} == {5e-3 / 4}  # 40 steps, halved after 16 and 32
    assert trainer.validate(model, loader, verbose=False)[0] == after  # nothing is drawn


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    module = MiniVOCDataModule(tmp_path_factory.mktemp("minivoc"), n_train=8, n_val=8, image_size=64)
    module.prepare_data()
    module.setup()
    return module


def predicted(model, data, folder, **settings):
    settings = Predict(splits=("train",), **settings)
    arguments = {"accelerator": "cpu", "enable_progress_bar": False}
    return predict(
        model, settings, data.records("train"), data, folder,
        inputs={}, stage="classifier", trainer_arguments=arguments,
    )  # fmt: skip


def test_prediction_writes_average_and_maximum_and_can_be_continued(data, tmp_path):
    model = small(num_classes=8, map_size=(9, 11))
    outputs = ("maps", "maps_max")
    facts = predicted(model, data, tmp_path, outputs=outputs)
    assert facts["computed"] == 8
    record = data.records("train")[1]
    stored = {kind: LocalizationMaps.load(tmp_path / kind / f"{record.image_id}.npz") for kind in outputs}
    assert stored["maps"].classes.tolist() == np.flatnonzero(record.labels).tolist()
    assert stored["maps"].maps.shape[1:] == (9, 11)
    assert stored["maps"].size == data.read_image(record).shape[:2]
    pixels = model.normalization(data.read_image(record))
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    _, expected = model.localize_samples(image, torch.tensor(record.labels))
    for kind in outputs:
        ours = expected[kind][stored[kind].classes.astype(int)].numpy().astype(np.float16)
        np.testing.assert_array_equal(stored[kind].maps, ours)
    # killed after the average of an image was written, continued: the same files
    victim = tmp_path / "maps_max" / f"{record.image_id}.npz"
    before = victim.read_bytes()
    victim.unlink()
    assert predicted(model, data, tmp_path, outputs=outputs)["computed"] == 1
    assert victim.read_bytes() == before


def test_what_a_predict_step_refuses(data, tmp_path):
    with pytest.raises(RecipeError, match="scales of its own"):
        predicted(small(num_classes=8), data, tmp_path, scales=(1.0, 2.0))
    with pytest.raises(RecipeError, match="CAM has no localize_samples"):
        predicted(CAM(num_classes=8, backbone=TINY), data, tmp_path, outputs=("maps", "maps_max"))


def test_masks_of_images_without_labels(data, tmp_path):
    model = small(num_classes=8, threshold=0.2)
    save_pretrained(model, tmp_path / "weights.safetensors", class_names=data.class_names)
    record = data.records("val")[0]
    assert predict_images(str(tmp_path / "weights.safetensors"), [record.image], tmp_path / "out") == 1
    mask = load_mask(tmp_path / "out" / "masks" / f"{record.image_id}.png")
    assert mask.shape == data.read_image(record).shape[:2]
    assert len(np.unique(mask)) > 1
