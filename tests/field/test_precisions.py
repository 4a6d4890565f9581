"""Models in half precision, in double precision and with quantised weights are explained like any other."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import harness
from budgets import small
from harness.errors import NotApplicable, UserError
from harness.registry import EXPLAINERS
from small_nets import few_steps, inputs_of, small_net

TARGETS = torch.tensor([0, 1])
TRAIN = torch.rand(6, 2, 12, 12, generator=torch.Generator().manual_seed(2))
# Share of the largest value by which a map may differ from that of the same model in float32.
ALLOWED = {torch.float64: 1e-4, torch.bfloat16: 0.2, torch.float16: 0.03}
# Without a meaning for images or this net, or with draws that a rounded input changes.
LEFT_OUT = ("precomputed", "oracle", "tcav", "random", "blurred_random")
LOCAL = [
    name
    for name, entry in EXPLAINERS.items()
    if entry.scope == "local" and "image" in entry.modalities and name not in LEFT_OUT
]
DRAWN = [name for name in LOCAL if EXPLAINERS[name].stochastic]
ROBUSTNESS = (
    "max_sensitivity",
    "local_lipschitz",
    "relative_input_stability",
    "relative_output_stability",
    "relative_representation_stability",
    "smooth_parameter_randomization",
    "efficient_parameter_randomization",
    "infidelity",
    "input_invariance",
)


def explained(name, rounded, dtype):
    """A map of a net whose weights and inputs are rounded to one precision and then computed with in another."""
    net = small_net("image")
    with torch.no_grad():
        net[-1].weight.mul_(20)  # so that the logits' changes are large compared with their rounding
    given = [each.to(rounded).to(dtype) for each in (inputs_of("image"), TRAIN)]
    # To zero: the drops to a mean are small beside the rounding of the outputs.
    removed = {"baseline": "zero"} if name == "feature_ablation" else {}
    removed |= {"segments": "grid:3"} if name == "xrai" else {}
    removed |= few_steps(name)  # after hundreds of them masks have decided between equals by their rounding
    return harness.explain(name, net.to(rounded).to(dtype), given[0], TARGETS, train=given[1], **removed)


@pytest.mark.parametrize("dtype", ALLOWED, ids=str)
@pytest.mark.parametrize("name", LOCAL)
def test_a_map_is_that_of_the_model_in_float32_up_to_rounding(name, dtype):
    try:
        expected = explained(name, dtype, torch.float32)
    except NotApplicable as reason:
        with pytest.raises(NotApplicable) as refused:
            explained(name, dtype, dtype)
        assert str(refused.value) == str(reason)
        return
    found = explained(name, dtype, dtype)
    assert found.dtype == torch.float32 and found.isfinite().all() and found.shape == expected.shape
    if name not in DRAWN:
        assert float((found - expected).abs().max()) <= ALLOWED[dtype] * float(expected.abs().max())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["smoothgrad", "integrated_gradients", "expected_gradients", "idgi"])
def test_sums_of_many_gradients_are_as_exact_as_one_gradient(name, dtype):
    """Of a linear model all gradients are the same: a sum in half precision would lose a part of each."""
    net = nn.Linear(6, 3, bias=False).eval().to(dtype)
    x, train = torch.rand(2, 6).to(dtype), torch.zeros(3, 6).to(dtype)
    found = harness.explain(name, net, x, TARGETS, train=train)
    weight = net.weight.detach()[TARGETS].float()
    step = torch.finfo(dtype).eps
    if name == "idgi":
        expected = weight**2 / (weight**2).sum(1, keepdim=True) * net(x).gather(1, TARGETS[:, None]).detach().float()
        assert torch.allclose(found, expected, rtol=20 * step, atol=1e-3)
    elif name == "smoothgrad":
        assert torch.allclose(found, weight, rtol=1e-6)
    else:
        assert torch.allclose(found, weight * x.float(), rtol=2 * step, atol=1e-6)


@pytest.mark.parametrize("dtype", ALLOWED, ids=str)
def test_metrics_that_add_noise_keep_the_precision_of_the_inputs(dtype):
    data = harness.Data(
        inputs_of("image").to(dtype),
        TARGETS,
        masks=torch.rand(2, 12, 12) > 0.5,
        train=TRAIN.to(dtype),
        value_range=(0, 1),
    )
    metrics = [*ROBUSTNESS, "deletion", "srg", "aopc"]
    frame = harness.evaluate(small_net("image").to(dtype), data, explainers=["gradient"], metrics=metrics)
    bad = frame[(frame.status == "failed") & ~frame.error.str.contains("FloatingPointError")]
    assert bad.empty, bad[["metric", "error"]].drop_duplicates().to_string()


@pytest.mark.parametrize(
    ("of_model", "of_inputs"),
    [
        (torch.float32, torch.float64),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float16),
        (torch.float64, torch.float32),
    ],
)
def test_inputs_of_another_precision_than_the_weights_are_refused_with_both_and_what_to_type(of_model, of_inputs):
    net, x = small_net("image").to(of_model), inputs_of("image").to(of_inputs)
    for call in (
        lambda: harness.explain("saliency", net, x, TARGETS),
        lambda: harness.evaluate(net, x, TARGETS, explainers="saliency", metrics="deletion"),
    ):
        with pytest.raises(UserError) as refused:
            call()
        own, came = (str(dtype).removeprefix("torch.") for dtype in (of_model, of_inputs))
        said = str(refused.value)
        assert f"inputs.to(torch.{own})" in said and f"model.to(torch.{came})" in said and "\n" not in said


def test_a_model_that_converts_its_inputs_takes_any_precision():
    class Converting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_net("image").to(torch.bfloat16)

        def forward(self, x):
            return self.net(x.to(torch.bfloat16)).float()

    assert harness.explain("saliency", Converting().eval(), inputs_of("image"), TARGETS).isfinite().all()


def dynamic():
    """Linear layers with int8 weights."""
    return torch.ao.quantization.quantize_dynamic(small_net("image"), {nn.Linear}, dtype=torch.qint8)


def static():
    """Convolutions and linear layers that compute with int8 numbers."""

    class Stubs(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()
            self.conv, self.relu, self.linear = nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Linear(400, 3)

        def forward(self, x):
            return self.last(self.linear(self.relu(self.conv(self.first(x))).flatten(1)))

    net = Stubs().eval()
    net.qconfig = torch.ao.quantization.get_default_qconfig(torch.backends.quantized.engine)
    torch.ao.quantization.prepare(net, inplace=True)
    net(inputs_of("image", 8))
    return torch.ao.quantization.convert(net, inplace=True)


def observed():
    """A net that is being prepared for int8: observers change their buffers at every call."""
    net = small_net("image")
    net.qconfig = torch.ao.quantization.get_default_qat_qconfig(torch.backends.quantized.engine)
    torch.ao.quantization.prepare_qat(net.train(), inplace=True)
    net(inputs_of("image", 8))
    return net.eval()


class HeldAsIntegers(nn.Module):
    """Weights in int8 and a scale for each output, multiplied in the inputs' precision."""

    def __init__(self):
        super().__init__()
        weight = torch.randint(-100, 100, (3, 288), dtype=torch.int8)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("scale", torch.rand(3))

    def forward(self, x):
        return (x.flatten(1) @ self.weight.to(x.dtype).T) * self.scale


