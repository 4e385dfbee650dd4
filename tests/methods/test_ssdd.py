"""Both stages of SSDD: parts, gradients, training, refining, inference."""

from __future__ import annotations

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, Dataset

from tests.methods.tiny import TINY, ColouredSquares
from wsss_zoo import create_model
from wsss_zoo.artifacts import Differences
from wsss_zoo.backbones import create_backbone
from wsss_zoo.backbones.backbone import Backbone, Stage
from wsss_zoo.errors import DataError, RecipeError, WeightsError, WsssZooError
from wsss_zoo.methods import SSDD, SSDDStatic
from wsss_zoo.methods.ssdd.network import SSDDNetwork
from wsss_zoo.methods.ssdd.training import DifferenceTraining
from wsss_zoo.normalization import IMAGENET
from wsss_zoo.weights.pretrained import save_pretrained

#: Four by four cells for 32 pixels, and a level of stride 2.
SMALL = {
    "num_classes": 2,
    "backbone": TINY,
    "backbone_args": {"out_indices": (0, 1, 2)},
    "head_channels": 8,
    "head_dilation": 2,
    "detector_channels": 6,
    "test_size": 48,
}


def static(**hparams):
    torch.manual_seed(0)
    return SSDDStatic(**{**SMALL, **hparams})


def dynamic(**hparams):
    torch.manual_seed(0)
    return SSDD(**{**SMALL, "crf_args": {"sxy_gauss": 1, "sxy_bilateral": 4}, "scales": (1.0,), **hparams})


class TwoMasks(Dataset):
    """Coloured squares with two masks: one too large, one without the lowest three rows."""

    def __init__(self, length=16):
        self.squares = ColouredSquares(length)

    def __len__(self):
        return len(self.squares)

    def __getitem__(self, index):
        sample = self.squares[index]
        mask = torch.where(sample["mask"] == 255, 0, sample["mask"])
        before = F.max_pool2d(mask[None].float(), 3, 1, 1)[0].long()
        after = torch.where(mask.roll(-3, 0) > 0, mask, 0)
        differences = torch.stack([before != mask, after != mask]).float() * 4 - 2
        return {**sample, "before": before, "after": after, "differences": differences}


def batch_of(count=4):
    return torch.utils.data.default_collate([TwoMasks()[index] for index in range(count)])


def losses_of(module, batch):
    roles = ["before", "after"] + (["differences"] if isinstance(module, SSDD) else [])
    return module.losses(batch["image"], batch["labels"], *(batch[role] for role in roles))


@pytest.mark.parametrize("build", [static, dynamic])
def test_no_parameter_is_reached_by_both_losses(build):
    module, reached = build().train(), []
    for index in range(2):
        module.zero_grad()
        losses_of(module, batch_of())[index].backward()
        reached.append({name for name, p in module.network.named_parameters() if p.grad is not None})
    segmentation, difference = reached
    learning = {name for name, p in module.network.named_parameters() if p.requires_grad}
    assert segmentation | difference == learning  # distributed training would stop at anything else
    assert not segmentation & difference
    assert {name.split(".")[0] for name in difference} == {"detectors"}
    assert "detectors" not in {name.split(".")[0] for name in segmentation}


def test_parts_that_are_there():
    names = {name for name, _ in static().network.named_children()}
    assert names == {"backbone", "head", "detectors"}
    for switches, heads, detectors in (
        ({}, 2, 2),
        ({"seed_module": False}, 1, 1),
        ({"training_parts": False}, 1, 0),
        ({"training_parts": False, "seed_module": False}, 1, 0),
    ):
        network = dynamic(**switches).network
        assert (len(network.heads), len(network.detectors)) == (heads, detectors)
    assert dynamic(training_parts=False).eval().segment(torch.zeros(1, 3, 48, 32)).shape == (1, 3, 48, 32)
    with pytest.raises(WsssZooError, match="without difference detectors"):
        losses_of(dynamic(training_parts=False), batch_of())


