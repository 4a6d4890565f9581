"""Each row of captum's is what captum gives, and each of its caveats still holds: a mended release is noticed."""

import captum.attr as captum
import numpy as np
import pytest
import torch
from captum.attr._utils.lrp_rules import GammaRule
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

import harness
from harness.registry import EXPLAINERS

ROWS = [name for name in EXPLAINERS if name.startswith("captum_")]
TARGETS = torch.tensor([0, 3, 1, 1])
THIRDS = (torch.arange(10) > 2).long().expand(10, 10)  # two segments of unequal size
pytestmark = pytest.mark.usefixtures("seed")


@pytest.fixture
def x(seed):
    return torch.randn(4, 3, 10, 10)


class Net(nn.Module):
    """A small CNN without Flatten, whose activation is a module, or a function that no hook sees."""

    def __init__(self, activation=None, function=None, pool=True):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.one, self.two = (activation(), activation()) if activation else (function, function)
        self.pool, self.out = nn.MaxPool2d(2) if pool else nn.AvgPool2d(2), nn.Linear(6 * 25, 4)

    def forward(self, x):
        return self.out(self.two(self.second(self.pool(self.one(self.first(x))))).flatten(1))


class Reusing(nn.Module):
    """One ReLU module that is called twice."""

    def __init__(self):
        super().__init__()
        self.first, self.relu, self.out = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Linear(6, 4)

    def forward(self, x):
        return self.out(self.relu(self.relu(self.first(x)) - 0.1).mean((2, 3)))


def net(activation=nn.ReLU, **options):
    return Net(activation, **options).eval()


def mlp(*layers):
    return nn.Sequential(nn.Linear(6, 16), *layers, nn.Linear(16, 4)).eval()


def explain(name, model, x, targets=TARGETS, **options):
    return harness.explain(name, model, x, targets, **options)


def apart(first, second):
    """The largest difference over the largest value."""
    return float((first - second).detach().abs().max() / torch.maximum(first.abs(), second.abs()).max().detach())


def sum_error(attributions, model, x, baseline):
    """|sum - (f(x) - f(baseline))| / |f(x) - f(baseline)|, the median over the samples."""
    with torch.no_grad():
        change = (model(x) - model(baseline)).gather(1, TARGETS[:, None])[:, 0]
    return float(((attributions.flatten(1).sum(1) - change) / change).abs().median())


def test_every_row_names_its_library_and_its_caveat_and_nobody_else_breaks_promises():
    assert ROWS and all(EXPLAINERS[name].source == "captum" and EXPLAINERS[name].caveat for name in ROWS)
    others = [entry for name, entry in EXPLAINERS.items() if name not in ROWS]
    assert not any(entry.caveat or entry.breaks for entry in others)
    assert {entry.name for entry in others if entry.source != "harness"} == {"tree_shap"}


SAME = {
    "captum_lrp": lambda model, x: captum.LRP(model).attribute(x, TARGETS),
    "captum_deep_lift": lambda model, x: captum.DeepLift(model).attribute(x, target=TARGETS),
    "captum_guided_backprop": lambda model, x: captum.GuidedBackprop(model).attribute(x, TARGETS),
    "captum_deconvnet": lambda model, x: captum.Deconvolution(model).attribute(x, TARGETS),
    "captum_guided_grad_cam": lambda model, x: captum.GuidedGradCam(model, model.two).attribute(x, TARGETS),
}


@pytest.mark.parametrize("name", SAME)
def test_a_row_without_draws_is_what_captum_gives(name, x):
    model = net()
    options = {"layer": "two"} if name == "captum_guided_grad_cam" else {}
    assert torch.equal(explain(name, model, x, **options), SAME[name](model, x.clone()).detach())


def test_a_row_leaves_no_rules_and_no_activations_on_the_model(x):
    model = net()
    explain("captum_lrp", model, x)
    assert not any(hasattr(part, name) for part in model.modules() for name in ("rule", "activations", "activation"))


def test_lrp_under_default_rules_still_is_input_x_gradient(x):
    model = net()
    assert apart(explain("captum_lrp", model, x), explain("input_x_gradient", model, x)) < 2e-4
    if "lrp" in EXPLAINERS:
        assert apart(explain("captum_lrp", model, x), explain("lrp", model, x)) > 0.01


def test_lrps_own_rules_still_vanish_with_the_first_call(x):
    model = net()
    for part in (model.first, model.second, model.out):
        part.rule = GammaRule()
    lrp, plain = captum.LRP(model), explain("input_x_gradient", net_like(model), x)
    first, second = lrp.attribute(x, TARGETS), lrp.attribute(x, TARGETS)
    assert apart(first, plain) > 1e-3 and apart(second, plain) < 2e-4


