"""Affinities of pairs, the network on any backbone, and training."""

from __future__ import annotations

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, Dataset

from tests.methods.tiny import TINY
from wsss_zoo.backbones import create_backbone
from wsss_zoo.backbones.backbone import Backbone, Stage
from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods import AffinityNet
from wsss_zoo.methods.affinitynet.affinities import pair_affinities
from wsss_zoo.methods.affinitynet.network import AffinityNetwork
from wsss_zoo.normalization import IMAGENET
from wsss_zoo.refine import PixelPairs

STRIDE_8 = {"output_stride": 8}


class ThreeMaps(Backbone):
    """The input at strides 1, 2 and 4."""

    stages = (Stage("fine", 3, 1), Stage("middle", 3, 2), Stage("coarse", 3, 4))
    normalization = IMAGENET

    def forward(self, images):
        maps = (images, F.avg_pool2d(images, 2, ceil_mode=True), F.avg_pool2d(images, 4, ceil_mode=True))
        return dict(zip(("fine", "middle", "coarse"), maps, strict=True))


def tiny(**arguments):
    torch.manual_seed(0)
    return AffinityNet(num_classes=2, backbone=TINY, backbone_args=STRIDE_8, **arguments)


def gathered_affinities(embedding, pairs):
    """By index lists, as published."""
    flat = embedding.flatten(2)
    sources = flat[:, :, pairs.source_indices()][:, :, None]
    destinations = flat[:, :, pairs.destination_indices()]
    return torch.exp(-(destinations - sources).abs().mean(1))


def test_sliced_affinities_are_the_gathered_ones():
    torch.manual_seed(0)
    embedding, pairs = torch.randn(2, 16, 9, 12), PixelPairs(9, 12)
    one, other = embedding.clone().requires_grad_(), embedding.clone().requires_grad_()
    ours, theirs = pair_affinities(one, pairs), gathered_affinities(other, pairs)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    weights = torch.rand_like(ours)
    (weights * ours).sum().backward()
    (weights * theirs).sum().backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-7)


def test_gradient_of_affinities():
    torch.manual_seed(0)
    embedding = torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pair_affinities(x, PixelPairs(4, 6, 3)), embedding)


def test_equal_cells_have_affinity_one_and_no_gradient():
    embedding = torch.ones(1, 4, 5, 9, requires_grad=True)
    affinities = pair_affinities(embedding, PixelPairs(5, 9))
    affinities.sum().backward()
    assert (affinities == 1).all()
    assert not embedding.grad.any()


def test_half_precision_embeddings_have_single_precision_affinities():
    embedding = torch.randn(1, 8, 5, 9).bfloat16()
    affinities = pair_affinities(embedding, PixelPairs(5, 9))
    assert affinities.dtype == torch.float32
    torch.testing.assert_close(affinities, pair_affinities(embedding.float(), PixelPairs(5, 9)))


def test_nothing_of_the_size_of_pairs_times_channels_is_kept_for_the_gradient():
    kept = []
    embedding, pairs = torch.randn(1, 64, 16, 16, requires_grad=True), PixelPairs(16, 16)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        pair_affinities(embedding, pairs)
    assert max(kept) == embedding.numel()
    assert sum(kept) < 2 * embedding.numel()


def test_maps_of_other_strides_come_to_the_grid_of_the_deepest():
    torch.manual_seed(0)
    network = AffinityNetwork(ThreeMaps(), radius=2).eval()
    assert network.stride == 4
    images = torch.randn(2, 3, 24, 36)
    with torch.no_grad():
        assert network.embed(images).shape == (2, 448, 6, 9)
        assert network(images).shape == (2, 4, 5 * 7)
        # projected first, then resized; fine and middle are not the same map
        fine = F.elu(F.conv2d(images, network.head.levels[0].conv.weight))
        middle = F.elu(F.conv2d(F.avg_pool2d(images, 2), network.head.levels[1].conv.weight))
        coarse = F.elu(F.conv2d(F.avg_pool2d(images, 4), network.head.levels[2].conv.weight))
        resized = [F.interpolate(x, (6, 9), mode="bilinear", align_corners=False) for x in (fine, middle)]
        concatenated = torch.cat([*resized, coarse], 1)
        expected = F.elu(F.conv2d(concatenated, network.head.embedding.weight))
        torch.testing.assert_close(network.embed(images), expected)