def test_norms_of_new_parts_are_constant():
    network = static().train().network
    norms = [
        m for part in network.new_modules() for m in part.modules() if isinstance(m, torch.nn.BatchNorm2d)
    ]
    assert len(norms) == 7
    for norm in norms:
        assert not norm.training
        assert not any(parameter.requires_grad for parameter in norm.parameters())
        x = torch.randn(2, norm.num_features, 3, 3)
        assert torch.allclose(norm(x), x / (1 + 1e-3) ** 0.5)


def test_the_encoder_of_the_release():
    with torch.device("meta"):
        module = SSDD()
        maps = module.network.encoder(torch.empty(1, 3, 448, 448))
    assert [tuple(level.shape[1:]) for level in maps] == [
        (128, 224, 224),
        (256, 112, 112),
        (512, 56, 56),
        (1024, 56, 56),
        (4096, 56, 56),
    ]
    frozen = [name for name, p in module.network.named_parameters() if not p.requires_grad]
    convolutions = [name for name in frozen if "conv" in name and "norm" not in name]
    assert convolutions == ["backbone.conv1a.weight"]
    assert module.network.shallow.name == "conv2"
    assert len(module.network.state_dict()) > 290


class Levels(Backbone):
    """Mean colours at several strides."""

    normalization = IMAGENET

    def __init__(self, *strides):
        super().__init__()
        self.stages = tuple(Stage(f"s{stride}", 3, stride) for stride in strides)

    def forward(self, images):
        return {s.name: F.avg_pool2d(images, s.stride, ceil_mode=True) for s in self.stages}


@pytest.mark.parametrize(
    ("strides", "name", "expected"),
    [((2, 4, 8), None, "s2"), ((4, 16), None, "s4"), ((2, 4, 8), "s4", "s4")],
)
@pytest.mark.parametrize("size", [(64, 96), (70, 100)])
def test_shallow_levels_and_the_grid(strides, name, expected, size):
    network = SSDDNetwork(Levels(*strides), 2, 4, 1, detector_channels=3, shallow=name)
    images = torch.randn(1, 3, *size)
    seen = network.outputs(images)
    grid = tuple(strides[-1] // 4 * -(-side // strides[-1]) for side in size)
    assert network.shallow.name == expected
    assert {tuple(x.shape[2:]) for x in (*seen.logits, *seen.features, seen.shallow)} == {grid}
    if size == (64, 96):
        assert torch.allclose(seen.shallow, F.avg_pool2d(images, 4), atol=1e-6)
    features = network.detector(0).features(seen.features[0], seen.shallow)
    logits = network.detector(0)(features, torch.full((1, *grid), 255))
    assert logits.shape == (1, 1, *grid)


def test_backbones_and_sizes_that_cannot_be():
    for strides, message in (((8,), "exposes strides 8"), ((2, 10), "stride 10, which is no multiple")):
        with pytest.raises(WsssZooError, match=message):
            SSDDNetwork(Levels(*strides), 2)
    with pytest.raises(WsssZooError, match="no level 's3'"):
        SSDDNetwork(Levels(2, 8), 2, shallow="s3")
    with pytest.raises(WsssZooError, match="stride 2 or 4, s8 has 8"):
        SSDDNetwork(Levels(2, 8), 2, shallow="s8")
    with pytest.raises(WsssZooError, match=r"larger than its dilation of 2 .* got 2 x 3"):
        static()(torch.zeros(1, 3, 16, 24))
    assert static()(torch.zeros(1, 3, 24, 24)).shape == (1, 3, 6, 6)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"prefer": "aftr"}, WsssZooError, "did you mean 'after'"),
        ({"head_dilation": 0}, WsssZooError, "head_dilation is 1 or more"),
        ({"alpha": 1.5}, WsssZooError, "alpha"),
        ({"scales": ()}, WsssZooError, "scales"),
        ({"scales": (0.0,)}, WsssZooError, "scales"),
        ({"crf": "ssdd_onlin"}, RecipeError, "did you mean 'ssdd_online'"),
        ({"crf_args": {"sigma": 1}}, RecipeError, "sigma"),
    ],
)
def test_settings_that_cannot_be(changes, error, message):
    with pytest.raises(error, match=message):
        dynamic(**changes)