def net_like(model):
    """The same weights without whatever hangs on the modules."""
    twin = net()
    twin.load_state_dict(model.state_dict())
    return twin


def test_lrp_still_explodes_on_residual_nets_without_a_word():
    from torchvision.models import resnet18

    model, x = resnet18().eval(), torch.randn(1, 3, 32, 32)
    found = explain("captum_lrp", model, x, torch.tensor([7]))
    output = float(model(x)[0, 7].detach())
    assert abs(float(found.sum()) - output) > 100 * abs(output)


@pytest.mark.parametrize("part", [nn.Flatten, nn.Identity, nn.GELU, lambda: nn.LayerNorm(16)])
def test_lrp_still_has_no_rule_for_common_modules_which_is_not_applicable_in_one_line(part):
    model, x = mlp(part()), torch.randn(4, 6)
    with pytest.raises(TypeError, match="no rule defined"):
        captum.LRP(model).attribute(x, TARGETS)
    with pytest.raises(harness.NotApplicable, match="captum: Module of type .* has no rule defined") as reason:
        explain("captum_lrp", model, x)
    assert "\n" not in str(reason.value)


def pruned(part):
    return prune.l1_unstructured(part, "weight", amount=0.3)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("computed", [nn.utils.weight_norm, nn.utils.spectral_norm, pruned])
def test_weights_that_a_hook_computes_are_captums_to_explain(computed, x):
    """They belong to a graph, which Python refuses to copy."""
    model = net()
    for name in ("first", "second", "out"):
        setattr(model, name, computed(getattr(model, name)))
    model(x)
    found = explain("captum_lrp", model, x)
    assert apart(found, explain("input_x_gradient", model, x)) < 2e-4
    assert torch.equal(explain("captum_lrp", model, x), found)
    assert not any(hasattr(part, "rule") for part in model.modules())


