"""The faster twin of a model equals it or is not used, and no model makes the search for one fail."""

import itertools
import os
import shutil
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

import harness
import harness.engine.tuning as tuning
from harness.engine.folding import fold_batch_norm
from harness.engine.tuning import tune
from harness.predictor import Predictor

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


@pytest.fixture(autouse=True, params=[int(os.environ["HARNESS_TEST_SEED"])], ids=lambda seed: f"seed{seed}")
def seed(request):
    torch.manual_seed(request.param)
    return request.param


def images():
    return torch.randn(6, 4, 8, 8)


def used(norm):
    """The layer with statistics and weights as training leaves them."""
    with torch.no_grad():
        for tensor in (norm.running_mean, norm.weight, norm.bias):
            if tensor is not None:
                tensor.normal_()
        if norm.running_var is not None:
            norm.running_var.uniform_(0.3, 3)
    return norm


def norms_in(model):
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def variants_of(model, inputs):
    skipped, predictor, work = {}, Predictor(model.eval()), tuning.Work(inputs, {})
    probes = [work.first(probe) for probe in tuning._probes(inputs)]
    expected = lambda: tuning._probe_outputs(predictor, probes)
    return {v.name: v for v in tuning._variants(predictor, work, probes, expected, skipped)}, skipped


class Net(nn.Module):
    """A convolution, a BatchNorm and a head; subclasses say how they meet."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(4, 4, 3, padding=1), used(nn.BatchNorm2d(4)), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.features(x).relu().mean((2, 3)))

    def features(self, x):
        return self.norm(self.conv(x))


@pytest.mark.parametrize(
    "dims, groups, bias, affine", list(itertools.product((1, 2, 3), (1, 2, 4), (True, False), (True, False)))
)
def test_folding_leaves_the_outputs_as_they_are(dims, groups, bias, affine):
    model = nn.Sequential(
        CONVS[dims](4, 8, 3, groups=groups, bias=bias),
        used(NORMS[dims](8, affine=affine)),
        nn.ReLU(),
        CONVS[dims](8, 3, 2, bias=bias),
        used(NORMS[dims](3, affine=affine)),
        nn.Flatten(),
    ).eval()
    inputs, before = torch.randn(3, 4, *[6] * dims), {k: v.clone() for k, v in model.state_dict().items()}
    twin = fold_batch_norm(model, inputs)
    assert norms_in(twin) == 0 and norms_in(model) == 2
    with torch.no_grad():
        torch.testing.assert_close(twin(inputs), model(inputs), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_norm_that_looks_at_the_batch_is_left_alone():
    without = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    training = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    assert fold_batch_norm(without, images()) is None
    assert fold_batch_norm(training, images()) is None


def test_a_convolution_called_twice_is_left_alone():
    class Shared(Net):
        def features(self, x):
            return self.norm(self.conv(self.conv(x)))

    assert fold_batch_norm(Shared().eval(), images()) is None


def test_a_norm_called_by_keyword_is_folded():
    class Keyword(Net):
        def features(self, x):
            return self.norm(input=self.conv(x))

    variants, skipped = variants_of(Keyword(), images())
    assert "folded" in variants and skipped == {} and norms_in(variants["folded"].module) == 0


def legacy(function):
    def apply(conv):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(conv)

    return apply


COMPUTED = {
    "weight_norm": legacy(weight_norm),
    "spectral_norm": legacy(spectral_norm),
    "parametrized weight_norm": parametrizations.weight_norm,
    "parametrized spectral_norm": parametrizations.spectral_norm,
}


@pytest.mark.parametrize("name", COMPUTED)
def test_a_convolution_whose_weight_is_computed_is_left_alone_and_the_others_are_folded(name):
    computed, plain, inputs = Net(), Net(), images()
    COMPUTED[name](computed.conv)
    assert fold_batch_norm(computed.eval(), inputs) is None
    both = nn.Sequential(computed.conv, computed.norm, plain.conv, plain.norm, nn.Flatten()).eval()
    with torch.no_grad():
        both(inputs)  # legacy weights are made in the pass, and a copy needs them free of its graph
        twin = fold_batch_norm(both, inputs)
        assert norms_in(twin) == 1
        torch.testing.assert_close(twin(inputs), both(inputs), rtol=1e-4, atol=1e-4)
    predictor = Predictor(computed)
    tune(predictor, inputs)
    assert "folded" not in predictor.variant["skipped"]


class UsedTwice(Net):
    def features(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class BlankBranch(Net):
    """Blank inputs go another way."""

    def features(self, x):
        y = self.conv(x)
        return y if (x == 0).all() else self.norm(y)


class FlatBranch(Net):
    """Inputs of one value per channel go another way."""

    def features(self, x):
        y = self.conv(x)
        return y if (x == x[..., :1, :1]).all() and (x != 0).any() else self.norm(y)


class MaskedBranch(Net):
    """Inputs that are half blank go another way."""

    def features(self, x):
        y = self.conv(x)
        return y if 0.4 < (x == 0).float().mean() < 0.6 else self.norm(y)


@pytest.mark.parametrize("kind", [UsedTwice, BlankBranch, FlatBranch, MaskedBranch])
def test_a_twin_that_differs_on_any_input_metrics_make_is_refused(kind):
    model, inputs = kind(), images()
    assert fold_batch_norm(model.eval(), inputs) is not None
    variants, skipped = variants_of(model, inputs)
    assert "folded" not in variants and "folded channels_last" not in variants
    assert all("outputs differ by" in skipped[name] for name in ("folded", "folded channels_last"))
    assert list(variants) == ["channels_last", "eager"]  # of the model as it is


def test_an_equal_twin_is_accepted_in_both_layouts():
    variants, skipped = variants_of(Net(), images())
    assert list(variants) == ["folded channels_last", "folded", "channels_last", "eager"] and skipped == {}
    assert all(variant.difference <= tuning.TOLERANCE for variant in variants.values())


class Viewing(Net):
    def forward(self, x):
        y = self.conv(x)
        return y.view(y.size(0), -1)[:, :3]


class Noisy(Net):
    def forward(self, x):
        return super().forward(x) + torch.randn(len(x), 3)


class Uncopied(Net):
    def __deepcopy__(self, memo):
        raise TypeError("cannot\nbe copied")


FORMS = ("folded channels_last", "folded", "channels_last")


@pytest.mark.parametrize(
    "kind, reasons",
    [
        (Viewing, {"channels_last": "RuntimeError: view size is not compatible"}),
        (Noisy, dict.fromkeys(FORMS, "outputs differ by")),
        (Uncopied, dict.fromkeys(FORMS, "TypeError: cannot be copied")),
    ],
)
def test_a_model_without_an_equal_twin_runs_as_it_is_and_the_record_says_why(kind, reasons):
    predictor, inputs = Predictor(kind().eval()), images()
    tune(predictor, inputs)
    record = predictor.variant
    assert record["variant"] == "eager" and record["difference"] == 0.0 and predictor.scoring is None
    assert record["skipped"].keys() == reasons.keys()
    assert all(record["skipped"][name].startswith(reason) for name, reason in reasons.items())
    assert not any("\n" in reason for reason in record["skipped"].values())


@pytest.mark.parametrize(
    "model, inputs, form",
    [
        (Net, (6, 4, 8, 8), "folded channels_last"),
        (lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(144, 3)), (6, 4, 8, 8), "channels_last"),
        (lambda: nn.Sequential(nn.Conv1d(4, 4, 3), used(nn.BatchNorm1d(4)), nn.Flatten()), (6, 4, 8), "folded"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 3)), (6, 4, 8, 8), "eager"),
        (lambda: nn.Linear(5, 3), (6, 5), "eager"),
    ],
)
def test_the_form_and_the_rows_per_pass_follow_from_the_model_whatever_a_clock_says(model, inputs, form, monkeypatch):
    model, inputs = model().eval(), torch.randn(inputs)
    records = []
    for clock in (lambda: 0.0, iter(torch.rand(1000).tolist()).__next__):
        monkeypatch.setattr("time.perf_counter", clock)
        predictor = Predictor(model, chunk=7)
        tune(predictor, inputs)
        records.append(predictor.variant)
        assert predictor.chunk == 7 and predictor.forwards == 0
    assert records[0] == records[1] and records[0]["variant"] == form


def test_more_samples_do_not_change_the_choice():
    model, inputs = FlatBranch().eval(), torch.randn(40, 4, 8, 8)
    inputs[tuning.PROBED :] = 1.0  # on which the fold differs
    few, many = Predictor(model), Predictor(model)
    tune(few, inputs[: tuning.PROBED])
    tune(many, inputs)
    assert few.variant == many.variant


def test_in_mixed_precision_the_form_is_that_of_full_precision_and_the_record_says_what_rounding_changes():
    model, inputs = Net().eval(), images()
    full, mixed = Predictor(model), Predictor(model, autocast=torch.bfloat16)
    tune(full, inputs)
    tune(mixed, inputs)
    assert mixed.variant["variant"] == full.variant["variant"] == "folded channels_last"
    assert mixed.variant["difference"] == full.variant["difference"] <= tuning.TOLERANCE
    rounded = mixed.variant["mixed_precision_difference"]
    assert tuning.TOLERANCE < rounded < 0.05 and "mixed_precision_difference" not in full.variant
    outputs, expected = mixed.logits(inputs), full.logits(inputs)
    assert 0 < (outputs - expected).abs().max() <= 0.05 * (expected.max() - expected.min())


class OnlyMixed(Net):
    """Weights in half precision, which take inputs of full precision in mixed precision only."""

    def __init__(self):
        super().__init__()
        self.bfloat16()


def test_a_model_that_runs_in_mixed_precision_only_is_used_as_it_is_and_the_record_says_why():
    predictor = Predictor(OnlyMixed().eval(), autocast=torch.bfloat16)
    tune(predictor, images())
    assert predictor.variant["variant"] == "eager" and predictor.scoring is None
    assert "does not run in full precision" in predictor.variant["skipped"]["every other form"]
    assert predictor.logits(images()).isfinite().all()


class WithExtra(Net):
    """A model that takes one more number with each row."""

    def forward(self, x, carried=None):
        return super().forward(x) + (0 if carried is None else carried["extra"][:, None])


@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
@pytest.mark.parametrize("autocast", [None, torch.bfloat16], ids=str)
def test_a_compiled_form_equals_the_model_for_every_number_of_rows_and_with_what_goes_along(autocast):
    model, inputs, extra = WithExtra().eval(), images(), {"extra": torch.arange(6.0)}
    compiled, plain = Predictor(model, autocast=autocast), Predictor(model, autocast=autocast)
    tune(compiled, inputs, extra, compiled=True)
    tune(plain, inputs, extra)
    record = compiled.variant
    assert record["variant"] == f"{plain.variant['variant']} compiled" and not record["skipped"]
    assert record["compile_seconds"] > 0 and record["compiled_time"] > 0
    for rows in (1, 2, 5, 6):
        carried = {"extra": extra["extra"][:rows]}
        outputs, expected = (each.logits(inputs[:rows], carried) for each in (compiled, plain))
        allowed = 0.02 if autocast else tuning.TOLERANCE
        assert outputs.shape == expected.shape
        assert (outputs - expected).abs().max() <= allowed * (expected.max() - expected.min())
    with torch.no_grad():  # a model whose weights change is not served by the copy that was compiled before
        model.head.weight.zero_()
        torch.testing.assert_close(
            compiled.live().logits(inputs)[:, 0], model.head.bias[0].expand(6), atol=1e-2, rtol=1e-2
        )


class Codes(nn.Module):
    """A table's net that looks up the code of its first column, for which a mean of columns is no code."""

    def __init__(self):
        super().__init__()
        self.codes, self.head = nn.Embedding(3, 4), nn.Linear(7, 3)

    def forward(self, x):
        return self.head(torch.cat([self.codes(x[:, 0].long()), x[:, 1:]], 1))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_without_another_form_is_called_on_real_inputs_only(compiled, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)
    inputs = torch.cat([torch.randint(0, 3, (6, 1)).float(), torch.full((6, 3), 50.0)], 1)
    predictor = Predictor(Codes().eval(), autocast=torch.bfloat16)
    tune(predictor, inputs, compiled=compiled)
    assert predictor.variant["mixed_precision_difference"] < 0.05 and not predictor.variant["skipped"]


