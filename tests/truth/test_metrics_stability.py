"""Relative stability of explainers whose relative change is known; what counts as hidden, and as the same class."""

import numpy as np
import pytest
import torch
from torch import nn

from harness.api import make_batch
from harness.errors import NotApplicable, UserError
from harness.metrics._representation import representation
from metric_worlds import SHAPES, Additive, Constant, Interacting, draw, explaining, generator, gradient, on, samples

pytestmark = pytest.mark.usefixtures("seed")
INPUT, OUTPUT, HIDDEN = (f"relative_{what}_stability" for what in ("input", "output", "representation"))
STABILITY = (INPUT, OUTPUT, HIDDEN)
RANGE = {"value_range": (-2.0, 2.0)}


def stability(metric, model, inputs, function, *, options=None, chunk=32, **more):
    found = samples(model, inputs, chunk=chunk, **{**RANGE, **more})
    by = explaining(function, model)
    return on(metric, make_batch(found, by(found), by), **{"draws": 8, **(options or {})})


def itself(model, inputs, targets):
    return inputs


def ones(values):
    torch.testing.assert_close(values, torch.ones_like(values), rtol=1e-5, atol=0)


class Recording:
    """Gradients, and the inputs they were asked for after the first time, which is for the maps to be scored."""

    def __init__(self):
        self.seen = []

    def __call__(self, model, inputs, targets):
        self.seen.append(inputs.detach().clone())
        return gradient(model, inputs, targets)

    def perturbed(self, count, draws):
        return torch.cat(self.seen[1:]).unflatten(0, (count, draws))


@pytest.mark.parametrize("options", [{}, {"floor": 0.0}, {"floor": 0.5}, {"distribution": "uniform"}], ids=str)
@pytest.mark.parametrize("kind", SHAPES)
def test_an_explainer_that_returns_its_input_is_as_stable_as_the_input(kind, options, seed):
    if kind == "table":  # where the floor of the map is that of a row, and the floor of the input that of a column
        options = {**options, "floor": 0.0}
    ones(stability(INPUT, Interacting(SHAPES[kind]), draw(SHAPES[kind], seed), itself, options=options).values)


@pytest.mark.parametrize("radius", [0.02, 1e-5])
def test_on_a_linear_model_contributions_are_as_stable_as_the_input(radius, seed):
    model, inputs = Additive((3, 6, 5), generator=generator(seed)).requires_grad_(False), draw((3, 6, 5), seed)
    multiplied = lambda m, x, t: (x.double() * m.w).float()
    found = stability(INPUT, model, inputs, multiplied, options={"floor": 0.0, "radius": radius}).values
    # Divided by its own element, a weight cancels; single precision rounds inputs and products alike.
    torch.testing.assert_close(found, torch.ones(3).double(), rtol=1e-3 if radius < 0.01 else 1e-5, atol=0)


def test_an_explainer_that_returns_the_hidden_layer_is_as_stable_as_the_layer(seed):
    net = nn.Sequential(nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, 3)).eval()
    inputs = draw((7,), seed)
    for place, layer in ((4, None), (1, "0"), (2, "1"), (3, "2")):  # None is what the last linear layer is given
        hidden = lambda model, x, targets, place=place: model[:place](x)
        ones(stability(HIDDEN, net, inputs, hidden, options={"layer": layer}).values)
        ones(stability(HIDDEN, net, inputs, hidden, options={"layer": layer, "floor": 0.0}).values)
    other = stability(HIDDEN, net, inputs, hidden, options={"layer": "0"}).values
    assert ((other - 1).abs() > 1e-3).all()


@pytest.mark.parametrize("metric", [INPUT, HIDDEN])
def test_of_a_single_linear_layer_the_representation_is_the_input(metric, seed):
    net, inputs = nn.Sequential(nn.Flatten(), nn.Linear(30, 3)).eval(), draw((1, 6, 5), seed)
    ones(stability(metric, net, inputs, itself).values)


def test_in_one_dimension_the_stability_towards_the_output_has_a_closed_form(seed):
    model, inputs = Additive((1,), generator=generator(seed)).requires_grad_(False), draw((1,), seed, 5)
    model.b = 10 * inputs.abs().max() * model.w.abs()  # far from where the class changes
    options = {"floor": 0.0, "radius": 0.001}
    found = stability(OUTPUT, model, inputs, itself, options=options).values
    expected = 1 / (model.w * inputs).abs()[:, 0].double()  # |(x' - x) / x| / |w (x' - x)|
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=0)  # outputs near b hold few digits of a small change