def test_maps_can_be_chosen():
    backbone = create_backbone(TINY)
    names = [stage.name for stage in backbone.stages]
    assert [stage.name for stage in AffinityNetwork(backbone).head.stages] == names[-3:]
    chosen = AffinityNetwork(backbone, stages=names[1:4])
    assert [stage.name for stage in chosen.head.stages] == names[1:4]
    assert chosen.stride == backbone.stages[3].stride
    with pytest.raises(WsssZooError, match=r"no map 'stage9'"):
        AffinityNetwork(backbone, stages=("stage1", "stage2", "stage9"))
    with pytest.raises(WsssZooError, match=r"three maps .* here are 2: stage1, stage2"):
        AffinityNetwork(backbone, stages=("stage1", "stage2"))
    with pytest.raises(WsssZooError, match=r"here are 2: conv5, fc7"):
        AffinityNet(backbone="vgg16_largefov")


def test_the_head_takes_the_form_of_its_backbone():
    with torch.device("meta"):
        forms = {
            ("resnet38d", None): 0,
            ("vgg16", None): 3,
            ("vgg16", "none"): 0,
            ("resnet50", "group"): 3,
        }
        for (backbone, norm), count in forms.items():
            network = AffinityNet(backbone=backbone, norm=norm).network
            assert sum(isinstance(layer, torch.nn.GroupNorm) for layer in network.modules()) == count
        assert AffinityNet(backbone="vgg16").network.backbone.fc6.dilation == (4, 4)
        other = AffinityNet(backbone="vgg16", backbone_args={"fc6_dilation": 2})
        assert other.network.backbone.fc6.dilation == (2, 2)
    with pytest.raises(WsssZooError, match="norm is 'none' or 'group', got 'batch'"):
        tiny(norm="batch")


def test_initial_weights():
    torch.manual_seed(0)
    head = tiny().network.head
    for level in head.levels:
        weight = level.conv.weight
        assert weight.std().item() == pytest.approx((2 / weight.shape[1]) ** 0.5, rel=0.1)
    bound = 4 * (6 / (448 + 448)) ** 0.5
    assert 0.99 * bound < head.embedding.weight.abs().max() <= bound


def test_published_settings_of_the_optimiser():
    with torch.device("meta"):
        model = AffinityNet()
    model.trainer = type("Trainer", (), {"estimated_stepping_batches": 10})()
    configured = model.configure_optimizers()
    groups = configured["optimizer"].param_groups
    assert [(group["name"], group["initial_lr"], group["weight_decay"]) for group in groups] == [
        ("weights", 0.1, 5e-4),
        ("new_weights", 1.0, 5e-4),
    ]
    assert {group["momentum"] for group in groups} == {5e-4}