def test_groups_and_rates_are_the_published_ones():
    with torch.device("meta"):
        module = SSDD()
    module.trainer = type("T", (), {"estimated_stepping_batches": 4100, "max_epochs": 41, "max_steps": -1})()
    segmentation, detectors = module.configure_optimizers()
    groups = [segmentation["optimizer"].param_groups, detectors["optimizer"].param_groups]
    assert [(g["name"], g["initial_lr"], g["weight_decay"], g["momentum"]) for g in groups[0]] == [
        ("weights", 1e-3, 2e-4, 0.0),
        ("new_weights", 1e-2, 2e-4, 0.0),
        ("new_biases", 1e-2, 2e-4, 0.0),
    ]
    assert [(g["name"], g["initial_lr"]) for g in groups[1]] == [("new_weights", 1e-2)]
    learning = [p for p in module.network.parameters() if p.requires_grad]
    assert sum(len(g["params"]) for one in groups for g in one) == len(learning)
    for step, rate in ((0, 1e-3), (500, 0.0009745278735053344), (4000, 8.09559475540797e-05)):
        for part in (segmentation, detectors):
            factor = part["lr_scheduler"]["scheduler"].lr_lambdas[0](step)
            assert 1e-3 * factor == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize(
    ("trainer", "ramp", "expected"),
    [
        ({"max_epochs": 10, "max_steps": -1}, None, 120),
        ({"max_epochs": 10, "max_steps": -1}, 19, 190),
        ({"max_epochs": 10, "max_steps": 60}, None, 36),  # 30 batches: Lightning counts both optimisers
        ({"max_epochs": -1, "max_steps": 60}, None, 36),
        ({"max_epochs": 10, "max_steps": 5}, None, 4),  # the third batch is finished
        ({"max_epochs": -1, "max_steps": 1}, None, 1),
        ({"max_epochs": 10, "max_steps": 4}, 1, 1),
    ],
)
def test_length_of_the_schedule(trainer, ramp, expected):
    module = static(ramp_epochs=ramp)
    steps = min(100, trainer["max_steps"]) if trainer["max_steps"] > 0 else 100
    module.trainer = type("T", (), {"estimated_stepping_batches": steps, **trainer})()
    if trainer["max_steps"] > 0 and trainer["max_epochs"] > 0:
        module.trainer.max_epochs = 10
    schedule = module.configure_optimizers()[0]["lr_scheduler"]["scheduler"].lr_lambdas[0]
    assert schedule(expected) == 0
    assert schedule(expected - 1) > 0


def test_ramp_without_epochs_is_refused():
    module = static(ramp_epochs=5)
    module.trainer = type("T", (), {"estimated_stepping_batches": 60, "max_epochs": -1, "max_steps": 60})()
    with pytest.raises(WsssZooError, match=r"ramp_epochs has no meaning"):
        module.configure_optimizers()


def test_networks_of_inference_alone_are_not_trained():
    module = dynamic(training_parts=False)
    module.trainer = type("T", (), {"estimated_stepping_batches": 10, "max_epochs": 1, "max_steps": -1})()
    with pytest.raises(WsssZooError, match="training_parts"):
        module.configure_optimizers()


def fit(module, folder, epochs, resume=None):
    L.seed_everything(0, verbose=False)
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=CSVLogger(folder),
        log_every_n_steps=1,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    loader = DataLoader(TwoMasks(), batch_size=8)
    trainer.fit(module, loader, loader, ckpt_path=resume, weights_only=True)
    return trainer