def floored(values, floor, eps, usual=None):
    sizes, usual = np.abs(values), np.sqrt(np.mean(values**2)) if usual is None else usual
    return np.maximum(sizes, floor * usual) if floor else np.where(sizes == 0, eps, sizes)


def in_a_loop(metric, model, x, near, floor, eps, usual=None):
    """The definition, written out for one sample x (1, ...) and its neighbours (draws, ...)."""
    targets = torch.zeros(1, dtype=torch.long)

    def of(point):
        hidden = torch.tanh(model.first(point.double().flatten(1)))
        parts = gradient(model, point.clone(), targets), point, model(point), hidden
        return [part.detach().double().numpy().ravel() for part in parts]

    (a, x, h, hidden), ratios = of(x), []
    for point in near:
        a_near, x_near, h_near, hidden_near = of(point[None])
        if h.argmax() == h_near.argmax():
            moved = {
                INPUT: (x_near - x) / floored(x, floor, eps, usual),
                OUTPUT: h_near - h,
                HIDDEN: (hidden_near - hidden) / floored(hidden, floor, eps),
            }[metric]
            change = np.linalg.norm((a_near - a) / floored(a, floor, eps))
            ratios.append(change / max(np.linalg.norm(moved), eps))
    return max(ratios, default=np.nan), len(ratios) / len(near)


@pytest.mark.parametrize(
    "options", [{}, {"floor": 0.0}, {"floor": 0.3, "eps": 2.0, "distribution": "uniform"}], ids=str
)
@pytest.mark.parametrize("metric", STABILITY)
@pytest.mark.parametrize("kind", SHAPES)
def test_the_score_equals_a_loop_over_neighbours_of_the_same_class(kind, metric, options, seed):
    model, inputs, recording = Interacting(SHAPES[kind], generator(seed)), draw(SHAPES[kind], seed, 6), Recording()
    found = stability(metric, model, inputs, recording, options={"radius": 0.15, **options})
    near = recording.perturbed(6, 8)
    floor, eps = options.get("floor", 0.01), options.get("eps", 1e-6)
    usual = 2.0 if kind == "table" else None  # the larger bound of RANGE
    expected = [in_a_loop(metric, model, inputs[i : i + 1], near[i], floor, eps, usual) for i in range(6)]
    values, kept = torch.tensor(expected, dtype=torch.float64).unbind(1)
    torch.testing.assert_close(found.values, values, rtol=1e-4, atol=0, equal_nan=True)
    torch.testing.assert_close(found.curves[:, 0], kept)
    with torch.no_grad():
        before, after = model(inputs).double(), model(near.flatten(0, 1)).double().unflatten(0, (6, 8))
    change = (after - before[:, None]).norm(dim=2) / before.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found.curves[:, 1], change.mean(1), rtol=1e-5, atol=0)


class Fragile(nn.Module):
    """Class 0 for the inputs it knows, and for all others class 1 where their first number is above a threshold."""

    def __init__(self, known, threshold):
        super().__init__()
        self.known, self.threshold, self.last = known, threshold, nn.Linear(2, 2)
        with torch.no_grad():
            self.last.weight.copy_(torch.eye(2))
            self.last.bias.zero_()

    def forward(self, x):
        known = (x.flatten(1)[:, None] == self.known.flatten(1)[None]).all(2).any(1)
        other = ~known & (x.flatten(1)[:, 0] > self.threshold)
        return self.last(torch.stack([1 + ~other, 1 + other], 1).float() + 0.01 * x.flatten(1).sum(1, keepdim=True))


@pytest.mark.parametrize("metric", STABILITY)
def test_draws_that_change_the_class_are_left_out_and_without_others_there_is_no_score(metric, seed):
    inputs = draw((6,), seed)
    model = Fragile(inputs, inputs[0, 0].item())
    alike = lambda m, x, t: torch.where((x[:, :1] > inputs[0, 0]), 1000.0, x)
    inputs[1, 0], inputs[2, 0] = inputs[0, 0] + 100, inputs[0, 0] - 100
    found = stability(metric, model, inputs, alike, options={"draws": 60}, value_range=(-2.0, 2.0))
    assert found.values.isnan().tolist() == [False, True, False] and "keeps the model's class" in found.reason
    assert found.curves[1:, 0].tolist() == [0, 1] and 0 < found.curves[0, 0] < 1
    lower = stability(metric, model, inputs[:1], itself, options={"draws": 60})
    assert found.values[0] < 1.5 * lower.values[0]  # the jump lies where the class is another