class TwoHalves(Dataset):
    """64 x 128 noise, left half bright; left is class 1 and right background, with an unsure column."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image = 0.3 * torch.randn(3, 64, 128, generator=generator)
        image[:, :, :64] += 2
        scores = torch.zeros(3, 8, 16)
        scores[1, :, :8] = 1
        scores[0, :, 8:] = 1
        low, high = scores.clone(), scores.clone()
        low[:, :, 8] = torch.tensor([0.6, 0.4, 0.0])[:, None]
        high[:, :, 8] = torch.tensor([0.4, 0.6, 0.0])[:, None]
        return {"image": image, "scores_low": low, "scores_high": high, "image_id": str(index)}


def trainer(tmp_path, **arguments):
    return L.Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **arguments,
    )


def test_training_separates_what_the_scores_separate(tmp_path):
    L.seed_everything(0, verbose=False)
    model = tiny(radius=3, optimizer="adamw", lr=1e-3)
    data = TwoHalves()
    loader = DataLoader(data, batch_size=4)
    logger = CSVLogger(tmp_path)
    trainer(tmp_path, max_epochs=6, logger=logger, log_every_n_steps=1).fit(model, loader)
    written = np.genfromtxt(
        tmp_path / "lightning_logs" / "version_0" / "metrics.csv", delimiter=",", names=True
    )
    names = ("trainloss", "trainloss_background", "trainloss_foreground", "trainloss_negative")
    losses = {name: written[name] for name in names}
    total = losses[names[1]] / 4 + losses[names[2]] / 4 + losses[names[3]] / 2
    np.testing.assert_allclose(losses["trainloss"], total, rtol=1e-5)
    assert losses["trainloss"][-2:].mean() < 0.7 * losses["trainloss"][:2].mean()
    pairs = PixelPairs(8, 16, 3)
    left = torch.zeros(8, 16)
    left[:, :8] = 1
    same = torch.stack(
        [(pairs.at_destinations(left, o) == pairs.at_sources(left)).flatten() for o in pairs.offsets]
    )
    with torch.no_grad():
        affinities = model.eval()(data[0]["image"][None])[0]
    assert affinities[same].mean() > affinities[~same].mean() + 0.2


def test_one_step_takes_the_published_loss(tmp_path):
    # frozen batch norm, no dropout: the network in training is the network in evaluation
    model = AffinityNet(num_classes=2, backbone="vgg16", lr=0.0, radius=3)
    model.network.backbone.dropout.p = 0.0
    data = TwoHalves()
    batch = next(iter(DataLoader(data, batch_size=2)))
    labels = torch.where(batch["scores_low"][:, 1] == 1, 1, 0)
    labels[:, :, 8] = 255
    with torch.no_grad():
        embedding, pairs = model.network.embed(batch["image"]), PixelPairs(8, 16, 3)
        affinities = gathered_affinities(embedding, pairs)
    flat = labels.flatten(1)
    source = flat[:, pairs.source_indices()][:, None].expand(-1, len(pairs.offsets), -1)
    destination = flat[:, pairs.destination_indices()]
    sure = (source < 255) & (destination < 255)
    attract, repel = -torch.log(affinities + 1e-5), -torch.log(1 + 1e-5 - affinities)
    expected = (
        attract[sure & (source == destination) & (source == 0)].mean() / 4
        + attract[sure & (source == destination) & (source == 1)].mean() / 4
        + repel[sure & (source != destination)].mean() / 2
    )
    fit = trainer(tmp_path, max_steps=1, logger=False)
    fit.fit(model, DataLoader(data, batch_size=2))
    assert fit.callback_metrics["train/loss"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_scores_on_a_finer_grid_are_averaged(tmp_path):
    torch.manual_seed(0)
    model, batch = tiny(radius=3), next(iter(DataLoader(TwoHalves(), batch_size=2)))
    model.trainer = type("Trainer", (), {"strategy": L.pytorch.strategies.SingleDeviceStrategy()})()
    model.log = model.log_dict = lambda *args, **kwargs: None
    model.eval()
    coarse = model.training_step(batch, 0)
    noise = torch.rand(2, 3, 16, 32)
    noise -= F.interpolate(F.avg_pool2d(noise, 2), scale_factor=2)  # no mean within a cell
    for name in ("scores_low", "scores_high"):
        batch[name] = F.interpolate(batch[name], scale_factor=2) + 0.1 * noise
    assert model.training_step(batch, 0).item() == pytest.approx(coarse.item(), rel=1e-5)
    batch["scores_low"] = torch.zeros(2, 3, 12, 24)
    with pytest.raises(WsssZooError, match=r"scores_low have 3 planes .* 8 x 16 .* got \(3, 12, 24\)"):
        model.training_step(batch, 0)
    batch["scores_low"] = torch.zeros(2, 21, 8, 16)
    with pytest.raises(WsssZooError, match=r"3 planes .* got \(21, 8, 16\)"):
        model.training_step(batch, 0)
    del batch["scores_low"]
    with pytest.raises(WsssZooError, match="trains on scores_low, and the training data has none"):
        model.training_step(batch, 0)
    batch["image"] = torch.zeros(2, 3, 60, 128)
    with pytest.raises(WsssZooError, match="multiples of its stride 8, got 60 x 128; set crop_size"):
        model.training_step(batch, 0)


def test_the_dense_matrix_is_of_one_image():
    with pytest.raises(WsssZooError, match="one image, got 2"):
        tiny().network.forward_dense(torch.zeros(2, 3, 64, 96))
