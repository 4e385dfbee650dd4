"""DCSM as a module: weights, localization, training, and its place in the predict step."""

from __future__ import annotations

import subprocess
import sys

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
from wsss_zoo.artifacts.localization_maps import LocalizationMaps
from wsss_zoo.artifacts.masks import load_mask
from wsss_zoo.data import MiniVOCDataModule
from wsss_zoo.errors import RecipeError, WsssZooError
from wsss_zoo.methods import DCSM, dcsm
from wsss_zoo.methods.dcsm.losses import multilabel_cross_entropy
from wsss_zoo.methods.dcsm.maps import channel_maxima, layer_evidence, merge_derivatives
from wsss_zoo.methods.image_localizer import ImageLocalizer
from wsss_zoo.pipeline.predict import predict
from wsss_zoo.pipeline.predict_images import predict_images
from wsss_zoo.pipeline.recipe import Predict
from wsss_zoo.weights.pretrained import save_pretrained

RELU = "timm/test_resnet"


def small(**changes):
    """DCSM on a small network with ReLUs, whose scores are spread around 0.5."""
    torch.manual_seed(0)
    settings = {"num_classes": 6, "backbone": RELU, "canvas": 64, "train_size": None} | changes
    model = DCSM(**settings).eval()
    nn.init.normal_(model.network.classifier.weight, std=3)
    return model