@pytest.mark.parametrize("metric", STABILITY)
def test_a_zero_map_has_no_relative_change(metric, seed):
    inputs, options = draw((1, 6, 5), seed), {"floor": 0.0}
    for given in ({}, options):
        found = stability(metric, Interacting((1, 6, 5)), inputs, lambda m, x, t: torch.zeros_like(x), options=given)
        assert found.values.isnan().all() and "0 throughout" in found.reason


def test_of_an_input_of_zeros_only_the_relative_change_is_undefined(seed):
    model, inputs = Interacting((7,), generator(seed)), draw((7,), seed)
    inputs[1] = 0
    with torch.no_grad():
        model.first.bias.zero_()  # so that the hidden layer is 0 as well
    for metric, undefined in ((INPUT, True), (OUTPUT, False), (HIDDEN, True)):
        found = stability(metric, model, inputs, gradient)
        assert found.values.isnan().tolist() == [False, undefined, False] and bool(found.reason) == undefined


@pytest.mark.parametrize("metric", STABILITY)
def test_an_explanation_that_stays_scores_0_which_has_no_logarithm(metric, seed):
    model, inputs = Interacting((1, 6, 5), generator(seed)), draw((1, 6, 5), seed)
    still = lambda m, x, t: torch.ones_like(x)
    assert stability(metric, model, inputs, still, options={"radius": 1e-4}).values.tolist() == [0, 0, 0]
    found = stability(metric, model, inputs, still, options={"radius": 1e-4, "log10": True})
    assert found.values.isnan().all() and "logarithm" in found.reason
    plain, logarithm = (
        stability(metric, model, inputs, gradient, options={"radius": 1e-4, "log10": log10}).values
        for log10 in (False, True)
    )
    torch.testing.assert_close(10**logarithm, plain)


def test_a_model_that_answers_the_same_divides_by_eps(seed):
    inputs = draw((1, 6, 5), seed)
    one, other = (stability(OUTPUT, Constant(), inputs, itself, options={"eps": eps}).values for eps in (1e-6, 1e-3))
    torch.testing.assert_close(one, 1000 * other)


def test_elements_that_are_0_count_as_eps_where_nothing_is_floored(seed):
    model, inputs = Interacting((7,), generator(seed)), draw((7,), seed)

    def woken(model, x, targets):
        """1 to its first element where the input is another than those known, else 0; the rest stays."""
        known = (x[:, None] == inputs[None]).all(2).any(1)
        return torch.cat([(~known).float()[:, None], torch.ones_like(x[:, 1:])], 1)

    given = {"floor": 0.0, "radius": 1e-3}
    found = [stability(OUTPUT, model, inputs, woken, options={**given, "eps": eps}).values for eps in (1e-6, 1e-5)]
    torch.testing.assert_close(found[0], 10 * found[1], rtol=1e-6, atol=0)
    share = stability(OUTPUT, model, inputs, woken, options={**given, "floor": 0.5}).values
    torch.testing.assert_close(found[0] * 1e-6, share * 0.5 * (6 / 7) ** 0.5, rtol=1e-6, atol=0)  # of the map's rms


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("metric", STABILITY)
def test_outputs_that_are_not_finite_leave_no_score(metric, value, seed):
    class Broken(Interacting):
        def forward(self, x):
            outputs = super().forward(x)
            return outputs + torch.where((x.flatten(1)[:, :1] > 100), value, 0.0)

    inputs = draw((7,), seed)
    inputs[1, 0] = 200
    found = stability(metric, Broken((7,), generator(seed)), inputs, itself)
    assert found.values.isnan().tolist() == [False, True, False] and "not finite" in found.reason


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("metric", STABILITY)
def test_one_draw_of_outputs_that_are_not_numbers_leaves_no_score_whichever_class_is_kept(metric, kept, seed):
    class Sometimes(Interacting):
        """NaN above a threshold of the first number, which some draws pass."""

        def forward(self, x):
            outputs = super().forward(x) + 9.0 * (torch.arange(3) == kept)
            return outputs + torch.where(x.flatten(1)[:, :1] > 0.05, float("nan"), 0.0)

    inputs = draw((7,), seed)
    inputs[:, 0] = torch.tensor([0.0, -9.0, 0.0])
    found = stability(metric, Sometimes((7,), generator(seed)), inputs, itself, options={"draws": 20})
    assert found.values.isnan().tolist() == [True, False, True] and "not finite" in found.reason
    assert found.curves[:, 0].isnan().tolist() == [True, False, True] and found.curves[1, 0] == 1


