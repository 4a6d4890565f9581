"""DeepLift worked out by hand, its sum on every kind of operation, and where it does not apply."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import harness
from axes import told
from explainer_worlds import linear_net, model, near, small_cnn
from harness.api import samples_of
from harness.engine.explain import Explaining
from harness.facts import Facts
from harness.predictor import Predictor
from harness.registry import EXPLAINERS

TARGETS = torch.tensor([1, 0, 2])


def explained(name, net, x, targets, train=None, **options):
    """Attributions and the facts told."""
    entry, samples = EXPLAINERS[name], samples_of(net, told(x, targets), train=train)
    samples.facts = Facts()
    return Explaining(entry, entry.complete(options), net)(samples), samples.facts.summary()


def change(net, x, targets, baseline):
    """f(x) - f(baseline) of the targets' logits."""
    with torch.no_grad():
        return (net(x) - net(baseline.expand_as(x).clone())).gather(1, targets[:, None])[:, 0]


def adds_up(net, x, targets, baseline):
    """Whether the sums are f(x) - f(r), up to rounding: of the logits and the maps, or far less in doubles."""
    maps, facts = explained("deep_lift", net, x, targets, baseline=baseline)
    assert maps.abs().max() > 0
    if x.dtype == torch.float64:  # told before the maps become float32
        return facts["completeness_error"]["max"] < 1e-7
    with torch.no_grad():
        rounding = 1e-5 * net(x).abs().max() + 1e-6 * maps.flatten(1).abs().sum(1).max()
    sums = maps.flatten(1).double().sum(1)
    return near(sums, change(net, x, targets, baseline), 1e-5, float(rounding))


def test_one_hidden_unit_worked_out_by_hand():
    net = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1)).eval()
    net[0].weight.data, net[0].bias.data = torch.tensor([[2.0, -1.0]]), torch.tensor([-1.0])
    net[2].weight.data, net[2].bias.data = torch.tensor([[3.0]]), torch.tensor([5.0])
    x, r, target = torch.tensor([[2.0, 1.0]]), torch.tensor([1.0, 4.0]), torch.tensor([0])
    # z goes from 2 - 4 - 1 = -3 to 4 - 1 - 1 = 2, the ReLU from 0 to 2: slope 2 / 5; dx = (1, -3)
    expected = torch.tensor([[3 * 0.4 * 2 * 1, 3 * 0.4 * -1 * -3]])
    assert near(harness.explain("deep_lift", net, x, target, baseline=r), expected)
    assert float(expected.sum()) == pytest.approx(6)


def test_a_maximum_that_moves_is_carried_by_the_larger_of_the_two():
    net = nn.Sequential(nn.MaxPool1d(2), nn.Flatten()).eval()
    x, r = torch.tensor([[[1.0, 5.0, 4.0, 0.0]]]), torch.tensor([[3.0, 2.0, 7.0, 2.0]])
    found = [harness.explain("deep_lift", net, told(x, torch.tensor([c])), baseline=r) for c in (0, 1)]
    assert near(found[0], torch.tensor([[[0.0, 2.0, 0.0, 0.0]]])), "from 3 to 5: the 5 was 2"
    assert near(found[1], torch.tensor([[[0.0, 0.0, -3.0, 0.0]]])), "from 7 to 4, at one place"


def test_a_product_is_shared_and_a_quotient_is_a_products_inverse():
    x, r, target = torch.tensor([[3.0, 2.0]]), torch.tensor([1.0, 4.0]), torch.tensor([0])
    product = model(lambda z: z[:, :1] * z[:, 1:])
    assert near(harness.explain("deep_lift", product, x, target, baseline=r), torch.tensor([[2 * 3.0, -2 * 2.0]]))
    quotient = model(lambda z: z[:, :1] / z[:, 1:])
    mean = (3 / 2 + 1 / 4) / 2
    expected = torch.tensor([[2 / 3, 2 * mean / 3]])
    assert near(harness.explain("deep_lift", quotient, x, target, baseline=r), expected)
    inverse = model(lambda z: 1 / z[:, 1:])
    expected = torch.tensor([[0, 1 / 2 - 1 / 4]])
    assert near(harness.explain("deep_lift", inverse, x, target, baseline=r), expected)