def test_importing_needs_no_torch():
    code = "import sys, wsss_zoo.methods.dcsm as m; assert 'torch' not in sys.modules; m.merge_derivatives"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(getattr(dcsm, name) is not None for name in dcsm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'merge'"):
        _ = dcsm.merge


def test_own_files(tmp_path):
    model = small(variant="caffe", layers=("stage2", "stage3"))
    save_pretrained(model, tmp_path / "dcsm.safetensors")
    read = create_model("dcsm", weights=tmp_path / "dcsm.safetensors", alpha=2.0)
    assert read.settings.variant == "caffe"
    assert tuple(read.settings.layers) == ("stage2", "stage3")
    assert read.settings.alpha == 2
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(read(images), model(images))


def test_one_scale_is_derivatives_of_the_best_classes_merged():
    model = small(compared_classes=6)
    images = torch.randn(2, 3, 64, 48)
    labels = torch.tensor([[1.0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]])
    with torch.no_grad():
        maps = model.localize(images, labels)
    every = merge_derivatives(model.network.derivatives(images[:1], range(6)), (64, 48))
    assert maps.shape == (2, 6, 64, 48)
    assert torch.allclose(maps[0, [0, 3]], every[[0, 3]], atol=1e-5)
    assert maps[0, [1, 2, 4, 5]].abs().max() == 0
    assert maps[1].abs().max() == 0


@pytest.mark.parametrize("variant", ["reference", "caffe"])
def test_localizing_an_image_on_its_canvas(variant):
    model = small(variant=variant, scales=(1.0, 1.5), compared_classes=6)
    assert isinstance(model, ImageLocalizer)
    image, labels = torch.randn(1, 3, 40, 51), torch.tensor([0.0, 1, 0, 0, 1, 0])
    black = -torch.tensor(model.normalization.mean) / torch.tensor(model.normalization.std)
    canvas = black.view(1, 3, 1, 1).repeat(1, 1, 64, 64)
    canvas[:, :, 12:52, 7:58] = image
    larger = F.interpolate(canvas, (96, 96), mode="bicubic", antialias=True)
    with torch.no_grad():
        found, maps = model.localize_image(image, labels)
    assert torch.equal(found, labels)
    evidence = torch.zeros(6, 64, 64)
    for pixels in (canvas, larger):
        for derivative in model.network.derivatives(pixels, range(6)).values():
            evidence += layer_evidence(channel_maxima(derivative, variant), 64, variant)
    expected = model.merge_maps(evidence[:, 12:52, 7:58])
    assert maps.shape == (6, 40, 51)
    assert torch.allclose(maps[[1, 4]], expected[[1, 4]], atol=1e-4)
    assert maps[[0, 2, 3, 5]].abs().max() == 0
    assert torch.allclose(model.background(maps), 1 - maps.amax(0))


def test_classes_are_found_by_the_scores_of_all_scales():
    model = small(scales=(0.75, 1.0, 1.5), compared_classes=2)
    image = torch.randn(1, 3, 90, 70)  # larger than the canvas
    with torch.no_grad():
        found, maps = model.localize_image(image)
    assert 0 < found.sum() < 6
    assert torch.equal(maps.amax((1, 2)) > 0, found > 0)
    assert maps.shape == (6, 90, 70)
    assert maps.max() <= 1
    strict = small(threshold=1.0, fallback="background")
    with torch.no_grad():
        found, maps = strict.localize_image(image)
    assert found.sum() == 0
    assert maps.abs().max() == 0
    assert strict.background(maps).min() == 1
    with torch.no_grad():
        found, maps = small(threshold=1.0).localize_image(image)
    assert found.sum() == 1
    assert maps.max() > 0.9


def test_a_class_alone_keeps_its_derivatives():
    labels, image = torch.tensor([0.0, 0, 1, 0, 0, 0]), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        _, alone = small(compared_classes=1, scales=(1.0,)).localize_image(image, labels)
        _, off = small(compared_classes=0, scales=(1.0,)).localize_image(image, labels)
        _, against = small(compared_classes=2, scales=(1.0,)).localize_image(image, labels)
    assert alone[2].max() > 0.9
    assert torch.equal(alone, off)
    assert not torch.allclose(alone, against, atol=0.1)


def test_inside_inference_mode():
    model, image, labels = small(), torch.randn(1, 3, 64, 48), torch.tensor([[1.0, 0, 0, 1, 0, 0]])
    with torch.no_grad():
        expected = model.localize(image, labels)
        _, on_canvas = model.localize_image(image)
    with torch.inference_mode():
        inside = image.clone()  # a tensor that has no graph
        assert torch.equal(model.localize(inside, labels), expected)
        assert torch.equal(model.localize_image(inside)[1], on_canvas)
        derivatives = model.network.derivatives(inside, [0, 3])
    for layer, derivative in model.network.derivatives(image, [0, 3]).items():
        assert torch.equal(derivatives[layer], derivative)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "cafe"}, "did you mean 'caffe'"),
        ({"layers": ("stage9",)}, "no layer 'stage9'"),
        ({"layers": ()}, "there are no layers"),
        ({"canvas": 0}, "canvas is a number of pixels"),
        ({"scales": ()}, "at least one"),
        ({"scales": (1.0, -1.0)}, "above 0"),
        ({"train_size": (700, 300)}, r"train_size is \[low, high\]"),
    ],
)
def test_wrong_arguments(change, message):
    with pytest.raises(WsssZooError, match=message):
        DCSM(num_classes=2, **({"backbone": RELU} | change))


def test_loss_is_summed_over_classes():
    logits, labels = torch.randn(3, 4, dtype=torch.float64), torch.randint(0, 2, (3, 4)).double()
    sigmoid = logits.sigmoid()
    expected = -(labels * sigmoid.log() + (1 - labels) * (1 - sigmoid).log()).sum() / 3
    assert multilabel_cross_entropy(logits, labels).item() == pytest.approx(expected.item(), rel=1e-9)


def test_every_batch_has_a_random_size():
    model = small(train_size=(40, 48))
    torch.manual_seed(1)
    sizes = {tuple(model._at_random_size(torch.zeros(1, 3, 64, 32)).shape[2:]) for _ in range(200)}
    assert sizes == {(side, round(side / 2)) for side in range(40, 49)}
    torch.manual_seed(1)
    again = [model._at_random_size(torch.zeros(1, 3, 64, 32)).shape[2] for _ in range(5)]
    torch.manual_seed(1)
    assert again == [model._at_random_size(torch.zeros(1, 3, 64, 32)).shape[2] for _ in range(5)]
    image = torch.randn(1, 3, 20, 20)
    assert small()._at_random_size(image) is image


