"""Rounds of clustering and training as stages of one recipe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wsss_zoo import run_recipe
from wsss_zoo.artifacts import ClusterTable, Subcategories, load_features
from wsss_zoo.data import MiniVOCDataModule
from wsss_zoo.errors import DataError, RecipeError, WsssZooError
from wsss_zoo.methods.multi_scale import image_pyramid
from wsss_zoo.methods.published import load_pretrained
from wsss_zoo.methods.sccam import assemble_labels, rows_of_classes
from wsss_zoo.pipeline.cluster import cluster, sheet_name
from wsss_zoo.pipeline.clusterings import cluster_agreement
from wsss_zoo.pipeline.plan import plan_run
from wsss_zoo.pipeline.recipe import ClassSpec, Cluster, load_recipe
from wsss_zoo.refine import KMeansInClasses

RECIPE = """
title: two rounds in seconds
extends: minivoc/sccam
data:
  init_args: {{root: {root}, n_train: 12, n_val: 8, image_size: 64}}
stages:
  round_0:
    fit:
      method:
        class_path: wsss_zoo.methods.CAM
        init_args: &network
          backbone: timm/test_efficientnet
          backbone_weights: null
          backbone_args: {{output_stride: 8, out_indices: [3], frozen_norm: true}}
          lr: 0.05
      data: &data {{batch_size: 4, crop_size: 64}}
      trainer: &trainer {{max_epochs: 1, enable_model_summary: false, log_every_n_steps: 1}}
  round_1: {{fit: {{method: {{init_args: *network}}, data: *data, trainer: *trainer}}}}
  round_2: {{fit: {{method: {{init_args: *network}}, data: *data, trainer: *trainer}}}}
  cam: {{predict: {{scales: [1.0]}}}}
  pseudo_labels: null
  deeplab: null