@pytest.mark.parametrize("build", [static, dynamic])
def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(build, tmp_path):
    settings = {"optimizer": "adamw", "lr": 1e-3, "ramp_epochs": 5}
    unbroken = build(**settings)
    fit(unbroken, tmp_path, 3)
    first = build(**settings)
    fit(first, tmp_path, 1).save_checkpoint(tmp_path / "one.ckpt")
    again = build(**settings)
    trainer = fit(again, tmp_path, 3, tmp_path / "one.ckpt")
    for (name, one), other in zip(
        unbroken.network.state_dict().items(), again.network.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert not torch.equal(first.network.head.classifier.weight, again.network.head.classifier.weight)
    assert len(trainer.optimizers) == 2
    rate = 0.5 * (np.cos(np.pi * 3 / 5) + 1)
    for optimizer in trainer.optimizers:
        assert {g["lr"] for g in optimizer.param_groups} <= {1e-3 * rate, 1e-2 * rate}


@pytest.mark.parametrize("build", [static, dynamic])
def test_training_lowers_the_losses(build, tmp_path):
    module = build(optimizer="adamw", lr=2e-3, weight_decay=1e-4, head_lr_factor=2.0)
    with torch.no_grad():
        module.eval()
        start = [loss.item() for loss in losses_of(module, batch_of(16))]
    trainer = fit(module, tmp_path, 30)
    with torch.no_grad():
        module.eval()
        end = [loss.item() for loss in losses_of(module, batch_of(16))]
    assert end[0] < 0.5 * start[0]
    assert end[1] < 0.8 * start[1]
    assert trainer.callback_metrics["val/miou"] > 0.5
    header = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()[0]
    assert {"train/loss", "train/loss_segmentation", "train/loss_difference"} <= set(header.split(","))


def test_missing_inputs_are_named():
    for module, role in ((static(), "after"), (dynamic(), "differences")):
        batch = batch_of(2)
        del batch[role]
        with pytest.raises(WsssZooError, match=rf"trains on {role}.*{role}: <stage>"):
            module.training_step(batch, 0)


def test_seeds_of_the_dynamic_stage():
    module, batch = dynamic(), batch_of(2)
    arguments = (batch["before"], batch["after"], batch["differences"], batch["labels"])
    truth = torch.where(batch["mask"] == 255, 0, batch["mask"])
    seeds = module.seeds(*arguments)
    assert torch.equal(seeds, truth)
    # the release takes one prediction for the other: the worse mask wins
    assert module.joint_differences
    release = dynamic(release_compat=True)
    assert not release.joint_differences
    swapped = release.seeds(*arguments)
    assert (swapped == truth).float().mean() < 0.95
    assert torch.equal(swapped, module.seeds(*arguments[:2], batch["differences"].flip(1), batch["labels"]))


def constant_detector(module, value_of):
    """Replace the detector: `value_of(mask)` gives its logits."""

    class Stub(torch.nn.Module):
        def features(self, deep, shallow):
            return deep

        def forward(self, features, mask):
            return value_of(mask)

    module.network.detector = lambda index: Stub()


def test_refine_takes_the_trusted_mask_at_the_size_of_the_image():
    module = static().eval()
    grids = []

    def value_of(mask):
        grids.append(tuple(mask.shape))
        # in the left half the first mask is to be doubted, in the right the second
        left = (torch.arange(mask.shape[2]) < mask.shape[2] // 2).expand(mask.shape)
        first = len(grids) == 1
        return torch.where(left == first, 2.0, -2.0)[:, None].float()

    constant_detector(module, value_of)
    before, after = torch.ones(40, 60, dtype=torch.uint8), torch.zeros(40, 60, dtype=torch.uint8)
    after[:, :50] = 2
    after[0, 0] = 255
    labels = torch.tensor([1.0, 1.0])
    with torch.no_grad():
        artifacts = module.refine_artifacts(torch.zeros(1, 3, 40, 60), labels, before=before, after=after)
        grids.clear()
        scores = module.refine(torch.zeros(1, 3, 40, 60), labels, before=before, after=after)
    assert grids == [(1, 12, 12)] * 2  # 48 x 48, whatever the aspect
    mask, differences = artifacts["masks"], artifacts["differences"]
    assert (mask.shape, mask.dtype) == ((40, 60), np.uint8)
    # class 1 would vanish, so it stays in both halves; class 2 appears, so that it is not flagged
    assert set(np.unique(mask)) == {1}
    assert scores.shape == (3, 40, 60)
    assert torch.equal(scores.sum(0), torch.ones(40, 60))
    assert isinstance(differences, Differences)
    assert differences.size == (40, 60)
    assert (differences.before[:, :6] == 2).all()
    assert (differences.after[:, :6] == -2).all()
    after[:, 30:] = 1  # now half of it is left
    grids.clear()
    mask = module.refine_artifacts(torch.zeros(1, 3, 40, 60), labels, before=before, after=after)["masks"]
    assert mask[0, 0] == 255
    assert (mask[1:, :29] == 2).all()
    assert (mask[:, 31:] == 1).all()


def test_networks_in_half_precision():
    module = static().eval().to(torch.bfloat16)
    images, masks = torch.zeros(1, 3, 40, 60, dtype=torch.bfloat16), torch.randint(0, 3, (2, 40, 60))
    with torch.no_grad():
        artifacts = module.refine_artifacts(images, torch.ones(2), before=masks[0], after=masks[1])
    taken = torch.from_numpy(artifacts["masks"])
    assert ((taken == masks[0]) | (taken == masks[1])).all()


def test_refine_checks_sizes():
    module, labels = static().eval(), torch.ones(2)
    with pytest.raises(DataError, match=r"two masks \(H, W\) of this size"):
        module.refine(
            torch.zeros(1, 3, 40, 60), labels, before=torch.zeros(40, 60), after=torch.zeros(40, 61)
        )


def test_whole_images_at_inference():
    module = dynamic(test_size=64, scales=(0.5, 1.0)).eval()
    image = torch.randn(1, 3, 50, 90, generator=torch.Generator().manual_seed(0))
    sizes = []
    module.network.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape)))
    with torch.no_grad():
        result = module.segment_image(image)
        assert sizes == [(2, 3, 32, 32), (2, 3, 64, 64)]
        assert result.shape == (3, 50, 90)
        assert torch.allclose(result.sum(0), torch.ones(50, 90), atol=1e-5)
        # four maps are summed before the second softmax: at most e^4 to 1 to 1
        assert result.max() <= np.exp(4) / (np.exp(4) + 2) + 1e-5
        # a mirrored image gives the mirrored result
        assert torch.allclose(module.segment_image(image.flip(3)), result.flip(2), atol=1e-5)
        single = dynamic(test_size=None, scales=(1.0,), flip=False).eval()
        labels = single.segment_image(image).argmax(0)
        assert torch.equal(labels, single.segment(image)[0].argmax(0))


