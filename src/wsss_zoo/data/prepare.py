"""Get a data set onto the disk: `wsss-zoo data prepare NAME --root DIR`."""

from __future__ import annotations

import os
from pathlib import Path

from wsss_zoo.data import DATASETS
from wsss_zoo.errors import DataError, suggest

_VOC_BY_HAND = (
    "By hand: download VOCtrainval_11-May-2012.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ and "
    "unpack it in {root}, so that {root}/VOCdevkit/VOC2012/JPEGImages exists."
)
_SBD_BY_HAND = (
    "By hand: download benchmark.tgz (SBD) from http://home.bharathh.info/pubs/codes/SBD/download.html and "
    "move benchmark_RELEASE/dataset to {root}/sbd, so that {root}/sbd/cls exists; or put the masks "
    "SegmentationClassAug and a list ImageSets/Segmentation/train_aug.txt into VOC2012."
)
_SALIENCY_PAGES = {
    "DUTS-TR, DUTS-TE": "http://saliencydetection.net/duts/",
    "ECSSD": "http://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html",
    "PASCAL-S": "http://cbs.ic.gatech.edu/salobj/",
    "HKU-IS": "https://i.cs.hku.hk/~gbli/deep_saliency.html",
    "DUT-OMRON": "http://saliencydetection.net/dut-omron/",
    "THUR15K": "https://mmcheng.net/gsal/",
}


def prepare(name: str, root: str | os.PathLike[str]) -> None:
    """Download or generate a data set; what is already there is kept.

    `voc2012` downloads VOC 2012 (2 GB) and SBD (1.4 GB) with torchvision, which checks their MD5 sums;
    the images of VOC's test list need a login at the evaluation server and are not among them. `minivoc`
    is generated in seconds, and so is `minivoc_saliency`, which is the same set. `saliency` tells where the
    sets are found. `image_folder` cannot be prepared: it is your own data.

    Args:
        name: `voc2012`, `minivoc` or `minivoc_saliency`.
        root: folder to fill; VOC comes to `root/VOCdevkit/VOC2012` and SBD to `root/sbd`.

    Raises:
        DataError: unknown name, or the download failed; the message tells the steps by hand.
    """
    root = Path(root).expanduser()
    if name == "voc2012":
        _prepare_voc(root)
    elif name in ("minivoc", "minivoc_saliency"):
        from wsss_zoo.data.minivoc.datamodule import MiniVOCDataModule

        MiniVOCDataModule(root=str(root)).prepare_data()
    elif name == "image_folder":
        raise DataError(
            f"image_folder is your own data, there is nothing to download. Put photos into {root / 'images'} "
            f"and write {root / 'labels.csv'} with the header `image,labels` and lines such as "
            "`rex.jpg,dog;sofa`; then run `wsss-zoo data check image_folder --root DIR`."
        )
    elif name == "saliency":
        pages = "\n".join(f"  {title}: {page}" for title, page in _SALIENCY_PAGES.items())
        raise DataError(
            "the saliency sets come from their authors, nothing is downloaded here. Unpack what you need "
            f"into {root}, each set in a folder of its own, and run `wsss-zoo data check saliency --root "
            f"{root}`.\n{pages}"
        )
    else:
        raise DataError(f"unknown data set '{name}'; {suggest(name, DATASETS)}")


def _prepare_voc(root: Path) -> None:
    # here, not on top: torchvision takes seconds to import
    from torchvision.datasets import SBDataset, VOCSegmentation

    root.mkdir(parents=True, exist_ok=True)
    if not (root / "VOCdevkit" / "VOC2012" / "JPEGImages").is_dir():
        try:
            VOCSegmentation(str(root), year="2012", image_set="train", download=True)
        # torchvision tells a failed checksum as RuntimeError; URLError and timeouts are OSErrors
        except (OSError, RuntimeError) as error:
            raise DataError(_failure("PASCAL VOC 2012", error, _VOC_BY_HAND, root)) from error
    if not (root / "sbd" / "cls").is_dir():
        try:
            SBDataset(str(root / "sbd"), image_set="train", mode="segmentation", download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(_failure("SBD", error, _SBD_BY_HAND, root)) from error


def _failure(what: str, error: Exception, by_hand: str, root: Path) -> str:
    return (
        f"{what} could not be downloaded to {root} ({error}). Check the network and the space on the disk "
        f"and run the command again. {by_hand.format(root=root)}"
    )