def test_training_lowers_the_loss(tmp_path):
    L.seed_everything(0, verbose=False)
    model = DCSM(
        num_classes=3, backbone=TINY, optimizer="adamw", lr=5e-3, weight_decay=1e-2, train_size=(32, 40)
    )
    loader = DataLoader(ColouredSquares(classes=3), batch_size=8)
    logger = CSVLogger(tmp_path)
    trainer = L.Trainer(
        max_epochs=30,
        accelerator="cpu",
        logger=logger,
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
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert {round(rate / 5e-4, 6) for rate in rates} == {1.0, 10.0}  # a tenth of 5e-3, and the classifier's


def test_learning_rate_and_groups():
    with torch.device("meta"):
        model = DCSM()
    model.trainer = type("Trainer", (), {"estimated_stepping_batches": 60_000})()
    configured = model.configure_optimizers()
    groups = configured["optimizer"].param_groups
    assert [(g["name"], g["lr"], g["weight_decay"], g["momentum"]) for g in groups] == [
        ("weights", 1e-4, 5e-4, 0.9),
        ("biases", 1e-4, 5e-4, 0.9),
        ("new_weights", 1e-3, 5e-4, 0.9),
        ("new_biases", 1e-3, 5e-4, 0.9),
    ]
    factor = configured["lr_scheduler"]["scheduler"].lr_lambdas[0]
    assert [factor(step) for step in (0, 39_999, 40_000, 60_000)] == [1.0, 1.0, 0.1, 0.1]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    data = MiniVOCDataModule(tmp_path_factory.mktemp("minivoc"), n_train=8, n_val=8, image_size=64)
    data.prepare_data()
    return data


def run_predict(model, data, folder, **settings):
    return predict(
        model,
        Predict(splits=("val",), **settings),
        data.records("val"),
        data,
        folder,
        inputs={},
        stage="dcsm",
        trainer_arguments={"accelerator": "cpu", "enable_progress_bar": False},
    )


def test_a_predict_step_with_and_without_labels(tmp_path, pictures):
    model = small(num_classes=8, scales=(1.0,))
    run_predict(model, pictures, tmp_path / "labels")
    run_predict(model, pictures, tmp_path / "scores", image_labels=False, stride=1)
    for record in pictures.records("val"):
        maps = LocalizationMaps.load(tmp_path / "labels" / "maps" / f"{record.image_id}.npz")
        assert maps.classes.tolist() == np.flatnonzero(record.labels).tolist()
        own = LocalizationMaps.load(tmp_path / "scores" / "maps" / f"{record.image_id}.npz")
        image = torch.from_numpy(model.normalization(pictures.read_image(record))).permute(2, 0, 1)[None]
        with torch.no_grad():
            found, expected = model.localize_image(image)
        assert own.classes.tolist() == torch.nonzero(found).flatten().tolist()
        assert np.abs(own.full_size() - expected[found > 0].numpy()).max() < 2e-3


def test_scales_of_the_predict_step_are_refused(tmp_path, pictures):
    with pytest.raises(RecipeError, match=r"at scales of its own, so this stays \[1\.0\]"):
        run_predict(small(num_classes=8), pictures, tmp_path, scales=(1.0, 1.5))


def test_masks_of_loose_images(tmp_path, pictures):
    model = small(num_classes=8, scales=(1.0,))
    save_pretrained(model, tmp_path / "weights.safetensors")
    record = pictures.records("val")[0]
    predict_images(str(tmp_path / "weights.safetensors"), [record.image], tmp_path / "out", threshold=0.99)
    mask = load_mask(tmp_path / "out" / "masks" / f"{record.image.stem}.png")
    image = torch.from_numpy(model.normalization(pictures.read_image(record))).permute(2, 0, 1)[None]
    _, maps = model.localize_image(image)
    expected = torch.cat([1 - maps.amax(0, keepdim=True), maps]).argmax(0).numpy()
    assert (mask == expected).mean() > 0.999
    assert mask.max() > 0
