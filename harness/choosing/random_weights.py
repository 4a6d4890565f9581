"""Whether random weights can tell anything: maps need not change with weights that leave the model's function alike."""

from collections.abc import Sequence
from contextlib import closing

from torch import Tensor

from harness.engine.stage import Stage
from harness.engine.sub_stage import stage_of_samples
from harness.errors import NotApplicable
from harness.metrics._randomised import Randomisation, random_models
from harness.metrics._similarity import spearman

LEAST_SAMPLES = 8
MOST_ALIKE = 0.9  # mean size of the rank correlation of outputs, above which they order the inputs alike
MOST_OUTPUTS = 16


def why_weights_tell_nothing(stage: Stage, rows: Sequence[int]) -> str:
    """Why the check by random weights on some samples says nothing of explainers of this model; "" if it does.

    It is so where a model with random weights orders the inputs as the model does, or the other way round, in each of
    its outputs: where what it computes lies in code or buffers, and its parameters only scale or shift it. It is the
    same for all explainers, and kept with the stage.
    """
    key = "why random weights tell nothing", tuple(rows)
    if key not in stage.memo:
        stage.memo[key] = _why(stage_of_samples(stage, rows))
    return stage.memo[key]


def _why(stage: Stage) -> str:
    _, samples = next(stage.chunks())
    if len(samples) < LEAST_SAMPLES:
        return ""
    own = samples.live().model_outputs()
    try:
        with closing(random_models(samples, Randomisation())) as models:
            drawn = [samples.live().model_outputs() for _ in models]
    except NotApplicable as problem:
        return str(problem)
    alike = _alike(own, drawn[-1])
    if not alike > MOST_ALIKE:
        return ""
    return f"random weights hardly change how the model orders inputs (rank correlation {alike:.2f})"


def _alike(first: Tensor, second: Tensor) -> float:
    """The mean size of the rank correlations of the outputs of two models; 0 where all of one's outputs are equal."""
    columns = [each.flatten(1)[:, :MOST_OUTPUTS].double().T for each in (first, second)]
    return float(spearman(*columns).abs().nan_to_num(0.0).mean())