def chain(parts, x, r, targets):
    """DeepLift of a sequence of linear layers and elementwise functions by matrices, one sample at a time."""
    rows = []
    for one, target in zip(x.double(), targets, strict=True):
        multiplier, a, b = torch.eye(len(one), dtype=torch.float64), one, r.double()
        for part in parts:
            if isinstance(part, nn.Linear):
                step, bias = part.weight.detach().double(), part.bias.detach().double()
                a, b = step @ a + bias, step @ b + bias
            else:
                step = torch.diag((part(a) - part(b)) / (a - b))
                a, b = part(a), part(b)
            multiplier = step @ multiplier
        rows.append(multiplier[target] * (one - r))
    return torch.stack(rows)


@pytest.mark.parametrize("activation", [torch.relu, F.relu6, F.gelu, F.silu, torch.tanh, F.leaky_relu, F.elu])
def test_a_chain_of_layers_is_the_product_of_its_multipliers(activation, seed):
    first, second, last = nn.Linear(5, 9), nn.Linear(9, 9), nn.Linear(9, 3)
    net = model(lambda z: last(activation(second(activation(first(z))))))
    x, r = 3 * torch.randn(3, 5), torch.randn(5)
    expected = chain([first, activation, second, activation, last], x, r, TARGETS)
    assert near(harness.explain("deep_lift", net, x, TARGETS, baseline=r), expected)
    assert not near(x - r, expected, 0.1)


def test_near_equal_activations_keep_their_digits(seed):
    """A hidden unit of 100 that changes by 1e-4: its chord in single precision would be off by a tenth."""
    net = nn.Sequential(nn.Linear(2, 1), nn.Softplus(), nn.Linear(1, 1)).eval()
    net[0].weight.data, net[0].bias.data = torch.tensor([[64.0, -64.0]]), torch.tensor([0.5])
    net[2].weight.data = torch.tensor([[1.0]])
    r = torch.tensor([1.0, 1.0])
    x = torch.stack([torch.tensor([2.0, 2.0 + k * 2**-20]) for k in range(4)])
    z = (x.double() @ torch.tensor([64.0, -64.0], dtype=torch.float64) + 0.5).requires_grad_()
    tangent = torch.autograd.grad(F.softplus(z).sum(), z)[0]
    expected = tangent[:, None] * torch.tensor([64.0, -64.0]) * (x - r)
    assert near(harness.explain("deep_lift", net, x, torch.zeros(4, dtype=torch.long), baseline=r), expected, 1e-4)


@pytest.mark.parametrize("name", ["deep_lift", "deep_lift_shap"])
def test_a_linear_model_gives_weight_times_difference(name, seed):
    net, weight = linear_net((3, 4, 4))
    x, r = torch.randn(3, 3, 4, 4), torch.randn(3, 4, 4)
    if name == "deep_lift":
        assert near(harness.explain(name, net, x, TARGETS, baseline=r), weight[TARGETS] * (x - r))
    else:
        train = torch.randn(6, 3, 4, 4)
        expected = weight[TARGETS] * (x - train.mean(0))
        assert near(harness.explain(name, net, x, TARGETS, train=train), expected)