@pytest.mark.parametrize("computed", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_lrp_still_has_no_rule_for_parametrizations_which_is_not_applicable_in_one_line(computed, x):
    model = net()
    model.first = computed(model.first)
    with pytest.raises(TypeError, match="no rule defined"):
        captum.LRP(model).attribute(x, TARGETS)
    with pytest.raises(harness.NotApplicable, match="captum: Module of type .*Norm.* has no rule defined"):
        explain("captum_lrp", model, x)


class Keeping(nn.Module):
    """A net that keeps the hidden numbers of its last call, with their graph."""

    def __init__(self):
        super().__init__()
        self.inner, self.kept = mlp(nn.ReLU()), []

    def forward(self, x):
        self.kept = [self.inner[:2](x)]
        return self.inner[2](self.kept[0])


def test_a_model_that_keeps_what_it_computed_is_copied_for_captum():
    model, x = Keeping().eval(), torch.randn(4, 6)
    model(x)
    assert model.kept[0].requires_grad
    full = explain("captum_lrp", model, x)
    model.half()(x.half())
    assert apart(explain("captum_lrp", model, x.half()), full) < 0.01
    assert explain("captum_deep_lift", model, x.half()).isfinite().all()


def test_deep_lift_is_still_incomplete_where_a_relu_meets_a_max_pool(x):
    baseline = torch.randn(3, 10, 10)
    errors = {}
    for pool in (True, False):
        model = net(pool=pool)
        found = explain("captum_deep_lift", model, x, baseline=baseline)
        errors[pool] = sum_error(found, model, x, baseline.expand_as(x))
    assert errors[True] > 0.01 and errors[False] < 1e-3


def test_deep_lift_still_refuses_a_module_used_twice_which_is_not_applicable_in_one_line(x):
    model = Reusing().eval()
    with pytest.raises(RuntimeError, match="used more than once"):
        captum.DeepLift(model).attribute(x, target=TARGETS)
    with pytest.raises(harness.NotApplicable, match="captum: A Module ReLU") as reason:
        explain("captum_deep_lift", model, x)
    assert "\n" not in str(reason.value)


def test_deep_lift_still_is_input_x_gradient_for_what_it_has_no_hook_for(x):
    functional, table = Net(function=F.relu, pool=False).eval(), torch.randn(4, 6)
    assert apart(explain("captum_deep_lift", functional, x), explain("input_x_gradient", functional, x)) < 1e-5
    for part in (nn.GELU(), nn.ReLU6(), nn.LayerNorm(16)):
        model = mlp(part)
        assert apart(explain("captum_deep_lift", model, table), explain("input_x_gradient", model, table)) < 1e-5


def test_deep_lift_still_mixes_the_batch_at_a_final_softmax():
    model, x = nn.Sequential(*mlp(nn.ReLU()), nn.Softmax(1)).eval(), torch.randn(4, 6)
    together = explain("captum_deep_lift", model, x, task="probabilities")
    assert apart(explain("captum_deep_lift", model, x[:1], TARGETS[:1], task="probabilities"), together[:1]) > 0.01


@pytest.mark.parametrize("name", ["captum_guided_backprop", "captum_deconvnet"])
@pytest.mark.parametrize("nonlinearity", ["relu as a function", nn.ReLU6, nn.GELU, nn.ReLU])
def test_guided_backprop_and_deconvnet_still_give_the_gradient_but_for_relu_modules(name, nonlinearity, x):
    model = Net(function=F.relu).eval() if isinstance(nonlinearity, str) else net(nonlinearity)
    difference = apart(explain(name, model, x), explain("gradient", model, x))
    assert difference > 0.01 if nonlinearity is nn.ReLU else difference < 1e-5


def test_lime_still_gives_zeros_where_the_outputs_are_small():
    model, x = mlp(nn.Tanh()), torch.randn(4, 6) * 0.05
    assert explain("captum_lime", model, x).abs().max() == 0
    assert explain("captum_lime", model, 50 * x).abs().max() > 0


def test_kernel_shap_still_paints_a_segments_value_on_each_of_its_units(x):
    model = net()
    found = explain("captum_kernel_shap", model, x, segments=THIRDS, samples=30)
    values = found[:, 0, 0, [0, -1]].sum(1)
    with torch.no_grad():
        change = (model(x) - model(torch.zeros_like(x))).gather(1, TARGETS[:, None])[:, 0]
    torch.testing.assert_close(values, change, rtol=1e-3, atol=1e-4)
    assert (found == found[:, :1, :1, :1]).all(1)[:, :, :3].all()
    assert sum_error(found, model, x, torch.zeros_like(x)) > 1


def test_gradient_shap_still_draws_from_numpy_too(x):
    model, baseline = net(), torch.zeros(1, 3, 10, 10)

    def drawn(numpy_seed):
        torch.manual_seed(1), np.random.seed(numpy_seed)
        return captum.GradientShap(model).attribute(x, baseline, target=TARGETS)

    state = np.random.get_state()
    assert torch.equal(drawn(1), drawn(1)) and apart(drawn(1), drawn(2)) > 1e-4
    np.random.set_state(state)


@pytest.mark.parametrize("name", [name for name in ROWS if "company" in EXPLAINERS[name].breaks])
def test_a_row_that_draws_repeats_under_one_seed_and_still_depends_on_its_batch(name, x):
    model, options = net(), {"segments": THIRDS, "samples": 8} if "segments" in EXPLAINERS[name].options else {}
    x = x * 20  # so that lime has something to say
    together = explain(name, model, x, **options)
    assert torch.equal(explain(name, model, x, **options), together)
    alone = torch.cat([explain(name, model, x[i : i + 1], TARGETS[i : i + 1], **options) for i in range(4)])
    assert apart(alone, together) > 1e-3


def test_guided_grad_cam_still_gives_nothing_on_a_transformer_which_is_not_applicable():
    import timm

    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2).eval()
    x, layer = torch.randn(4, 3, 32, 32), "blocks.1.norm1"
    assert captum.GuidedGradCam(model, model.get_submodule(layer)).attribute(x, TARGETS).shape == (0,)
    with pytest.raises(harness.NotApplicable):
        explain("captum_guided_grad_cam", model, x, layer=layer)


class Failing(nn.Module):
    """A net that works for single inputs, and raises at a batch."""

    def __init__(self, error):
        super().__init__()
        self.inner, self.error = mlp(nn.ReLU()), error

    def forward(self, x):
        if len(x) > 1:
            raise self.error
        return self.inner(x)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("out"), RuntimeError("own"), TypeError("own")])
@pytest.mark.parametrize("name", ["captum_lrp", "captum_deep_lift", "captum_guided_backprop", "captum_gradient_shap"])
def test_an_error_of_torch_or_of_the_model_is_a_failure_and_not_a_refusal(name, error):
    with pytest.raises(type(error), match=str(error)):
        explain(name, Failing(error).eval(), torch.randn(4, 6))


@pytest.mark.parametrize("name", [name for name in ROWS if name not in ("captum_guided_grad_cam",)])
def test_a_single_output_needs_no_class(name):
    model, x = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)).eval(), 20 * torch.randn(3, 6)
    assert explain(name, model, x, torch.zeros(3, dtype=torch.long)).abs().max() > 0


@pytest.mark.parametrize("name", ["captum_lime", "captum_kernel_shap", "captum_gradient_shap"])
def test_a_number_of_samples_below_one_is_told_in_one_line(name):
    with pytest.raises(ValueError, match="samples (of .* )?is 0"):
        explain(name, mlp(nn.ReLU()), torch.randn(4, 6), samples=0)