@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
@torch._dynamo.config.patch(recompile_limit=2)  # in place of 8, so that four models are many
def test_each_of_many_models_of_one_class_is_compiled():
    compiled = lambda: sum(torch._dynamo.utils.counters["stats"].values())
    for width in range(4):
        model = nn.Sequential(nn.Linear(5, 8 + width), nn.ReLU(), nn.Linear(8 + width, 3)).eval()
        before = compiled()
        tune(Predictor(model), torch.randn(6, 5), compiled=True)
        assert compiled() > before or before == 0


def test_a_form_that_torch_cannot_compile_is_used_as_it_is_and_the_record_says_why(monkeypatch):
    def fails(*given, **options):
        raise RuntimeError("no working compiler\nwas found")

    monkeypatch.setattr(torch, "compile", fails)
    predictor = Predictor(Net().eval())
    tune(predictor, images(), compiled=True)
    assert predictor.variant["variant"] == "folded channels_last"
    reason = predictor.variant["skipped"]["folded channels_last compiled"]
    assert reason == "RuntimeError: no working compiler was found"


def test_a_failure_of_the_model_itself_is_not_swallowed():
    class Broken(Net):
        def forward(self, x):
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        tune(Predictor(Broken().eval()), images())


class Off(nn.Module):
    """A model whose outputs are off by up to a share of their range, each in another direction."""

    def __init__(self, model, share, inputs):
        super().__init__()
        with torch.no_grad():
            outputs = model(torch.cat([inputs, torch.zeros_like(inputs)]))
        self.model, self.most = model, share * (outputs.max() - outputs.min())

    def forward(self, x):
        outputs = self.model(x)
        return outputs + self.most * torch.sin(1e7 * outputs.double()).float()


