"""SSDD against numbers of the official networks, losses and inference."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity.rule import rule_image, rule_weights
from wsss_zoo import create_model
from wsss_zoo.errors import WeightsError
from wsss_zoo.methods.optimization import cosine_factor
from wsss_zoo.methods.ssdd import (
    DifferenceDetector,
    integrate,
    integration_score,
    online_crf,
    restricted_mask,
    vanished_classes,
)
from wsss_zoo.methods.ssdd.inference import final_probabilities, summed_probabilities
from wsss_zoo.methods.ssdd.losses import (
    balanced_bce,
    dynamic_difference_loss,
    dynamic_segmentation_loss,
    segmentation_loss,
    static_difference_loss,
)
from wsss_zoo.methods.ssdd.network import HeadOutputs
from wsss_zoo.methods.ssdd.published import detector_patterns
from wsss_zoo.methods.ssdd.refinement import detect_and_integrate, dynamic_refinement
from wsss_zoo.refine import DenseCRF
from wsss_zoo.weights.layouts import load_strictly

PARITY = Path(__file__).parents[1] / "parity"
FACTS = json.loads((PARITY / "ssdd.json").read_text())
#: Biases of the three settings in the fixture.
SETTINGS = {"train": (0.4, 0.0), "precompute": (0.1, 0.1), "default": (0.15, 0.05)}


def arrays(name):
    with np.load(PARITY / f"{name}.npz", allow_pickle=False) as content:
        return {
            key: torch.from_numpy(content[key].astype(np.int64 if content[key].dtype == np.uint8 else "f4"))
            for key in content
        }


def close(ours, theirs, relative):
    return (ours - theirs).abs().max() <= relative * theirs.abs().max()


def features():
    """Features of two heads and the shallow ones, as the fixtures draw them."""
    rng = np.random.default_rng(1)
    shapes = ((2, 512, 28, 36), (2, 128, 56, 72), (2, 512, 28, 36))
    head0, shallow, head1 = (torch.from_numpy(np.abs(rng.standard_normal(s)).astype("f4")) for s in shapes)
    return head0, torch.nn.functional.avg_pool2d(shallow, 2), head1


@pytest.fixture(scope="module")
def segmentation():
    return rule_weights(FACTS["segmentation"])


@pytest.fixture(scope="module")
def model(segmentation):
    return create_model("ssdd", weights={f"module.{key}": value for key, value in segmentation.items()})


def test_what_follows_from_the_weights(model):
    assert (model.hparams["backbone"], model.hparams["num_classes"]) == ("resnet38d", 20)
    assert model.hparams["training_parts"] is False
    assert len(model.network.state_dict()) == len(FACTS["segmentation"])


def test_encoder_and_head(model):
    theirs = arrays("ssdd_seg_static")
    with torch.no_grad():
        maps = model.network.encoder(rule_image(128, 128))
        logits, hidden = model.network.head(maps[-1])
    assert len(maps) == 5
    for index, step in zip(range(5), (16, 32, 64, 128, 512), strict=True):
        assert close(maps[index][:, ::step], theirs[f"conv{index + 2}"], 2e-5), f"conv{index + 2}"
    assert close(hidden[:, ::32], theirs["seg_head"], 2e-5)
    assert close(logits, theirs["seg"], 2e-5)
    pooled = torch.nn.functional.avg_pool2d(maps[0], 2)
    assert close(pooled[:, ::16], theirs["x1_pooled"], 2e-5)
    labels = torch.zeros(1, 21)
    labels[0, [0, 12, 15]] = 1
    assert torch.equal(restricted_mask(logits, labels), theirs["seg_mask"])


def test_other_than_square_and_at_the_size_of_the_image(model):
    theirs, image = arrays("ssdd_seg_nonsquare"), rule_image(112, 160)
    labels = torch.zeros(1, 21)
    labels[0, [0, 12, 15]] = 1
    with torch.no_grad():
        logits = model(image)
        full = model.network(image, image.shape[2:])
    assert close(logits, theirs["seg"], 2e-5)
    assert close(full[:, :, ::4, ::4], theirs["seg_x8_sub"], 2e-5)
    assert torch.equal(restricted_mask(logits, labels), theirs["seg_mask"])


def test_scales_mirrors_and_the_second_softmax(model):
    theirs = arrays("ssdd_multiscale_eval")
    classifier = model.network.head.classifier
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.mul_(1e-3)
        summed = summed_probabilities(model.segment, rule_image(224, 224), model.hparams["scales"])
        for parameter in classifier.parameters():
            parameter.div_(1e-3)
    final = final_probabilities(summed, (150, 200))
    assert (summed[None, :, ::8, ::8] - theirs["sum_prob_sub2"]).abs().max() < 1e-4
    assert (final[None, :, ::8, ::8] - theirs["prob_orig_sub"]).abs().max() < 1e-4
    assert (final.argmax(0) == theirs["argmax_orig"]).float().mean() > 0.999


def renamed(shapes, index):
    """A detector by rule."""
    patterns, tensors = detector_patterns(index), rule_weights(shapes)
    named = {}
    for key, value in tensors.items():
        for old, new in patterns.items():
            if re.fullmatch(old, key):
                named[re.sub(old, new, key).removeprefix(f"detectors.{index}.")] = value
    detector = DifferenceDetector(512, 128, 21)
    load_strictly(detector, named, "the fixture")
    return detector.eval()


def test_static_detector_and_integration():
    theirs, (deep, shallow, _) = arrays("ssdd_ddnet_static"), features()
    detector, labels = renamed(FACTS["detector"], 0), torch.zeros(2, 20)
    labels[:, [11, 14]] = 1
    with torch.no_grad():
        ours = detect_and_integrate(
            detector,
            detector.features(deep, shallow),
            theirs["mask_before"],
            theirs["mask_after"],
            labels,
        )
    assert close(ours.d_before, theirs["d_before"], 1e-5)
    assert close(ours.d_after, theirs["d_after"], 1e-5)
    assert torch.equal(ours.flags, theirs["flags"])
    assert torch.equal(ours.mask, theirs["refined"])


def test_both_detectors_of_the_dynamic_stage():
    theirs, (head0, shallow, head1) = arrays("ssdd_ddnet_dynamic"), features()
    labels = torch.zeros(2, 20)
    labels[:, [11, 14]] = 1
    detectors = [renamed(FACTS["detectors"], index) for index in range(2)]
    seen = HeadOutputs([], [head0, head1], shallow)
    masks = [theirs[f"mask_{name}"] for name in ("main", "crf", "seed")]
    with torch.no_grad():
        for index, deep in enumerate((head0, head1)):
            ours = detectors[index].features(deep, shallow)[:, ::16]
            assert close(ours, theirs[f"dd_head{index}_sub"], 1e-5)
        steps = dynamic_refinement(detectors, seen, *masks, labels)
    for index, step in enumerate(steps):
        assert close(step.d_before, theirs[f"d_before{index}"], 1e-5)
        assert close(step.d_after, theirs[f"d_after{index}"], 1e-5)
        assert torch.equal(step.flags, theirs[f"flags{index}"])
        assert torch.equal(step.mask, theirs[f"refined{index}"])


@pytest.mark.parametrize("setting", SETTINGS)
def test_integration(setting):
    theirs, (bias, background) = arrays("ssdd_integration"), SETTINGS[setting]
    masks = theirs["mask_before"], theirs["mask_after"]
    logits = theirs["d_before"], theirs["d_after"]
    flags = vanished_classes(*masks, theirs["labels20"])
    assert torch.equal(flags, theirs["flags"])
    score = integration_score(*logits, *masks, flags, bias, background)
    assert (score[:, None] - theirs[f"score_{setting}"]).abs().max() < 1e-6
    assert torch.equal(integrate(*logits, *masks, flags, bias, background), theirs[f"refined_{setting}"])
    unflagged = integrate(*logits, *masks, torch.zeros_like(flags), bias, background)
    assert torch.equal(unflagged, theirs[f"refined_noflags_{setting}"])
    # without the plane of one channel, and image by image
    alone = [
        integrate(*(x[i : i + 1, 0] for x in logits), *(m[i : i + 1] for m in masks), flags[i : i + 1], bias)
        for i in range(3)
    ]
    together = integrate(*logits, *masks, flags, bias)
    assert torch.equal(torch.cat(alone), together)


def with_gradients(loss, tensors):
    loss.backward()
    return [tensor.grad for tensor in tensors]


def test_static_losses_and_their_gradients():
    theirs = arrays("ssdd_loss_static")
    before, after = theirs["mask_before"], theirs["mask_after"]
    inputs = [theirs[name].requires_grad_() for name in ("seg_logits", "d_before", "d_after")]
    flags = vanished_classes(before, after, theirs["labels20"])
    assert torch.equal(flags, theirs["flags"])
    segmentation = segmentation_loss(inputs[0], before)
    difference = static_difference_loss(*inputs[1:], before, after, flags)
    assert segmentation.item() == pytest.approx(FACTS["losses"]["static"]["loss_seg"], rel=1e-6)
    assert difference.item() == pytest.approx(FACTS["losses"]["static"]["loss_dd"], rel=1e-6)
    for row, logits in zip(theirs["per_sample_balanced_bce"], inputs[1:], strict=True):
        ours = balanced_bce(logits.detach(), before, after)
        assert (ours - row).abs().max() < 1e-6
    for ours, name in zip(
        with_gradients(segmentation + difference, inputs), ("seg", "d_before", "d_after"), strict=True
    ):
        assert close(ours, theirs[f"grad_{name}"], 1e-5), name


def test_dynamic_losses_and_their_gradients():
    theirs = arrays("ssdd_loss_dynamic")
    names = ("seg_main_logits", "seg_sub_logits", "d00", "d01", "d10", "d11")
    main, sub, d00, d01, d10, d11 = inputs = [theirs[name].requires_grad_() for name in names]
    masks = {name: theirs[f"mask_{name}"] for name in ("main", "crf", "sub", "seed")}
    refined = theirs["refined1"]
    flags = vanished_classes(masks["main"], masks["crf"], theirs["labels20"])
    assert torch.equal(flags, theirs["flags0"])
    segmentation = dynamic_segmentation_loss(main, sub, masks["seed"], refined)
    difference = dynamic_difference_loss(
        (d00, d01), masks["main"], masks["crf"], flags, (d10, d11), masks["sub"], masks["seed"], refined
    )
    assert segmentation.item() == pytest.approx(FACTS["losses"]["dynamic"]["loss_seg"], rel=1e-6)
    assert difference.item() == pytest.approx(FACTS["losses"]["dynamic"]["loss_dd"], rel=1e-6)
    gradients = with_gradients(segmentation + difference, inputs)
    for ours, name in zip(gradients, ("seg_main", "seg_sub", "d00", "d01", "d10", "d11"), strict=True):
        assert close(ours, theirs[f"grad_{name}"], 1e-5), name


def test_masks_restricted_to_the_labels():
    theirs = arrays("ssdd_online_crf")
    ours = restricted_mask(theirs["logits_even_rows"], theirs["labels21"])
    assert torch.equal(ours, theirs["seg_mask_even_rows"])


def test_online_crf():
    theirs = arrays("ssdd_online_crf_planes")
    labels, images = theirs["labels21"], theirs["image"].permute(0, 3, 1, 2).to(torch.uint8)
    # what the other labels say must not matter
    logits = 9 * torch.randn(2, 21, 48, 56, generator=torch.Generator().manual_seed(0))
    logits[labels > 0] = theirs["logits_present"]
    ours = online_crf(images, logits, labels, DenseCRF("ssdd_online"))
    assert ours[labels == 0].abs().max() == 0
    assert (ours[labels > 0] - theirs["crf_prob"]).abs().mean() < 5e-3
    assert (ours.argmax(1) == theirs["crf_mask"]).float().mean() > 0.99


def test_learning_rate():
    for epochs, ramp, epoch, fraction, rate in FACTS["lr_schedule"]["rows"]:
        assert ramp == int(1.2 * epochs)
        batches = 1000
        step = round((epoch + fraction) * batches)
        assert 1e-3 * cosine_factor(step, ramp * batches) == pytest.approx(rate, rel=1e-9)


def marked(shapes):
    """Tensors whose values tell their key, on no more memory than one number each."""
    return {key: torch.tensor(float(i)).expand(tuple(shape)) for i, (key, shape) in enumerate(shapes.items())}


def test_files_of_the_release(tmp_path):
    segmentation, detector = marked(FACTS["segmentation"]), marked(FACTS["detector"])
    module = create_model("ssdd_static", weights={**segmentation, **detector})
    parameters = module.network.state_dict()
    pairs = {
        "detectors.0.image.conv.weight": "dd_head0.conv1ab.conv1.weight",
        "detectors.0.mask.norm.running_var": "dd0.conv1c.bn1.running_var",
        "detectors.0.middle.conv.weight": "dd0.conv1abc.conv2.weight",
        "detectors.0.shortcut_norm.bias": "dd0.conv1abc.bnd.bias",
        "detectors.0.classifier.weight": "dd0.pred_abc.weight",
    }
    for ours, theirs in pairs.items():
        assert parameters[ours].flatten()[0] == detector[theirs].flatten()[0]
    del module, parameters
    with pytest.raises(WeightsError, match="missing: detectors"):
        create_model("ssdd_static", weights=segmentation)