ELEMENTWISE = {
    "relu": F.relu,
    "in place": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(),
    "clamp": lambda z: z.clamp(-0.3, 0.4),
    "abs": torch.abs,
    "leaky": nn.LeakyReLU(0.2),
    "prelu": nn.PReLU(),
    "elu": nn.ELU(),
    "selu": nn.SELU(),
    "gelu": nn.GELU(),
    "gelu tanh": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(),
    "sigmoid": torch.sigmoid,
    "tanh": nn.Tanh(),
    "softplus": nn.Softplus(),
    "softsign": nn.Softsign(),
    "logsigmoid": nn.LogSigmoid(),
    "threshold": nn.Threshold(0.1, -1.0),
    "exp": torch.exp,
    "square": lambda z: z**2,
    "cube": lambda z: z**3,
    "power": lambda z: 2**z,
    "sine": torch.sin,
    "root": lambda z: (z * z + 1).sqrt(),
    "inverse root": lambda z: (z.square() + 1).rsqrt(),
    "logarithm": lambda z: (z.abs() + 0.1).log(),
    "reciprocal": lambda z: (z**2 + 1).reciprocal(),
}
TOGETHER = {
    "product": lambda z: z * z.flip(1),
    "quotient": lambda z: z / (1 + z.flip(1) ** 2),
    "inverse": lambda z: 1 / (z**2 + 1),
    "softmax": lambda z: F.softmax(z, dim=-1),
    "log_softmax": lambda z: z.log_softmax(1),
    "glu": lambda z: F.glu(z, 1),
    "layer norm": nn.LayerNorm(12),
    "group norm": nn.GroupNorm(3, 12),
    "rms norm": nn.RMSNorm(12),
    "instance norm": lambda z: F.instance_norm(z.view(len(z), 3, 4)).flatten(1),
    "layer norm without weights": lambda z: F.layer_norm(z, (12,), eps=0.1),
    "normalize": lambda z: F.normalize(z, dim=1),
    "norm": lambda z: z / (z.norm(dim=1, keepdim=True) + 1),
    "std": lambda z: z / (z.std(1, keepdim=True) + 1),
    "norm by hand": lambda z: (z - z.mean(1, keepdim=True)) * (z.var(1, keepdim=True, correction=0) + 1e-5).rsqrt(),
    "matmul": lambda z: (z.view(-1, 3, 4) @ z.view(-1, 4, 3)).flatten(1),
    "einsum": lambda z: torch.einsum("ni,nj->nij", z[:, :6], z.tanh()[:, :6]).flatten(1),
    "dynamic convolution": lambda z: F.conv1d(z[None], z.view(-1, 1, 12)[:, :, :3], groups=len(z))[0],
    "largest": lambda z: z.view(-1, 4, 3).amax(1),
    "largest of two axes": lambda z: z.view(-1, 3, 2, 2).amax((2, 3)),
    "max with places": lambda z: z.view(-1, 4, 3).max(dim=1)[0],
    "mask": lambda z: z.tanh().masked_fill(torch.arange(12) > 8, -1.0),
    "where": lambda z: torch.where(torch.arange(12) > 3, z.tanh(), z),
    "in place on what a function saw": lambda z: F.relu(z) + z.mul_(2),
    "in place after": lambda z: F.relu(z).add_(z.tanh()).mul_(2).sigmoid_(),
    "sequence first": lambda z: F.softmax(z.view(-1, 3, 4).transpose(0, 1) ** 2, 0).transpose(0, 1).flatten(1),
    "scores masked out": lambda z: F.softmax(z.masked_fill(torch.arange(12) > 8, -torch.inf), 1),
}
POOLS = {
    "1d": (nn.MaxPool1d(3, 2, 1), (2, 13)),
    "2d": (nn.MaxPool2d(2), (2, 8, 8)),
    "overlapping": (nn.MaxPool2d(3, 1), (2, 7, 7)),
    "padded and dilated": (nn.MaxPool2d(3, 2, 1, dilation=2), (2, 9, 9)),
    "ceil": (nn.MaxPool2d(3, 2, ceil_mode=True), (2, 8, 8)),
    "3d": (nn.MaxPool3d(2, 1), (1, 4, 4, 4)),
    "adaptive 1d": (nn.AdaptiveMaxPool1d(4), (2, 11)),
    "adaptive 2d": (nn.AdaptiveMaxPool2d((3, 2)), (2, 7, 8)),
    "adaptive 3d": (nn.AdaptiveMaxPool3d(2), (1, 5, 4, 3)),
    "function": (lambda z: F.max_pool2d(z, 3, 2), (2, 9, 9)),
}