def test_a_difference_of_the_tolerance_moves_no_score_so_far_that_explainers_change_places():
    model, inputs, targets = Net().eval(), torch.randn(6, 4, 8, 8), torch.zeros(6, dtype=torch.long)
    metrics = {"srg": {"steps": 8}, "deletion": {"steps": 8}, "sensitivity_n": {"sizes": 2, "draws": 20}}
    names = ("gradient", "input_x_gradient", "saliency", "random")
    maps = [harness.explain(name, model, inputs, targets) for name in names]

    def means(share):
        off = Off(model, share, inputs).eval()
        scores = lambda name: [harness.score(name, off, inputs, targets, each, **metrics[name]).mean() for each in maps]
        return torch.stack([torch.stack(scores(name)) for name in metrics])

    exact, close, far = means(0), means(tuning.TOLERANCE), means(0.05)
    assert (close - exact).abs().max() < 1e-3 < (far - exact).abs().max()
    apart = (exact[:, :, None] - exact[:, None]).abs() > 2e-3  # the others are ties in a table
    order = lambda scores: (scores[:, :, None] > scores[:, None])[apart]
    assert apart.any(dim=(1, 2)).all() and torch.equal(order(close), order(exact))


class Small(nn.Module):
    """Runs out of memory above a number of rows."""

    def __init__(self, rows):
        super().__init__()
        self.rows, self.head, self.seen = rows, nn.Linear(5, 3).double(), []

    def forward(self, x):
        self.seen.append(len(x))
        if len(x) > self.rows:
            raise torch.OutOfMemoryError("out of memory")
        return self.head(x.double())


@pytest.mark.parametrize("rows", [1, 3, 4, 100])
def test_a_predictor_halves_its_chunk_until_it_fits_and_gives_the_same_numbers(rows):
    model, inputs, targets = Small(rows), torch.randn(37, 5), torch.randint(3, (37,))
    predictor = Predictor(model, chunk=32)
    logits = predictor.logits(inputs)
    tracked = predictor.track(37, lambda numbers: inputs[numbers], targets)
    torch.testing.assert_close(logits, model.head(inputs.double()).float(), rtol=1e-6, atol=1e-6)
    assert torch.equal(tracked[:, 0], logits.gather(1, targets[:, None])[:, 0])
    assert predictor.forwards == 2 * 37 and predictor.chunk == {1: 1, 3: 2, 4: 4, 100: 32}[rows]
    assert predictor.halvings == {1: 5, 3: 4, 4: 3, 100: 0}[rows]


def test_a_single_row_that_does_not_fit_is_told_in_one_line():
    with pytest.raises(MemoryError, match="does not hold one forward pass of one input") as caught:
        Predictor(Small(0)).logits(torch.randn(9, 5))
    assert "\n" not in str(caught.value)
