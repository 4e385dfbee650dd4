"""The `predict` step: a trained method over splits, multi-scale and mirrored, one file an image.

Runs through `Trainer.predict`, so that several GPUs share the images. Images that are finished are
not computed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from wsss_zoo.artifacts.features import save_features
from wsss_zoo.artifacts.folder import finished_ids, folder_bytes
from wsss_zoo.artifacts.kinds import ARTIFACT_KINDS, save_artifact
from wsss_zoo.artifacts.label_scores import LabelScores
from wsss_zoo.artifacts.localization_maps import LocalizationMaps
from wsss_zoo.artifacts.masks import save_mask
from wsss_zoo.artifacts.saliency import save_saliency
from wsss_zoo.data.dataset import PredictionDataset
from wsss_zoo.data.inputs import num_planes, read_input
from wsss_zoo.errors import RecipeError, WsssZooError
from wsss_zoo.methods.artifact_refiner import ArtifactRefiner
from wsss_zoo.methods.image_localizer import ImageLocalizer, SamplingLocalizer
from wsss_zoo.methods.image_segmenter import ImageSegmenter
from wsss_zoo.methods.multi_scale import image_pyramid, multi_scale_localize, multi_scale_segment
from wsss_zoo.pipeline.inputs import OUTPUTS_OF_KIND
from wsss_zoo.pipeline.recipe import Predict
from wsss_zoo.pipeline.refine import require_artifacts
from wsss_zoo.refine.dense_crf import DenseCRF

if TYPE_CHECKING:
    from wsss_zoo.data import Record
    from wsss_zoo.data.image_datamodule import ImageDataModule
    from wsss_zoo.normalization import Normalization

#: Trainer arguments that also hold for inference.
_PLACE_KEYS = ("accelerator", "devices", "num_nodes", "strategy", "precision", "enable_progress_bar")


class PyramidDataset(Dataset[dict[str, Any]]):
    """Images at every scale, as the network wants them; items are dictionaries of one image."""

    def __init__(
        self,
        images: PredictionDataset,
        scales: Sequence[float],
        normalization: Normalization,
        inputs: Mapping[str, Path],
        keep_image: bool = False,
        square: int | None = None,
    ) -> None:
        self.images = images
        self.scales = tuple(scales)
        self.normalization = normalization
        self.inputs = dict(inputs)
        self.keep_image = keep_image
        self.square = square

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`pyramid`: list of `(1, 3, h, w)`, `labels` `(C,)`, `size` `(H, W)`, `image_id`, `inputs`."""
        sample = self.images[index]
        item = {
            "image_id": sample["image_id"],
            "pyramid": image_pyramid(sample["image"], self.scales, self.normalization, self.square),
            "labels": torch.tensor(sample["labels"]),
            "size": sample["size"],
        }
        count = len(sample["labels"])
        item["inputs"] = {}
        for role, folder in self.inputs.items():
            planes = read_input(role, folder, sample["image_id"], count, sample["size"])
            item["inputs"][role] = torch.from_numpy(planes.dense(num_planes(role, count)))
        if self.keep_image:
            item["image"] = sample["image"]
        return item


def _crf_mask(
    path: Path, image: np.ndarray, probabilities: torch.Tensor, values: torch.Tensor, crf: DenseCRF
) -> None:
    """Dense CRF of one image, on the device of its scores, written as a mask; runs in a worker thread."""
    marginals = crf([torch.tensor(image).permute(2, 0, 1)], [probabilities])
    save_mask(path, _label_mask(marginals[0], values))


def _label_mask(scores: torch.Tensor, values: torch.Tensor) -> np.ndarray:
    """The mask value of the highest plane, uint8 `(H, W)`; `values[k]` is that of plane k."""
    return values[scores.argmax(0)].cpu().numpy().astype(np.uint8)


