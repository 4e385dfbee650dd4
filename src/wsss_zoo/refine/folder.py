"""Refine a folder of artifacts with all cores; finished images survive whatever happens."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from wsss_zoo.artifacts.folder import finished_ids
from wsss_zoo.artifacts.kinds import ARTIFACT_KINDS, Content, load_artifact, save_artifact
from wsss_zoo.errors import DataError, WsssZooError

#: Called with an image and, by name, the artifacts it refines; returns a label mask uint8 (H, W), or
#: artifacts by kind, which a class attribute `outputs` names. Picklable, to run in several processes.
Refiner: TypeAlias = Callable[..., Any]


class RefineItem(NamedTuple):
    """One image to refine.

    Attributes:
        image_id: names the results.
        image: path of the image.
        inputs: role -> content and path of the artifact that the refiner is given under this name.
    """

    image_id: str
    image: str | os.PathLike[str]
    inputs: Mapping[str, tuple[Content, str | os.PathLike[str]]]


# Small enough that stopping is quick and the bar moves, large enough that passing tasks costs nothing.
_IMAGES_A_TASK = 4


class _Outcome(NamedTuple):
    image_id: str
    error: str | None


def refine_folder(
    refiner: Refiner,
    items: Iterable[RefineItem],
    out_dir: str | os.PathLike[str],
    workers: int = 0,
    progress: str | None = "refine",
) -> int:
    """Refine each image that has no result yet.

    Each result is written as soon as it is made, whole or not at all; running again goes on with what is
    missing. One broken image does not stop the others.

    Args:
        refiner: `PseudoLabels`, `ConfidentLabels` or any picklable callable like them.
        items: the images and what is known of them.
        out_dir: where ``<kind>/<image id>`` is written, ``masks/<image id>.png`` for refiners of masks.
        workers: processes; 0 or 1 works in this one. A script that asks for more needs the usual
            ``if __name__ == "__main__"`` guard, because the processes are spawned.
        progress: title of the progress bar; None shows none.

    Returns:
        Number of images refined by this call; those finished before are not counted.

    Raises:
        WsssZooError: some images failed (the first ones are named, after all others are finished), or a
            process was killed.
        KeyboardInterrupt: passed on once running images are finished.
    """
    out_dir = Path(out_dir)
    outputs = tuple(getattr(refiner, "outputs", ("masks",)))
    finished = set.intersection(
        *(finished_ids(out_dir / kind, ARTIFACT_KINDS[kind].extension) for kind in outputs)
    )
    todo = [item for item in items if item.image_id not in finished]
    tasks = [todo[start : start + _IMAGES_A_TASK] for start in range(0, len(todo), _IMAGES_A_TASK)]
    outcomes = _in_processes if workers > 1 else _in_this_process
    failed: list[_Outcome] = []
    with tqdm(total=len(todo), desc=progress, unit="img", disable=progress is None) as bar:
        for batch in outcomes(refiner, tasks, out_dir, min(workers, len(tasks))):
            bar.update(len(batch))
            failed += [outcome for outcome in batch if outcome.error is not None]
    if failed:
        named = "\n".join(f"  {outcome.image_id}: {outcome.error}" for outcome in failed[:5])
        more = f"\n  and {len(failed) - 5} more" if len(failed) > 5 else ""
        raise WsssZooError(
            f"{len(failed)} of {len(todo)} images could not be refined:\n{named}{more}\n"
            f"The others are finished in {out_dir}; mend these and run again, only they are made."
        )
    return len(todo)


def _in_this_process(
    refiner: Refiner, tasks: list[list[RefineItem]], out_dir: Path, workers: int
) -> Iterator[list[_Outcome]]:
    for task in tasks:
        for item in task:
            yield _refine_all(refiner, [item], out_dir)


def _in_processes(
    refiner: Refiner, tasks: list[list[RefineItem]], out_dir: Path, workers: int
) -> Iterator[list[_Outcome]]:
    if not tasks:
        return
    # Spawned, not forked: a fork after CUDA or threads were used can hang.
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        futures: list[Future[list[_Outcome]]] = [
            executor.submit(_refine_all, refiner, task, out_dir) for task in tasks
        ]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise WsssZooError(
            "a refining process ended without an answer, most likely for lack of memory. "
            f"Finished images are kept in {out_dir}: run again with fewer workers than {workers}."
        ) from error
    finally:
        # Also on Ctrl-C: drop what has not begun and wait for the few images in work.
        executor.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """One thread a process, and leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"  # for libraries that a user's refiner loads later
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _refine_all(refiner: Refiner, items: list[RefineItem], out_dir: Path) -> list[_Outcome]:
    outcomes = []
    for image_id, image_path, inputs in items:
        try:
            artifacts = {role: load_artifact(content, path) for role, (content, path) in inputs.items()}
            result = refiner(_read_image(image_path), **artifacts)
            for kind, value in (result if isinstance(result, Mapping) else {"masks": result}).items():
                extension = ARTIFACT_KINDS[kind].extension
                save_artifact(kind, out_dir / kind / f"{image_id}{extension}", value)
            outcomes.append(_Outcome(image_id, None))
        except WsssZooError as error:
            outcomes.append(_Outcome(image_id, str(error)))
        except Exception as error:  # reported by the caller once the other images are done
            outcomes.append(_Outcome(image_id, f"{type(error).__name__}: {error}"))
    return outcomes


def _read_image(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: the image cannot be read ({error}).") from error