def between(operation, dtype):
    """A net with an operation between two linear layers, on 6 columns, that has to share with a plain way."""
    first, gain = nn.Linear(6, 12).to(dtype), torch.randn(3, 40, dtype=dtype)
    if isinstance(operation, nn.Module):
        operation = copy.deepcopy(operation).to(dtype)
        for parameter in operation.parameters():
            nn.init.uniform_(parameter, 0.5, 1.5)
    net = model(lambda z: (lambda y: y @ gain[:, : y.shape[1]].T)(operation(first(z))))
    net.parts = nn.ModuleList([first, *([operation] if isinstance(operation, nn.Module) else [])])
    return net.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [*ELEMENTWISE, *TOGETHER])
def test_contributions_add_up_on_every_operation(kind, dtype, seed):
    net = between({**ELEMENTWISE, **TOGETHER}[kind], dtype)
    x, r = 2 * torch.randn(3, 6, dtype=dtype), torch.randn(6, dtype=dtype)
    for baseline in (r, torch.zeros(6, dtype=dtype)):
        assert adds_up(net, x, TARGETS, baseline)


@pytest.mark.parametrize("kind", POOLS)
def test_contributions_add_up_over_maxima(kind, seed):
    pool, shape = POOLS[kind]
    head = torch.randn(3, 400)
    net = model(lambda z: (lambda y: y @ head[:, : y.shape[1]].T)(pool(F.relu(z)).flatten(1)))
    x = torch.randn(3, *shape)
    assert adds_up(net, x, TARGETS, torch.randn(shape)) and adds_up(net, x, TARGETS, torch.zeros(shape))


def test_every_row_of_the_elementwise_table_is_answered_by_a_rule(seed):
    for operation in ELEMENTWISE.values():
        net = between(operation, torch.float32)
        told = explained("deep_lift", net, torch.randn(3, 6), TARGETS)[1]["operations"]
        assert told["ruled"] and set(told["unruled"]) <= {"linear", "matmul", "mul"}


class Net(nn.Module):
    """Convolutions with a residual and an overlapping maximum, around one activation in one of its forms."""

    def __init__(self, form):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.norm, self.out, self.form = nn.BatchNorm2d(6), nn.Linear(6, 3), form
        self.one, self.other, self.shared = nn.ReLU(), nn.ReLU(), nn.ReLU(inplace=True)

    def forward(self, x):
        activations = {
            "module": (self.one, self.other),
            "reused in place": (self.shared, self.shared),
            "function": (F.relu, torch.relu),
            "clamp": (lambda z: z.clamp(min=0), lambda z: z.clamp_(min=0)),
            "maximum by where": (lambda z: z.relu_(), lambda z: F.threshold(z, 0, 0)),
        }[self.form]
        x = F.max_pool2d(activations[0](self.norm(self.first(x))), 3, 2)
        y = self.second(x)
        y += x
        return self.out(activations[1](y).mean((2, 3)))


def test_twins_of_modules_functions_and_reused_parts_are_explained_alike(seed):
    forms = ["module", "reused in place", "function", "clamp", "maximum by where"]
    nets = [Net(form).eval() for form in forms]
    nn.init.uniform_(nets[0].norm.running_mean), nn.init.uniform_(nets[0].norm.bias)
    x, r = torch.randn(3, 3, 9, 9), torch.randn(3, 9, 9)
    maps = []
    for net in nets:
        net.load_state_dict(nets[0].state_dict())
        maps.append(harness.explain("deep_lift", net, x, TARGETS, baseline=r))
        assert adds_up(net, x, TARGETS, r)
    assert all(near(other, maps[0], 1e-6) for other in maps[1:])
    gradient = (x - r) * harness.explain("gradient", nets[0], x, TARGETS)
    assert not near(maps[0], gradient, 0.05), "the rules do something here"