class Predictor(L.LightningModule):
    """Wraps a method for `Trainer.predict`: averages over scales and mirrors, writes the result.

    Args:
        method: a method with a `kind`.
        settings: the `predict` block.
        outputs: kinds of artifacts to write.
        folder: the stage's folder.
    """

    def __init__(self, method: Any, settings: Predict, outputs: tuple[str, ...], folder: Path) -> None:
        super().__init__()
        self.method = method
        self.settings = settings
        self.outputs = outputs
        self.folder = folder
        self._pool: ThreadPoolExecutor | None = None
        self._pending: list[Future[None]] = []

    def on_predict_start(self) -> None:
        """Start the CRF workers."""
        if self.settings.crf is not None:
            self._crf = DenseCRF(params=self.settings.crf)
            # threads are enough: the CRF's loops do not hold Python's lock
            self._pool = ThreadPoolExecutor(self.settings.crf_workers)

    def on_predict_end(self) -> None:
        """Wait for the CRF workers; an error of theirs is raised here."""
        if self._pool is not None:
            for future in self._pending:
                future.result()
            self._pool.shutdown()
            self._pending.clear()
            self._pool = None

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> str:
        """Predict one image and write it; gives its id."""
        kind = self.method.kind
        if kind == "localizer":
            if isinstance(self.method, SamplingLocalizer):
                self._write_samples(batch)
            elif "maps" in self.outputs:
                self._write_maps(batch)
            if "features" in self.outputs:
                self._write_features(batch)
        elif kind == "saliency":
            self._write_saliency(batch)
        elif isinstance(self.method, ImageSegmenter):
            self._write_masks(batch, self.method.segment_image(batch["pyramid"][0]))
        elif kind == "segmenter":
            probabilities = multi_scale_segment(
                self.method,
                batch["pyramid"],
                batch["size"],
                flip=self.settings.flip,
                average=self.settings.average,
            )
            self._write_masks(batch, probabilities)
        elif isinstance(self.method, ArtifactRefiner):
            artifacts = self.method.refine_artifacts(batch["pyramid"][0], batch["labels"], **batch["inputs"])
            for name in self.outputs:
                path = self.folder / name / f"{batch['image_id']}{ARTIFACT_KINDS[name].extension}"
                save_artifact(name, path, artifacts[name])
        else:
            scores = self.method.refine(batch["pyramid"][0], batch["labels"], **batch["inputs"])
            self._write_masks(batch, scores)
        return str(batch["image_id"])

    def _write_saliency(self, batch: dict[str, Any]) -> None:
        image = batch["pyramid"][0]
        if self.outputs == ("saliency",):
            maps = {"saliency": self.method.saliency(image)}
        else:
            maps = self.method.saliency_maps(image)
        for kind in self.outputs:
            path = self.folder / kind / f"{batch['image_id']}.png"
            save_saliency(path, maps[kind][0, 0].float().clamp(0, 1).cpu().numpy())

    def _write_features(self, batch: dict[str, Any]) -> None:
        image = batch["pyramid"][self.settings.scales.index(1.0)]
        features = self.method.image_features(image)[0].float().cpu().numpy()
        save_features(self.folder / "features" / f"{batch['image_id']}.npz", features)

    def _write_maps(self, batch: dict[str, Any]) -> None:
        labels = batch["labels"] if self.settings.image_labels else None
        if isinstance(self.method, ImageLocalizer):
            labels, maps = self.method.localize_image(batch["pyramid"][0], labels)
        else:
            if labels is None:
                labels = (torch.sigmoid(self.method(batch["pyramid"][0]))[0] > 0.5).float()
            maps = multi_scale_localize(
                self.method, batch["pyramid"], labels, batch["size"], flip=self.settings.flip
            )
        classes = torch.nonzero(labels > 0).flatten()
        LocalizationMaps.from_full_size(
            classes.cpu().numpy().astype(np.int16),
            maps[classes].float().cpu().numpy(),
            stride=self.settings.stride,
        ).save(self.folder / "maps" / f"{batch['image_id']}.npz")

    def _write_samples(self, batch: dict[str, Any]) -> None:
        """Maps on the grid of the method, as they are: a threshold later compares what the method made."""
        labels = batch["labels"] if self.settings.image_labels else None
        labels, maps = self.method.localize_samples(batch["pyramid"][0], labels)
        classes = torch.nonzero(labels > 0).flatten()
        for kind in self.outputs:
            if kind in maps:
                LocalizationMaps(
                    classes.cpu().numpy().astype(np.int16),
                    maps[kind][classes].clamp(0, 1).cpu().numpy().astype(np.float16),
                    tuple(batch["size"]),
                ).save(self.folder / kind / f"{batch['image_id']}.npz")

    def _write_masks(self, batch: dict[str, Any], probabilities: torch.Tensor) -> None:
        """Masks, and what goes with them, of scores `(C + 1, H, W)`."""
        if "scores" in self.outputs:
            classes = torch.nonzero(batch["labels"] > 0).flatten()
            planes = torch.cat([probabilities[:1], probabilities[1:][classes]])
            LabelScores.from_full_size(
                classes.cpu().numpy().astype(np.int16),
                planes.float().cpu().numpy(),
                stride=self.settings.stride,
            ).save(self.folder / "scores" / f"{batch['image_id']}.npz")
        if "masks" not in self.outputs:
            return
        name = f"{batch['image_id']}.png"
        values = torch.arange(len(probabilities), device=probabilities.device)
        if self.settings.label_filter:
            values = torch.cat([values[:1], 1 + torch.nonzero(batch["labels"] > 0).flatten()])
            probabilities = probabilities[values]
            probabilities = probabilities / probabilities.sum(0)
        if self._pool is not None:
            while len(self._pending) > 4 * self.settings.crf_workers:
                self._pending.pop(0).result()
            self._pending.append(
                self._pool.submit(
                    _crf_mask,
                    self.folder / "masks_crf" / name,
                    batch["image"],
                    probabilities.float(),
                    values,
                    self._crf,
                )
            )
        save_mask(self.folder / "masks" / name, _label_mask(probabilities, values))


