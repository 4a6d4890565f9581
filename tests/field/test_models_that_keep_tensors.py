"""Models that make tensors in their first call and keep them, or change buffers in every call, work and stay usable."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

import harness
from harness.guards import ModelChanged
from harness.registry import EXPLAINERS
from small_nets import few_steps

X, TARGETS = torch.randn(4, 12, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
METHODS = ("gradient", "integrated_gradients", "lrp", "deep_lift", "guided_backprop", "kernel_shap", "occlusion")
SOURCES = sorted(
    path
    for folder in ("harness", "metrics", "datasets", "results")
    for path in (Path(harness.__file__).parent.parent / folder).rglob("*.py")
)


class Table(nn.Module):
    """Keeps a table of places that it makes in its first call, in one of several homes."""

    def __init__(self, home):
        super().__init__()
        self.linear, self.hidden, self.home = nn.Linear(12, 8), nn.Linear(8, 3), home
        self.attribute, self.by_length = None, {}
        if home == "an empty buffer":
            self.register_buffer("grid", None)

    def forward(self, x):
        return self.hidden(torch.relu(self.linear(x * self.places(x))))

    def places(self, x):
        make = lambda: torch.linspace(0.5, 1.5, x.shape[1])
        if self.home == "an attribute":
            self.attribute = make() if self.attribute is None else self.attribute
            return self.attribute
        if self.home == "a dict":
            if x.shape[1] not in self.by_length:
                self.by_length[x.shape[1]] = make()
            return self.by_length[x.shape[1]]
        if self.home == "a buffer for each size of the batch":
            if "grid" not in self._buffers or len(self.grid) != len(x):
                self.register_buffer("grid", make().repeat(len(x), 1), persistent=False)
            return self.grid
        if self._buffers.get("grid") is None:
            self.register_buffer("grid", make(), persistent=False)
        return self.grid


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.LazyLinear(3)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))))


class Counting(nn.Module):
    """Counts its calls, and observes the range of what it has seen, in buffers of its own."""

    def __init__(self, in_place):
        super().__init__()
        self.linear, self.hidden, self.in_place = nn.Linear(12, 8), nn.Linear(8, 3), in_place
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("largest", torch.zeros(()))
        self.register_buffer("fixed", torch.ones(3))

    def forward(self, x):
        if self.in_place:
            self.calls += 1
            self.largest.copy_(torch.maximum(self.largest, x.detach().abs().amax()))
        else:
            self.calls = self.calls + 1
        return self.hidden(torch.relu(self.linear(x))) * self.fixed


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.hidden = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x):
        self.features = torch.relu(self.linear(x))
        return self.hidden(self.features)


HOMES = ("an attribute", "a dict", "a buffer", "an empty buffer", "a buffer for each size of the batch")
KEEPING = {
    **{f"a table in {home}": lambda home=home: Table(home) for home in HOMES},
    "lazy layers": Lazy,
    "a counter changed in place": lambda: Counting(True),
    "a counter made anew": lambda: Counting(False),
    "features remembered": Remembering,
}


@pytest.fixture(params=KEEPING)
def net(request):
    torch.manual_seed(0)
    return KEEPING[request.param]().eval()


def kept(net):
    """All tensors that the model holds, wherever."""
    held = [vars(part).values() for part in net.modules()]
    plain = [each for values in held for each in values if isinstance(each, torch.Tensor)]
    by_length = getattr(net, "by_length", {})
    return [*net.parameters(), *net.buffers(), *plain, *by_length.values()]


@pytest.mark.parametrize("method", METHODS)
def test_every_explainer_works_and_so_does_the_users_own_backward_pass_afterwards(method, net):
    found = harness.explain(method, net, X, TARGETS)
    assert found.isfinite().all() and found.abs().sum() > 0
    assert not any(each.is_inference() for each in kept(net))
    given = X.clone().requires_grad_()
    net(given).sum().backward()
    assert given.grad.abs().sum() > 0


def test_a_second_explanation_by_the_same_model_is_the_first(net):
    for method in ("gradient", "kernel_shap"):
        first = harness.explain(method, net, X, TARGETS)
        assert torch.equal(harness.explain(method, net, X, TARGETS), first)


@pytest.mark.parametrize("tuned", [False, True])
def test_a_whole_evaluation_has_no_failure(tuned, net):
    metrics = ["deletion", "sparseness", "max_sensitivity", "parameter_randomization"]
    frame = harness.evaluate(net, X, TARGETS, explainers=["gradient", "occlusion"], metrics=metrics, tuned=tuned)
    bad = frame[~frame.status.isin(["ok", "not_applicable"])]
    assert bad.empty, bad.error.unique()


def test_a_twin_trained_on_random_labels_may_count_too():
    train, labels = torch.randn(24, 12, generator=torch.Generator().manual_seed(1)), torch.arange(24) % 3
    data = harness.Data(X, TARGETS, train=train, train_labels=labels)
    frame = harness.evaluate(
        Counting(True).eval(),
        data,
        explainers=["gradient"],
        metrics={"label_randomization": {"epochs": 2, "least_accuracy": 0.0}},
    )
    assert set(frame.status) == {"ok"}, frame.error.unique()


def test_a_model_that_its_user_has_called_before_is_the_same():
    net = Table("a buffer for each size of the batch").eval()
    net(X[:1])
    assert harness.explain("gradient", net, X, TARGETS).isfinite().all()


def test_what_the_model_does_not_change_by_itself_is_guarded_as_ever():
    def spoil_weight(model, inputs, targets):
        with torch.no_grad():
            model.linear.weight.add_(1)
        return inputs

    def add_a_buffer(model, inputs, targets):
        model.linear.register_buffer("extra", torch.ones(3))
        return inputs

    for make in (lambda: Counting(True), lambda: Counting(False), lambda: Table("a buffer")):
        for meddle in (spoil_weight, add_a_buffer):
            net = make().eval()
            weight = net.linear.weight.detach().clone()
            with pytest.raises(ModelChanged):
                harness.explain(meddle, net, X, TARGETS)
            assert torch.equal(net.linear.weight, weight) and "extra" not in net.linear._buffers

    def change_statistics(model, inputs, targets):
        model[1].running_mean.add_(1)
        return inputs

    plain = nn.Sequential(nn.Linear(12, 3), nn.BatchNorm1d(3)).eval()
    with pytest.raises(ModelChanged, match="running_mean"):
        harness.explain(change_statistics, plain, X, TARGETS)
    assert not plain[1].running_mean.any()


class Observed(nn.Module):
    """A layer behind which a counter and an observer of the range are: in place, or as buffers made anew."""

    def __init__(self, layer, in_place):
        super().__init__()
        self.layer, self.in_place = layer, in_place
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("low", torch.full((), torch.inf))
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        x = self.layer(x)
        low, mean = torch.minimum(self.low, x.detach().amin()), 0.9 * self.mean + 0.1 * x.detach().mean()
        if self.in_place:
            self.calls += 1
            self.low.copy_(low)
            self.mean.copy_(mean)
        else:
            self.calls, self.low, self.mean = self.calls + 1, low, mean
        return x


@pytest.mark.parametrize("name", [name for name, entry in EXPLAINERS.items() if not entry.stored and name != "oracle"])
def test_no_explainer_is_taken_for_what_has_changed_a_counter_or_an_observer(name):
    entry = EXPLAINERS[name]
    table, generator = "table" in entry.modalities, torch.Generator().manual_seed(0)
    shape = (12,) if table else (3, 8, 8)
    inputs, train = (torch.randn(count, *shape, generator=generator) for count in (3, 24))
    torch.manual_seed(0)
    first = nn.Linear(12, 32) if table else nn.Sequential(nn.Conv2d(3, 2, 5), nn.ReLU())
    layers = Observed(first, True), nn.ReLU(), nn.Flatten(), Observed(nn.Linear(32, 3), False)
    net = nn.Sequential(*layers).eval()
    data = harness.Data(inputs, torch.arange(3), train=train, train_labels=torch.arange(24) % 3)
    few = {each: 30 for each in ("samples",) if isinstance(entry.options.get(each), int)}
    few |= few_steps(name)
    frame = harness.evaluate(net, data, explainers={"it": {"name": name, **few}}, metrics="sparseness")
    assert set(frame["status"]) <= {"ok", "not_applicable"}, frame["error"].unique()
    assert int(net[0].calls) > 0


def test_a_counter_goes_on_counting():
    net = Counting(True).eval()
    harness.explain("gradient", net, X, TARGETS)
    before = int(net.calls)
    net(X)
    assert before > 0 and int(net.calls) == before + 1


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_of_ours_opens_inference_mode(path):
    """Tensors that a model makes there and keeps can never be used for a gradient again."""
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("inference_mode"):
            off = [*call.args, *(keyword.value for keyword in call.keywords)]
            assert [ast.unparse(each) for each in off] == ["False"], f"{path.name}:{call.lineno}"