def test_own_files_come_back(tmp_path):
    image = torch.randn(1, 3, 48, 40, generator=torch.Generator().manual_seed(0))
    for name, module in (("ssdd", dynamic().eval()), ("ssdd_static", static().eval())):
        save_pretrained(module, tmp_path / "own.safetensors")
        again = create_model(name, tmp_path / "own.safetensors")
        plain = create_model(name, module.network.state_dict(), **dict(module.hparams))
        with torch.no_grad():
            for other in (again, plain):
                assert torch.equal(module(image), other(image))
                assert type(other) is type(module)


def test_files_of_one_network(tmp_path):
    tensors = static().eval().network.state_dict()
    parts = {"segmentation": {}, "detector": {}}
    for key, value in tensors.items():
        parts["detector" if key.startswith("detectors") else "segmentation"][f"module.{key}"] = value
    files = []
    for name, part in parts.items():
        files.append(tmp_path / f"{name}.pth")
        torch.save(part, files[-1])
    again = create_model("ssdd_static", weights=files, **SMALL)
    assert all(torch.equal(value, tensors[key]) for key, value in again.network.state_dict().items())
    with pytest.raises(WeightsError, match="give each part once"):
        create_model("ssdd_static", weights=[files[0], files[0]], **SMALL)


def test_a_module_of_ones_own_needs_a_network_and_settings_only():
    assert issubclass(SSDD, DifferenceTraining)
    assert (SSDD.kind, SSDDStatic.kind, SSDDStatic.outputs) == (
        "segmenter",
        "refiner",
        ("masks", "differences"),
    )


def test_maps_of_the_backbone_have_two_forms():
    with torch.device("meta"):
        with pytest.raises(WsssZooError, match="maps is 'activated' or 'ssdd', got 'raw'"):
            create_backbone("resnet38d", maps="raw")
        plain, own = create_backbone("resnet38d"), create_backbone("resnet38d", maps="ssdd")
        maps = own(torch.empty(1, 3, 32, 40))
    assert [stage.name for stage in plain.stages] == ["conv3", "conv4", "conv5", "conv6"]
    for stage in own.stages:
        assert maps[stage.name].shape == (1, stage.channels, 32 // stage.stride, 40 // stage.stride)