def small_vit():
    net = torchvision.models.VisionTransformer(16, 8, 2, 2, 16, 32, num_classes=3)
    nn.init.normal_(net.heads.head.weight)
    return net


def small_convnext():
    setting = [
        torchvision.models.convnext.CNBlockConfig(8, 16, 1),
        torchvision.models.convnext.CNBlockConfig(16, None, 1),
    ]
    net = torchvision.models.ConvNeXt(setting, layer_scale=1.0, num_classes=3)
    for part in net.modules():
        if isinstance(part, nn.LayerNorm | nn.Conv2d):
            nn.init.normal_(part.bias)
    return net


def small_swin():
    return torchvision.models.SwinTransformer([4, 4], 8, [2, 2], [1, 2], [2, 2], num_classes=3)


def transformer():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu")  # sequence first
    start = model(lambda x: x.flatten(2).permute(2, 0, 1))
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), start, layer, model(lambda x: x.mean(0)), nn.Linear(8, 3))


@pytest.mark.parametrize("make", [small_vit, small_convnext, small_swin, transformer])
def test_contributions_add_up_on_transformers_and_convnext(make, seed):
    net, x = make().eval(), torch.randn(3, 3, 16, 16)
    for baseline in (torch.zeros(3, 16, 16), torch.randn(3, 16, 16)):
        assert adds_up(net, x, TARGETS, baseline)
        assert adds_up(copy.deepcopy(net).double(), x.double(), TARGETS, baseline.double())


def test_softmax_does_not_mind_what_is_added_to_all_scores(seed):
    head, x, r = torch.randn(5, 3), torch.randn(3, 5), torch.randn(5)
    plain, moved = (model(lambda z, by=by: F.softmax(z + by, 1) @ head) for by in (0, 40))
    first, second = (harness.explain("deep_lift", net, x, TARGETS, baseline=r) for net in (plain, moved))
    assert near(first, second, 1e-4)


@pytest.mark.parametrize("kind", sorted({"gelu", "tanh", *TOGETHER} - {"in place after"}))  # of which autograd gives up
def test_multipliers_tend_to_the_gradient_as_the_baseline_nears_the_input(kind, seed):
    net = between({**ELEMENTWISE, **TOGETHER}[kind], torch.float64)
    x, way = torch.randn(1, 6, dtype=torch.float64), 1e-5 * (1 + torch.rand(6, dtype=torch.float64))
    multipliers = harness.explain("deep_lift", net, x, TARGETS[:1], baseline=x[0] - way) / way
    assert near(multipliers, harness.explain("gradient", net, x, TARGETS[:1]), 1e-2)


def test_what_has_no_rule_is_not_applicable_and_named(seed):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

        def forward(self, x):
            return self.out(self.rnn(x)[0][:, -1])

    nets = {
        "lstm": (Recurrent(), torch.randn(3, 6, 4)),
        "sort": (model(lambda z: z.sort(1)[0][:, :3]), torch.randn(3, 4)),
        "cumprod": (model(lambda z: z.cumprod(1)), torch.randn(3, 4)),
        "einsum of 3": (model(lambda z: torch.einsum("ni,ni,ni->ni", z, z, z)), torch.randn(3, 4)),
        "local_response_norm": (nn.Sequential(nn.LocalResponseNorm(2), nn.Flatten()), torch.randn(3, 3, 4, 4)),
        "mask of where": (model(lambda z: torch.where(z > 0, z, 0.1 * z)), torch.randn(3, 4)),
    }
    for name, (net, x) in nets.items():
        with pytest.raises(harness.NotApplicable, match=name):
            harness.explain("deep_lift", net.eval(), told(x, TARGETS))


def test_a_model_that_goes_another_way_for_the_baseline_is_not_applicable():
    once_more = model(lambda z: (z.relu() if float(z.detach().sum()) == 0 else z.tanh()) @ torch.ones(4, 3))
    with pytest.raises(harness.NotApplicable, match="computes differently for the input"):
        harness.explain("deep_lift", once_more, torch.ones(3, 4), TARGETS)
    fewer = model(lambda z: (z.relu() if float(z.detach().sum()) == 0 else z) @ torch.ones(4, 3))
    with pytest.raises(harness.NotApplicable, match="1 operations on the baseline"):
        harness.explain("deep_lift", fewer, torch.ones(3, 4), TARGETS)