class Tokens(nn.Module):
    """Torch's encoder, whose fused path hides its modules from hooks that are not there when it decides."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(4, 3)
        self.unused, self.place = nn.Linear(4, 4), nn.Parameter(torch.randn(5, 4))

    def forward(self, tokens):
        return self.head(self.encoder(tokens + self.place).mean(1))


@pytest.mark.parametrize("layer", [None, "encoder", "encoder.layers.0", "encoder.layers.1.linear1", "head"])
def test_any_layer_of_a_transformer_can_be_the_representation(layer, seed):
    model, inputs = Tokens().eval(), draw((5, 4), seed)
    assert stability(HIDDEN, model, inputs, gradient, options={"layer": layer}).values.isfinite().all()
    width = {None: 4, "encoder": 20, "encoder.layers.0": 20, "encoder.layers.1.linear1": 40, "head": 3}[layer]
    hidden = representation(samples(model, inputs), layer).model_outputs()
    assert hidden.shape == (3, width)
    if layer in (None, "encoder"):
        with torch.no_grad():
            encoded = model.encoder(inputs + model.place)
        expected = encoded.mean(1) if layer is None else encoded.flatten(1)
        torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-5)


def test_what_follows_a_layer_in_place_does_not_change_its_representation(seed):
    net, inputs = nn.Sequential(nn.Linear(7, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)).eval(), draw((7,), seed)
    with torch.no_grad():
        torch.testing.assert_close(representation(samples(net, inputs), "0").model_outputs(), net[0](inputs))


def test_layers_that_do_not_exist_or_do_not_serve_are_told(seed):
    model, inputs = Tokens().eval(), draw((5, 4), seed)
    with pytest.raises(UserError, match="did you mean 'encoder'"):
        stability(HIDDEN, model, inputs, gradient, options={"layer": "encodr"})
    with pytest.raises(NotApplicable, match="not called"):
        stability(HIDDEN, model, inputs, gradient, options={"layer": "unused"})
    with pytest.raises(NotApplicable, match="no module with weights"):
        stability(HIDDEN, Additive((7,)), draw((7,), seed), gradient)
    recurrent = nn.Sequential(nn.LSTM(4, 3, batch_first=True), Last(), nn.Linear(3, 2)).eval()
    assert stability(HIDDEN, recurrent, inputs, gradient).values.isfinite().all()
    with pytest.raises(NotApplicable, match="gives tuple"):
        stability(HIDDEN, recurrent, inputs, gradient, options={"layer": "0"})


class Last(nn.Module):
    """The last step's output of a recurrent layer."""

    def forward(self, found):
        return found[0][:, -1]


@pytest.mark.parametrize("metric", STABILITY)
def test_a_sample_alone_scores_as_in_company_and_in_chunks(metric, seed):
    model, inputs = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed, 4)
    whole = stability(metric, model, inputs, gradient)
    for rows, chunk in (([2], 3), ([3, 0], 1)):
        part = stability(metric, model, inputs[rows], gradient, chunk=chunk)
        torch.testing.assert_close(part.values, whole.values[rows], rtol=1e-4, atol=0, equal_nan=True)
        torch.testing.assert_close(part.curves, whole.curves[rows], rtol=1e-5, atol=1e-9)


def test_the_three_explain_again_only_once_and_share_their_passes_with_other_explainers(seed):
    model, inputs, recording = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed), Recording()
    found = samples(model, inputs, **RANGE)
    by, passes = explaining(recording, model), []
    model.first.register_forward_hook(lambda *_: passes.append(1))
    for explainer in (1, 2):
        batch = make_batch(found, gradient(model, inputs.clone(), found.targets), by)
        for metric in (*STABILITY, "local_lipschitz"):
            on(metric, batch, draws=8)
        assert sum(map(len, recording.seen)) == 24 * explainer and found.predictor.forwards == 3 * 9
    on(HIDDEN, batch, draws=8, layer="first")
    assert sum(map(len, recording.seen)) == 48 and found.predictor.forwards == 3 * 9
    before = len(passes)
    on(HIDDEN, batch, draws=8, log10=True)
    assert len(passes) == before


@pytest.mark.parametrize("metric", STABILITY)
def test_attributions_without_an_explainer_cannot_be_made_again(metric):
    with pytest.raises(NotApplicable):
        on(metric, make_batch(samples(Interacting((4,)), draw((4,), 0)), draw((4,), 1), None))


@pytest.mark.parametrize("metric", STABILITY)
def test_explanations_that_are_infinite_under_noise_have_no_score(metric, seed):
    inputs = draw((7,), seed)
    broken = lambda m, x, t: x if any(torch.equal(x[0], own) for own in inputs) else x / 0
    found = stability(metric, Interacting((7,)), inputs, broken, options={"radius": 1e-3})
    assert found.values.isnan().all() and "not finite" in found.reason