QUANTISED = {"dynamic": dynamic, "static": static, "observed": observed, "int8": lambda: HeldAsIntegers().eval()}
BY_FORWARD = [name for name in LOCAL if EXPLAINERS[name].access == "forward"]


@pytest.mark.parametrize("kind", QUANTISED)
def test_a_quantised_model_is_explained_by_its_outputs_and_else_refused_in_one_line(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that it will move these functions
        served = []
        for name in LOCAL:
            net = QUANTISED[kind]()  # a new one for each: observers move with every input that an explainer makes
            try:
                found = harness.explain(
                    name, net, inputs_of("image"), TARGETS, train=TRAIN, **small(EXPLAINERS[name], samples=100)
                )
            except NotApplicable as reason:
                assert "\n" not in str(reason), name
            else:
                assert found.isfinite().all(), name
                served.append(name)
    assert set(BY_FORWARD) <= set(served)
    assert ("gradient" in served) == (kind in ("observed", "int8"))


def test_an_array_of_doubles_stays_one_for_a_model_of_doubles():
    rows = np.random.default_rng(0).normal(size=(4, 3))
    net = torch.nn.Linear(3, 2).double().eval()
    found = harness.explain("gradient", net, rows, [0, 1, 1, 0])
    assert torch.allclose(found.double(), net.weight[[0, 1, 1, 0]], atol=1e-6)