def test_a_baseline_at_which_the_output_is_not_finite_is_not_applicable(seed):
    class OfUnitLength(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(4, 3)

        def forward(self, x):
            return self.last(x / x.norm(dim=-1, keepdim=True))

    with pytest.raises(harness.NotApplicable, match="the output at the baseline is not finite"):
        harness.explain("deep_lift", OfUnitLength().eval(), torch.randn(2, 4), torch.tensor([0, 1]), baseline="zero")


def test_statistics_of_the_batch_are_not_applicable(seed):
    net = model(lambda z: F.batch_norm(z, None, None, training=True).mean(2))
    with pytest.raises(harness.NotApplicable, match="statistics from the batch"):
        harness.explain("deep_lift", net, told(torch.randn(3, 4, 5), TARGETS))


@pytest.mark.parametrize("name", ["deep_lift", "deep_lift_shap"])
def test_maps_do_not_depend_on_the_company_or_the_rows_at_once(name, seed):
    net, x, train = small_cnn(classes=3).double(), torch.randn(3, 3, 8, 8).double(), torch.randn(12, 3, 8, 8).double()
    options = {"baseline": "mean"} if name == "deep_lift" else {"samples": 5}
    together = explain_with(name, net, x, TARGETS, train, 16, 32, **options)
    for batch, chunk in ((1, 32), (16, 2), (2, 7)):
        assert near(explain_with(name, net, x, TARGETS, train, batch, chunk, **options), together, 1e-6)


def explain_with(name, net, x, targets, train, batch, chunk, **options):
    entry = EXPLAINERS[name]
    samples = samples_of(net, x, targets, train=train, predictor=Predictor(net, chunk=chunk))
    return Explaining(entry, entry.complete(options), net, batch)(samples)


def test_deep_lift_shap_is_the_mean_over_all_training_inputs_where_they_are_few(seed):
    net, x, train = small_cnn(classes=3), torch.randn(3, 3, 8, 8), torch.randn(4, 3, 8, 8)
    maps, facts = explained("deep_lift_shap", net, x, TARGETS, train=train, samples=50)
    expected = torch.stack([harness.explain("deep_lift", net, x, TARGETS, baseline=one) for one in train]).mean(0)
    assert near(maps, expected)
    promise = torch.stack([change(net, x, TARGETS, one) for one in train]).mean(0)
    assert near(maps.flatten(1).sum(1), promise, rounding=1e-5) and facts["completeness_error"]["max"] < 1e-2


def test_deep_lift_shap_gives_each_sample_its_own_draws_without_repeats(seed):
    """On f(x) = x the map is x less the mean of the drawn inputs; powers of two tell which they were."""
    net, train = model(lambda z: z), 2.0 ** torch.arange(10)[:, None]
    x = torch.randn(40, 1)
    targets = torch.zeros(40, dtype=torch.long)
    sums = ((x - harness.explain("deep_lift_shap", net, x, targets, train=train, samples=3)) * 3).round().int()[:, 0]
    drawn = [bin(number) for number in sums.tolist()]
    assert all(digits.count("1") == 3 for digits in drawn) and len(set(drawn)) > 20
    again = harness.explain("deep_lift_shap", net, x.flip(0), targets, train=train, samples=3).flip(0)
    assert near(again, x - sums[:, None] / 3, 1e-4)


def test_deep_lift_shap_is_the_shapley_value_of_additive_models(seed):
    net = model(lambda z: torch.stack([z.tanh().sum(1), (2 * z).sigmoid().sum(1), (z**3).sum(1)], 1))
    x, train = torch.randn(3, 5), torch.randn(7, 5)
    parts = [torch.tanh, lambda z: (2 * z).sigmoid(), lambda z: z**3]
    expected = torch.stack([parts[t](x[i]) - parts[t](train).mean(0) for i, t in enumerate(TARGETS.tolist())])
    assert near(harness.explain("deep_lift_shap", net, x, TARGETS, train=train), expected, 1e-4)
    exact = [harness.explain("exact_shapley", net, x, TARGETS, baseline=one) for one in train]
    assert near(expected, torch.stack(exact).mean(0), 1e-4)


def test_deep_lift_shap_needs_training_inputs_and_a_sample_of_them():
    net, x = small_cnn(classes=3), torch.randn(3, 3, 8, 8)
    with pytest.raises(harness.NotApplicable, match="the data has none"):
        harness.explain("deep_lift_shap", net, x, TARGETS)
    with pytest.raises(ValueError, match="samples (of .* )?is 0"):
        harness.explain("deep_lift_shap", net, x, TARGETS, train=x, samples=0)


def test_the_told_error_is_the_share_of_the_change_that_is_missed(seed):
    """A factor that depends on the input behind autograd's back is what no rule can see; here it is a small one."""
    x, net = torch.rand(3, 3) + 0.5, model(lambda z: 100 * z + z * z.detach())
    maps, facts = explained("deep_lift", net, x, TARGETS)
    assert facts["completeness_error"]["max"] < 1e-6, "from 0 the hidden factor at the input carries all"
    maps, facts = explained("deep_lift", net, x, TARGETS, baseline=torch.full((3,), 0.25))
    own = x.gather(1, TARGETS[:, None])[:, 0]
    whole = 100 * (own - 0.25) + own**2 - 0.0625
    expected = (0.25 * (own - 0.25) / whole).abs()
    assert facts["completeness_error"]["max"] == pytest.approx(float(expected.max()), rel=1e-2)


@pytest.mark.parametrize(
    "hiding",
    [
        lambda z: z * z.detach(),
        lambda z: z * (z > 1),
        lambda z: z + (3 * z).round(),
        lambda z: z * z.sign(),
        lambda z: z + no_grad_tanh(z),
    ],
)
def test_a_change_that_is_hidden_from_differentiation_is_not_applicable(hiding, seed):
    """Multipliers times differences would be the gradient's, and miss what the model really did."""
    x = torch.tensor([[0.7, 2.0, 3.0], [2.5, 0.6, 2.2], [1.6, 1.2, 4.0]])
    with pytest.raises(harness.NotApplicable, match="hidden from differentiation"):
        explained("deep_lift", model(hiding), x, TARGETS, baseline=torch.full((3,), -0.4))


def no_grad_tanh(z):
    with torch.no_grad():
        return z.tanh()


def test_contributions_that_cancel_until_rounding_is_left_are_refused():
    """Two columns that differ in their last digit: their difference has two digits fewer than the shares have."""
    net = model(lambda z: 3e9 * (z - z.roll(1, 1)))
    x = torch.tensor([[1.7, 1.7 + 2**-22, 1.7 + 2**-21]])
    with pytest.raises(harness.NotApplicable, match="times the outputs and cancel"):
        harness.explain("deep_lift", net, x, TARGETS[:1])


def test_a_difference_that_is_only_rounding_is_not_taken_for_a_hidden_one(seed):
    net, x = linear_net((3,))[0], torch.zeros(3, 3)
    maps, _ = explained("deep_lift", net, x, TARGETS, baseline=torch.full((3,), 1e-9))
    assert maps.abs().max() < 1e-8


def test_model_and_inputs_come_back_as_they_were(seed):
    net, x = Net("reused in place").eval(), torch.randn(3, 3, 9, 9)
    net.out.bias.requires_grad_(False)
    state, before = copy.deepcopy(net.state_dict()), x.clone()
    harness.explain("deep_lift", net, x, TARGETS)
    assert torch.equal(x, before) and all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters()) and not net.out.bias.requires_grad
    assert net.out.weight.requires_grad and not any(m._forward_hooks for m in net.modules())
