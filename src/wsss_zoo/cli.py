"""The command line: arguments in, one call out. torch is imported by the command that needs it."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from wsss_zoo.errors import WsssZooError
from wsss_zoo.version import __version__

_DESCRIPTION = """Weakly supervised segmentation: image-level labels in, masks and a trained network out.

  wsss-zoo run minivoc/cam                              the built-in set, no download
  wsss-zoo run cam data.root=/data/VOCdevkit            PASCAL VOC 2012, settings of the paper
  wsss-zoo list recipes                                 what can be run
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0, or 2 after an error that the user can mend (its message goes to standard error).
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if options.command == "run":
        # argparse takes positional arguments in one block only; overrides may also follow the options
        options.overrides += [text for text in rest if "=" in text and not text.startswith("-")]
        rest = [text for text in rest if text not in options.overrides]
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.command is None:
        parser.print_help()
        return 0
    try:
        options.function(options)
    except WsssZooError as error:
        print(f"wsss-zoo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("wsss-zoo: stopped; finished images are kept, the same command continues", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wsss-zoo", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"wsss-zoo {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_run(commands)
    _add_list(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_compare(commands)
    _add_data(commands)
    _add_weights(commands)
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser("run", help="run a recipe or an ablation")
    run.add_argument("recipe", help="name (minivoc/cam, cam) or a YAML file")
    run.add_argument("overrides", nargs="*", metavar="key=value", help="data.root=DIR, seed=1, ...")
    run.add_argument(
        "-o", "--output", type=Path, default=Path("runs"), help="folder of all runs (%(default)s)"
    )
    run.add_argument("--dry-run", action="store_true", help="print what would run, what is reused, and why")
    run.add_argument("--only", metavar="STAGE[,STAGE]", default="", help="run these stages alone")
    run.add_argument("--from", dest="start", metavar="STAGE", help="run this stage and the following")
    run.add_argument("--force", action="store_true", help="run the selected stages again though unchanged")
    run.add_argument(
        "--wandb",
        choices=("online", "offline", "off"),
        help="default: online where a key is configured, otherwise offline",
    )
    run.set_defaults(function=_run)


def _add_list(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    listing = commands.add_parser("list", help="list models, recipes or data sets")
    listing.add_argument("what", choices=("models", "recipes", "datasets"))
    listing.set_defaults(function=_list)


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser(
        "evaluate", help="score a folder of masks, localization maps or saliency maps"
    )
    evaluate.add_argument(
        "--kind",
        choices=("segmentation", "saliency"),
        default="segmentation",
        help="what --pred holds (%(default)s: .png masks or .npz maps; saliency: grey .png)",
    )
    evaluate.add_argument(
        "--pred", type=Path, required=True, metavar="DIR", help="saliency: or one subfolder a data set"
    )
    evaluate.add_argument("--gt", type=Path, required=True, metavar="DIR", help="ground-truth .png masks")
    evaluate.add_argument(
        "--list", type=Path, metavar="FILE", help="image ids, one a line (default: all of --pred, or of --gt)"
    )
    evaluate.add_argument("-o", "--output", type=Path, metavar="FILE", help="also write the scores as JSON")
    segmentation = evaluate.add_argument_group("segmentation")
    segmentation.add_argument("--num-classes", type=int, help="foreground classes (20)")
    segmentation.add_argument("--threshold", type=float, help="fixed background threshold of maps (0.2)")
    saliency = evaluate.add_argument_group("saliency")
    saliency.add_argument(
        "--protocol",
        choices=("pysodmetrics", "ldf"),
        help="rules for masks and special cases: PySODMetrics (default) or LDF's MATLAB scripts",
    )
    saliency.add_argument("--csv", type=Path, metavar="FILE", help="also write the table as CSV")
    saliency.add_argument("--latex", type=Path, metavar="FILE", help="also write the table as LaTeX")
    saliency.add_argument("--allow-missing", action="store_true", help="leave masks without prediction out")
    evaluate.set_defaults(function=_evaluate)


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    predict = commands.add_parser("predict", help="write masks and overlays of any images")
    predict.add_argument("weights", help="weights.safetensors of a run, or published weights with --model")
    predict.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files or folders")
    predict.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    predict.add_argument("--model", help="the model's name where the weights do not tell (cam, deeplab, ...)")
    predict.add_argument("--scales", type=float, nargs="+", default=[0.5, 0.75, 1.0, 1.25, 1.5])
    predict.add_argument("--no-flip", action="store_true", help="do not average with the mirrored image")
    predict.add_argument("--crf", metavar="NAME", help="dense CRF afterwards: deeplab_v2, psa, ...")
    predict.add_argument(
        "--threshold", type=float, default=0.2, help="localizers: background threshold (%(default)s)"
    )
    predict.set_defaults(function=_predict)


def _add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    compare = commands.add_parser("compare", help="put runs side by side in one page")
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    compare.add_argument("-o", "--output", type=Path, default=Path("comparison.html"), metavar="FILE")
    compare.set_defaults(function=_compare)


def _add_data(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    data = commands.add_parser("data", help="download or check a data set")
    data.add_argument("action", choices=("prepare", "check"))
    data.add_argument("name", help="see: wsss-zoo list datasets")
    data.add_argument("--root", type=Path, required=True, metavar="DIR")
    data.set_defaults(function=_data)


def _add_weights(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    weights = commands.add_parser("weights", help="convert published weights, or export trained ones")
    weights.add_argument("action", choices=("import", "export"))
    weights.add_argument("model", help="model name: cam, deeplab, ...")
    weights.add_argument("source", help=".pth, .ckpt, .safetensors, .params, .caffemodel or .mat")
    weights.add_argument(
        "target", type=Path, help="import: .safetensors; export: .safetensors or .pth (state dict)"
    )
    weights.set_defaults(function=_weights)


def _run(options: argparse.Namespace) -> None:
    from wsss_zoo.pipeline.plan import Selection
    from wsss_zoo.pipeline.run import dry_run, load, run_recipe

    only = tuple(name for name in options.only.split(",") if name)
    loaded = load(options.recipe, options.overrides)
    if options.dry_run:
        from wsss_zoo.pipeline.console import print_plan

        print_plan(dry_run(loaded, options.output, Selection(only, options.start, options.force)))
        return
    _quieten_lightning()
    metrics = run_recipe(
        options.recipe,
        options.overrides,
        options.output,
        only=only,
        start=options.start,
        force=options.force,
        wandb=options.wandb,
    )
    if metrics:
        from wsss_zoo.pipeline.console import print_run

        print_run(metrics, options.output / loaded.name)


def _quieten_lightning() -> None:
    """Leave out hardware lines and advertisements that Lightning prints for every stage."""
    import lightning  # noqa: F401  # sets its own log level when it is imported

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        r".*in eval mode at the start of training.*",  # frozen batch norm
        r".*does not have many workers.*",
        r".*isinstance\(treespec, LeafSpec\).*",  # Lightning's own use of torch
        r".*training batches .* is smaller than the logging interval.*",
    ):
        warnings.filterwarnings("ignore", message=message)


def _list(options: argparse.Namespace) -> None:
    if options.what == "recipes":
        from wsss_zoo.pipeline.recipe_files import list_recipes

        rows = list(list_recipes().items())
    elif options.what == "models":
        from wsss_zoo.methods import MODELS

        rows = [(name, path) for name, path in sorted(MODELS.items())]
    else:
        from wsss_zoo.data import DATASETS

        rows = [(name, path) for name, path in sorted(DATASETS.items())]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:<{width}}  {text}".rstrip())


def _evaluate(options: argparse.Namespace) -> None:
    saliency = options.kind == "saliency"
    of_saliency, of_segmentation = ["protocol", "csv", "latex", "allow_missing"], ["num_classes", "threshold"]
    for name in of_segmentation if saliency else of_saliency:
        if getattr(options, name) not in (None, False):
            raise WsssZooError(f"--{name.replace('_', '-')} does not apply to --kind {options.kind}")
    (_evaluate_saliency if saliency else _evaluate_segmentation)(options)


def _evaluate_segmentation(options: argparse.Namespace) -> None:
    from wsss_zoo.artifacts.files import write_json
    from wsss_zoo.pipeline.console import print_scores
    from wsss_zoo.pipeline.evaluate import evaluate_folders

    scores = evaluate_folders(
        options.pred,
        options.gt,
        num_classes=20 if options.num_classes is None else options.num_classes,
        ids=options.list,
        threshold=0.2 if options.threshold is None else options.threshold,
    )
    print_scores(scores)
    if options.output is not None:
        write_json(options.output, scores)


def _evaluate_saliency(options: argparse.Namespace) -> None:
    from rich.console import Console

    from wsss_zoo.artifacts.files import write_json
    from wsss_zoo.pipeline.evaluate_saliency import evaluate_saliency_folders
    from wsss_zoo.pipeline.saliency_tables import saliency_table, write_tables

    scores = evaluate_saliency_folders(
        options.pred,
        options.gt,
        ids=options.list,
        protocol=options.protocol or "pysodmetrics",
        allow_missing=options.allow_missing,
    )
    Console().print(saliency_table(scores))
    if options.output is not None:
        write_json(options.output, scores)
    write_tables(scores, options.csv, options.latex)


def _predict(options: argparse.Namespace) -> None:
    from wsss_zoo.pipeline.predict_images import predict_images

    count = predict_images(
        options.weights,
        options.images,
        options.output,
        model=options.model,
        scales=options.scales,
        flip=not options.no_flip,
        crf=options.crf,
        threshold=options.threshold,
    )
    print(f"{count} masks in {options.output / 'masks'}, overlays in {options.output / 'overlays'}")


def _compare(options: argparse.Namespace) -> None:
    from wsss_zoo.tracking.report import write_comparison

    print(write_comparison(options.runs, options.output))


def _data(options: argparse.Namespace) -> None:
    if options.action == "prepare":
        from wsss_zoo.data.prepare import prepare

        prepare(options.name, options.root)
    else:
        from wsss_zoo.data.check import check

        print(check(options.name, options.root))


def _weights(options: argparse.Namespace) -> None:
    from wsss_zoo.weights.pretrained import export_state_dict, save_pretrained

    if options.action == "import" and options.target.suffix != ".safetensors":
        raise WsssZooError(f"imported weights are written as .safetensors, got {options.target}")
    from wsss_zoo.methods import create_model

    module = create_model(options.model, weights=options.source)
    if options.target.suffix == ".safetensors":
        save_pretrained(module, options.target)
    else:
        export_state_dict(module, options.target)
    print(options.target)


if __name__ == "__main__":
    sys.exit(main())
