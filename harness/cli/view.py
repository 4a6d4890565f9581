"""``harness view``: a model at work and the scores of a run, as pictures and as files of data."""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from harness.cli.overrides import USAGE, add_overrides, add_quiet, hydra_arguments
from harness.cli.parser import RUN_HELP, Parser, add_runs_folder, add_verb, listed_names, some_text
from harness.errors import UserError, printable

VIEW_TEXTS = {
    "activations": "what layers of the model give for the first samples",
    "maximisation": "inputs that excite each class, and channels, most",
    "features": "the samples by the features of the last layer (t-SNE), coloured by class and by a score",
    "columns": "attributions of a table by column name",
    "interactions": "which pairs of units act together, by the explainers of the group interactions",
    "curves": "the score while units are removed, for each metric that has curves",
    "importances": "all repeats of a global importance",
    "tradeoff": "accuracy of several models against their explanations",
}
EXAMPLES = {
    "harness view": "all views of the latest run that apply",
    "harness view main --what curves,features --explainer lime": "two views of the run main",
    "harness view model=digits_cnn dataset=digits --what activations --layers 2,5": (
        "the activations of two layers, without a run"
    ),
    "harness view model=cancer_mlp dataset=breast_cancer explainer=interactions --what interactions": (
        "which columns act together on the first samples"
    ),
}


def add_parser(verbs: Any) -> Parser:
    """Add the verb to the tree."""
    views = "\n".join(f"  {name:<13} {words}" for name, words in VIEW_TEXTS.items())
    parser = add_verb(
        verbs,
        "view",
        "draw pictures of a run's scores and of its models at work, with the data of each picture",
        f"""
The views:

{views}

curves, importances and tradeoff are drawn from the run's files; the others load the model. Pictures and their data are
written to the run's folder `views`. In place of RUN ({RUN_HELP}), the OVERRIDEs of harness run name model and data:
harness run --help explains them.""",
        EXAMPLES,
        usage=USAGE.replace("[OVERRIDE ...]", "[RUN | OVERRIDE ...]"),
    )
    parser.add_argument("--what", metavar="LIST", type=some_text, help="the views, with commas between them")
    parser.add_argument(
        "--layers", metavar="LIST", type=some_text, help="the layers for activations (default: up to six)"
    )
    parser.add_argument(
        "--explainer",
        metavar="NAME",
        type=some_text,
        help="colour features by the scores of this explainer (default: the first that has scores)",
    )
    parser.add_argument(
        "--trust", action="store_true", help="import the functions that a run of somebody else names, and run them"
    )
    add_runs_folder(parser)
    add_quiet(parser, "print mistakes only")
    add_overrides(parser)
    return parser


def execute(chosen: argparse.Namespace) -> int:
    """Draw views of a run, or of the model and data of every job."""
    from harness.cli.hydra_config import for_each_job
    from harness.messages import heard_by
    from harness.views.drawing import draw_views, view_names

    options = {
        "what": None if chosen.what is None else listed_names(chosen.what),
        "layers": None if chosen.layers is None else listed_names(chosen.layers),
        "explainer": chosen.explainer,
        "runs": chosen.runs,
        "trust": chosen.trust,
    }
    view_names(options["what"])  # a misspelt name must not wait for the model

    def draw(run_or_config: str | dict[str, Any]) -> None:
        with nullcontext() if chosen.quiet else heard_by(_print_message):
            paths = draw_views(run_or_config, **options)
        if not chosen.quiet:
            _print_pictures(paths)

    runs = [each for each in chosen.overrides if "=" not in each and not each.startswith(("~", "+"))]
    if len(runs) > 1 or (runs and (len(chosen.overrides) > 1 or chosen.hydra)):
        raise UserError(f"harness view {' '.join(chosen.overrides)}: expected one RUN, or the arguments of harness run")
    if runs or not (chosen.overrides or chosen.hydra):
        draw(runs[0] if runs else "latest")
        return 0
    return for_each_job(hydra_arguments(chosen), draw)


def _print_pictures(paths: list[Path]) -> None:
    from harness.results.plain_text import drawable  # imports pandas

    pictures = [path for path in paths if path.suffix == ".png"]
    for path in pictures:
        print(drawable(path))
    print(f"{len(pictures)} pictures, the data of each beside it")


def _print_message(line: str) -> None:
    print(printable(line), file=sys.stderr)