"""


@pytest.fixture(scope="session")
def rounds_recipe(tmp_path_factory, small_data) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "rounds.yaml"
    path.write_text(RECIPE.format(root=small_data))
    return path


@pytest.fixture(scope="session")
def rounds_run(tmp_path_factory, rounds_recipe) -> Path:
    """Folder of a finished run. Do not write to it."""
    output = tmp_path_factory.mktemp("rounds")
    run_recipe(str(rounds_recipe), output_dir=output, wandb="off")
    return output / "rounds"


def records_of(root: Path) -> tuple[MiniVOCDataModule, list]:
    datamodule = MiniVOCDataModule(root, n_train=12, n_val=8, image_size=64)
    return datamodule, datamodule.records("train")


def test_features_are_those_of_the_network_at_the_original_size(rounds_run, small_data):
    datamodule, records = records_of(small_data)
    for stage in ("round_0", "round_1"):
        method = load_pretrained(rounds_run / stage / "checkpoints" / "weights.safetensors")
        image = datamodule.read_image(records[3])
        (pixels,) = image_pyramid(image, [1.0], method.normalization)
        by_hand = method.image_features(pixels)[0].detach().numpy()
        stored = load_features(rounds_run / stage / "features" / f"{records[3].image_id}.npz")
        np.testing.assert_allclose(stored, by_hand, rtol=1e-5, atol=1e-6)
        assert len(list((rounds_run / stage / "features").iterdir())) == 12


def test_clusters_are_those_of_the_features(rounds_run, small_data):
    _, records = records_of(small_data)
    labels = np.stack([record.labels for record in records])
    folder = rounds_run / "round_0" / "features"
    features = np.stack([load_features(folder / f"{record.image_id}.npz") for record in records])
    found = KMeansInClasses(k=3)(features, labels)
    names = [record.image_id for record in records]
    expected = assemble_labels(names, labels, found, 3)
    table = ClusterTable.load(rounds_run / "clusters_1" / "clusters.npz")
    assert table.image_ids == expected.image_ids
    np.testing.assert_array_equal(table.subcategories, expected.subcategories)
    rows = rows_of_classes(labels)[0]
    centres = np.stack([features[rows][found[0] == cluster].mean(0) for cluster in found[0]])
    distances = dict(zip(table.image_ids, table.distances[:, 0], strict=True))
    by_hand = np.linalg.norm(features[rows] - centres, axis=1)
    np.testing.assert_allclose([distances[names[row]] for row in rows], by_hand, rtol=1e-4, atol=1e-5)
    for record in records:
        one = Subcategories.load(rounds_run / "clusters_1" / "subcategories" / f"{record.image_id}.npz")
        row = table.image_ids.index(record.image_id)
        np.testing.assert_array_equal(one.multi_hot(labels.shape[1]), table.subcategories[row])


def test_what_a_person_sees(rounds_run):
    metrics = json.loads((rounds_run / "metrics.json").read_text())
    first, second = metrics["clusterings"]
    assert (first["stage"], first["compared_with"], first["nmi"], first["k"]) == ("clusters_1", None, None, 3)
    assert (second["compared_with"], second["images"]) == ("clusters_1", 12)
    tables = [ClusterTable.load(rounds_run / name / "clusters.npz") for name in ("clusters_1", "clusters_2")]
    assert [item["nmi"] for item in second["classes"]] == cluster_agreement(*tables)
    for clustering in (first, second):
        for item in clustering["classes"]:
            assert sum(item["sizes"]) == item["images"]
            sheet = rounds_run / clustering["stage"] / "contact_sheets" / item["sheet"]
            assert sheet.is_file() == (item["images"] > 0)
    report = (rounds_run / "report.html").read_text()
    assert "How far clusters stay the same" in report


def test_each_step_is_reused_or_run_for_the_right_reason(rounds_run, rounds_recipe):
    def actions(*overrides):
        plans = plan_run(load_recipe(str(rounds_recipe), overrides), rounds_run)
        return {f"{plan.stage}.{plan.step}" for plan in plans if plan.action != "reuse"}

    assert actions() == set()
    again = {"clusters_2.cluster", "round_2.fit", "cam.predict", "cam.evaluate"}
    assert actions("stages.clusters_2.cluster.clusterer.seed=1") == again
    # other images make other clusters, unlike maps of other images
    assert "clusters_2.cluster" in actions("stages.clusters_2.cluster.splits=[train, val]")
    k = ["stages.clusters_2.cluster.clusterer.k=2", "stages.round_2.fit.method.k=2"]
    assert actions(*k) == again
    assert actions("stages.cam.predict.init_args.head=subcategory") == {"cam.predict", "cam.evaluate"}


def test_the_same_clusters_again_after_a_change(tmp_path, rounds_recipe):
    settings = {"output_dir": tmp_path, "wandb": "off", "only": ["round_0", "clusters_1"]}
    run_recipe(str(rounds_recipe), **settings)
    folder = tmp_path / "rounds" / "clusters_1"
    before = (folder / "clusters.npz").stat().st_mtime_ns
    k = ["stages.clusters_1.cluster.clusterer.k=2", "stages.round_1.fit.method.k=2"]
    run_recipe(str(rounds_recipe), k, **settings)
    assert ClusterTable.load(folder / "clusters.npz").k == 2
    run_recipe(str(rounds_recipe), **settings)
    assert (folder / "clusters.npz").stat().st_mtime_ns == before
    assert ClusterTable.load(folder / "clusters.npz").k == 3
    assert Subcategories.load(next((folder / "subcategories").iterdir())).k == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stages.clusters_2.cluster.clusterer.k=4"], r"'clusters_2' makes k=4 .* method has k=3"),
        (["stages.clusters_2.cluster.inputs.features=cam"], r"'cam', which does not stand before it"),
        (["stages.round_1.fit.inputs.subcategories=round_0"], r"makes features: none is meant for it"),
        (["stages.clusters_2.cluster.inputs.maps=round_1"], r"inputs\.maps: .*reads nothing of that name"),
        (["stages.clusters_2.cluster.clusterer.kk=4"], r"kk: unknown key"),
        (["stages.clusters_2.cluster.splits=[]"], r"cluster\.splits: is empty"),
        (
            ["stages.clusters_1.predict={splits: [train], weights: round_0}"],
            r"has predict and cluster; each makes one kind of result: use 2 stages",
        ),
        (["stages.cam.predict.outputs=[masks]"], r"there is no 'masks'; did you mean 'maps'"),
        (
            ["stages.cam.fit={method: {class_path: wsss_zoo.methods.SEAM}}", "stages.cam.predict.weights=cam",
             "stages.cam.predict.outputs=[features]"],
            r"SEAM has no image_features",
        ),
    ],
)  # fmt: skip
def test_recipes_that_cannot_be_run(overrides, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("minivoc/sccam", overrides)


def test_wrong_values_are_told_before_anything_is_trained(tmp_path, rounds_recipe):
    overrides = ["stages.clusters_2.cluster.clusterer.n_init=0"]
    with pytest.raises(RecipeError, match="n_init is 1 or more"):
        run_recipe(str(rounds_recipe), overrides, output_dir=tmp_path, wandb="off")
    assert not (tmp_path / "rounds" / "round_0").exists()


def test_features_need_the_original_size(tmp_path, rounds_recipe):
    overrides = ["stages.round_0.predict.scales=[0.5]"]
    with pytest.raises(RecipeError, match=r"1\.0 is not among the scales \[0\.5\]"):
        run_recipe(str(rounds_recipe), overrides, output_dir=tmp_path, wandb="off", only=["round_0"])


def settings_of(**arguments) -> Cluster:
    spec = ClassSpec("wsss_zoo.refine.KMeansInClasses", arguments)
    return Cluster({"features": "round_0"}, ("train",), spec)


def test_images_that_cannot_be_clustered(tmp_path, rounds_run, small_data):
    datamodule, records = records_of(small_data)
    folder = rounds_run / "round_0" / "features"
    with pytest.raises(WsssZooError, match="no image to cluster in train"):
        cluster(settings_of(), folder, [], datamodule, tmp_path, stage="c")
    unlabelled = [type(r)(r.image_id, r.image, r.mask, np.zeros_like(r.labels)) for r in records]
    with pytest.raises(DataError, match=r"stages\.c\.cluster: no image of train has a class"):
        cluster(settings_of(), folder, unlabelled, datamodule, tmp_path, stage="c")
    others = datamodule.records("val")
    with pytest.raises(DataError, match="8 of 20 images have no features"):
        cluster(settings_of(), folder, [*records, *others], datamodule, tmp_path, stage="c")


def test_an_image_without_class_has_no_kinds(tmp_path, rounds_run, small_data):
    datamodule, records = records_of(small_data)
    first = records[0]
    records[0] = type(first)(first.image_id, first.image, first.mask, np.zeros_like(first.labels))
    folder = rounds_run / "round_0" / "features"
    cluster(settings_of(k=2), folder, records, datamodule, tmp_path, stage="c")
    assert Subcategories.load(tmp_path / "subcategories" / f"{first.image_id}.npz").classes.size == 0
    assert first.image_id not in ClusterTable.load(tmp_path / "clusters.npz").image_ids


def tables(*clusterings: list[int]) -> list[ClusterTable]:
    """One class, whose images are in these clusters of three; images with -1 are without it."""
    made = []
    for clusters in clusterings:
        rows = [row for row, found in enumerate(clusters) if found >= 0]
        hot = np.eye(3)[[clusters[row] for row in rows]]
        ones = np.ones((len(rows), 1))
        made.append(ClusterTable(tuple(map(str, rows)), ones, hot, ones.astype(np.float32)))
    return made


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0, 0, 1, 1], [2, 2, 0, 0], 1.0),
        ([0, 0, 1, 1], [0, 1, 0, 1], 0.0),
        ([0, 0, 1, 1], [0, 0, 0, 0], None),
        ([0, 0, 1, 1], [-1, 1, 2, 2], 1.0),  # over the images of both
        # in bits the entropies are 1 and 1.5, the information 1
        ([0, 0, 1, 1], [0, 0, 1, 2], 2 * 1 / (1 + 1.5)),
    ],
)
def test_agreement(first, second, expected):
    assert cluster_agreement(*tables(first, second)) == [pytest.approx(expected, abs=1e-9)]


def test_sheets_are_files_whatever_the_class_is_called():
    assert sheet_name(3, "cat") == "03_cat.png"
    assert sheet_name(11, "a/b c: ü") == "11_a_b_c_.png"