def _require_label_filter(kind: str, settings: Predict, datamodule: ImageDataModule, stage: str) -> None:
    """Raise RecipeError where there is nothing that could be filtered, or nothing to filter by."""
    key = f"stages.{stage}.predict.label_filter"
    if kind != "segmenter":
        raise RecipeError(f"{key} is for segmenters, the method is a {kind}; remove it")
    for split in settings.splits:
        if not datamodule.split(split).labelled:
            raise RecipeError(f"{key} needs image-level labels, and those of the split {split!r} are unknown")


def _only_item(items: list[dict[str, Any]]) -> dict[str, Any]:
    return items[0]


def predict(
    method: Any,
    settings: Predict,
    records: Sequence[Record],
    datamodule: ImageDataModule,
    folder: Path,
    *,
    inputs: Mapping[str, str | Path],
    stage: str,
    trainer_arguments: dict[str, Any],
    num_workers: int = 0,
) -> dict[str, Any]:
    """Predict what is not predicted yet.

    Args:
        method: the trained method.
        settings: the stage's `predict` block.
        records: the images of all splits, each once.
        datamodule: reads the images.
        folder: the stage's folder.
        inputs: role -> folder of artifacts, for methods that refine others' results.
        stage: name of the stage, for messages.
        trainer_arguments: the recipe's `trainer`; only its places (devices, precision) are used.
        num_workers: loader processes.

    Returns:
        Facts for the stage's state: images in all, images computed now, bytes of the result.
    """
    kind = getattr(method, "kind", None)
    if kind not in OUTPUTS_OF_KIND:
        raise RecipeError(
            f"stages.{stage}.predict: {type(method).__name__} has kind {kind!r}; expected one of "
            f"{', '.join(OUTPUTS_OF_KIND)}"
        )
    refines_itself = isinstance(method, ArtifactRefiner)
    outputs = settings.outputs or (method.outputs if refines_itself else OUTPUTS_OF_KIND[kind])[:1]
    if settings.crf is not None and "masks" not in outputs:
        raise RecipeError(
            f"stages.{stage}.predict.crf is for masks, but the stage makes {', '.join(outputs)}; refine "
            "them in a stage of their own"
        )
    if settings.crf is not None and refines_itself:
        raise RecipeError(
            f"stages.{stage}.predict.crf is for scores, but {type(method).__name__} decides each pixel; "
            "remove it"
        )
    if settings.label_filter:
        _require_label_filter(kind, settings, datamodule, stage)
    if "features" in outputs and 1.0 not in settings.scales:
        raise RecipeError(
            f"stages.{stage}.predict.scales: features are taken at the original size, but 1.0 is not among "
            f"the scales {list(settings.scales)}; add it, or write features in a stage of their own"
        )
    if "features" in outputs and not hasattr(method, "image_features"):
        raise RecipeError(f"stages.{stage}.predict.outputs: {type(method).__name__} has no image_features")
    if "maps_max" in outputs and not isinstance(method, SamplingLocalizer):
        raise RecipeError(f"stages.{stage}.predict.outputs: {type(method).__name__} has no localize_samples")
    if isinstance(method, ImageLocalizer | ImageSegmenter) and settings.scales != (1.0,):
        raise RecipeError(
            f"stages.{stage}.predict.scales: {type(method).__name__} looks at each image at scales of its "
            f"own, so this stays [1.0], got {list(settings.scales)}; set predict.init_args.scales"
        )
    folders = {role: Path(source) for role, source in inputs.items()}
    require_artifacts(folders, records, f"stages.{stage}.predict")
    kinds = [*outputs, *(["masks_crf"] if settings.crf else [])]
    done = set.intersection(*(finished_ids(folder / name, ARTIFACT_KINDS[name].extension) for name in kinds))
    todo = [record for record in records if record.image_id not in done]
    if not records:
        raise WsssZooError(f"the stage {stage!r} has no image to predict in {', '.join(settings.splits)}")
    if todo:
        images = PredictionDataset(datamodule, todo)
        keep_image = settings.crf is not None
        square = getattr(method, "test_size", None)
        dataset = PyramidDataset(images, settings.scales, method.normalization, folders, keep_image, square)
        trainer = L.Trainer(
            **{key: value for key, value in trainer_arguments.items() if key in _PLACE_KEYS},
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            inference_mode=False,
        )
        loader = DataLoader(dataset, batch_size=1, num_workers=num_workers, collate_fn=_only_item)
        predictor = Predictor(method, settings, tuple(outputs), folder).eval()
        with torch.no_grad():
            trainer.predict(predictor, loader, return_predictions=False)
        trainer.strategy.barrier()
        if trainer.interrupted:
            raise KeyboardInterrupt
    first = kinds[0]
    made = finished_ids(folder / first, ARTIFACT_KINDS[first].extension)
    missing = {record.image_id for record in records} - made
    if missing:
        raise WsssZooError(
            f"the stage {stage!r} left {len(missing)} images without a result, first {min(missing)}"
        )
    return {
        "images": len(records),
        "computed": len(todo),
        "bytes": sum(folder_bytes(folder / name) for name in kinds),
    }
