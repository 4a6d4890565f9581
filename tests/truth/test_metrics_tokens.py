"""Comprehensiveness and sufficiency, on tokens whose contributions are known."""

import itertools

import pytest
import torch

from harness.api import make_batch
from harness.errors import NotApplicable, UserError
from metric_worlds import SHAPES, Additive, Constant, Interacting, draw, generator, on, samples, scores

METRICS = ("comprehensiveness", "sufficiency")
LOGIT = {"score": "logit"}
SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)

pytestmark = pytest.mark.usefixtures("seed")


def world(tokens, seed, count=3):
    shape = (tokens, 4)
    model, inputs = Additive(shape, g=torch.sin, generator=generator(seed)), draw(shape, seed, count)
    return model, inputs, model.contributions(inputs, torch.zeros_like(inputs))


def whole(share, count):
    """Tokens in a share, rounded up, in whole numbers."""
    return max(1, -(-round(share * 100) * count // 100))


@pytest.mark.parametrize("tokens", [2, 7, 20, 100])
def test_of_an_additive_model_both_are_sums_of_contributions(tokens, seed):
    model, inputs, contributions = world(tokens, seed)
    maps = draw((tokens, 4), seed + 1)
    own, order = contributions.sum(2).double(), maps.sum(2).argsort(1, descending=True)
    removed = torch.stack([own.gather(1, order[:, : whole(share, tokens)]).sum(1) for share in SHARES], 1)
    expected = {"comprehensiveness": removed, "sufficiency": own.sum(1, keepdim=True) - removed}
    for metric in METRICS:
        found = scores(metric, model, inputs, maps, options=LOGIT)
        torch.testing.assert_close(found.curves, expected[metric], rtol=0, atol=2e-5)
        torch.testing.assert_close(found.values, found.curves.mean(1))


def test_without_and_alone_add_up_to_the_whole_on_an_additive_model(seed):
    model, inputs, contributions = world(9, seed)
    maps = draw((9, 4), seed + 1)
    both = sum(scores(metric, model, inputs, maps, options=LOGIT).values for metric in METRICS)
    torch.testing.assert_close(both, contributions.double().sum((1, 2)), rtol=0, atol=2e-5)


def test_the_right_tokens_are_the_most_comprehensive_and_sufficient_of_all(seed):
    model, inputs, contributions = world(8, seed)
    best = {metric: scores(metric, model, inputs, contributions, options=LOGIT).values for metric in METRICS}
    for other in (-contributions, draw((8, 4), seed + 1), torch.zeros_like(contributions)):
        found = {metric: scores(metric, model, inputs, other, options=LOGIT).values for metric in METRICS}
        assert (found["comprehensiveness"] <= best["comprehensiveness"] + 1e-5).all()
        assert (found["sufficiency"] >= best["sufficiency"] - 1e-5).all()
    assert (found["comprehensiveness"] < best["comprehensiveness"]).any()


@pytest.mark.parametrize("baseline", ["zero", "mean", "uniform_noise"])
@pytest.mark.parametrize("score", ["probability", "log_odds"])
@pytest.mark.parametrize("kind", SHAPES)
def test_both_equal_a_loop_on_any_units(kind, score, baseline, seed):
    shape = SHAPES[kind]
    model, inputs, maps = Interacting(shape, generator(seed)), draw(shape, seed), draw(shape, seed + 1)
    train, targets = draw(shape, seed + 2, 10), torch.tensor([1, 0, 2])
    options = {"percents": "20 60", "score": score, "baseline": baseline}
    made = samples(model, inputs, targets, train=train)
    gone, units = made.baseline(baseline), made.units

    def value(x, target):
        logits = model(x[None])[0].double()
        rest = logits[torch.arange(3) != target].logsumexp(0)
        return logits.softmax(0)[target].item() if score == "probability" else (logits[target] - rest).item()

    for metric in METRICS:
        found = scores(metric, model, inputs, maps, targets=targets, train=train, options=options, chunk=4).curves
        for i, (s, share) in itertools.product(range(3), enumerate((0.2, 0.6))):
            top = units.reduce(maps)[i].flatten().topk(whole(share, units.count)).indices
            inside = torch.zeros(units.count, dtype=torch.bool).index_fill(0, top, True).view(1, *units.shape)
            kept = units.expand(~inside if metric == "comprehensiveness" else inside)[0]
            drop = value(inputs[i], targets[i]) - value(torch.where(kept, inputs[i], gone[i]), targets[i])
            assert found[i, s].item() == pytest.approx(drop, abs=1e-5)


def test_tokens_that_speak_against_the_class_can_be_left_out(seed):
    model, inputs, contributions = world(10, seed)
    own = contributions.sum(2).double()
    maps = torch.zeros(3, 10, 4)
    maps[..., 0] = own.float()
    positive = own.clamp(min=0).sort(1, descending=True).values
    expected = torch.stack([positive[:, : whole(share, 10)].sum(1) for share in (0.5, 1.0)], 1)
    options = LOGIT | {"percents": [50, 100], "positive_only": True}
    for metric, curve in (("comprehensiveness", expected), ("sufficiency", own.sum(1, keepdim=True) - expected)):
        found = scores(metric, model, inputs, maps, options=options).curves
        torch.testing.assert_close(found, curve, rtol=0, atol=2e-5)
    nothing = scores("comprehensiveness", model, inputs, -maps.abs(), options=options).values
    assert nothing.abs().max() < 1e-6


def test_tokens_that_tie_are_drawn_by_lot_and_counted(seed):
    model, inputs, _ = world(10, seed, 200)
    found = scores("comprehensiveness", model, inputs, torch.zeros(200, 10, 4), options=LOGIT | {"percents": 10})
    assert (found.tied == 1).all()
    first = model.contributions(inputs, torch.zeros_like(inputs)).sum(2).double()
    chosen = (first - found.values[:, None]).abs().argmin(1)
    assert len(chosen.unique()) > 7  # not always the first


def test_sharing_company_and_chunks(seed):
    model, inputs, maps = Interacting((12, 4), generator(seed)), draw((12, 4), seed), draw((12, 4), seed + 1)
    for metric in METRICS:
        made = samples(model, inputs)
        together = on(metric, make_batch(made, maps, None)).values
        assert made.predictor.forwards == 3 * (5 + 1)
        alone = [scores(metric, model, inputs[i:][:1], maps[i:][:1], chunk=2).values for i in range(3)]
        torch.testing.assert_close(torch.cat(alone), together, rtol=0, atol=1e-12)


def test_every_whole_percentage_of_a_hundred_tokens_is_as_many():
    one = Additive((100, 1))
    with torch.no_grad():
        one.w.fill_(1.0)
    percents = " ".join(str(share) for share in range(1, 101))
    found = scores(
        "comprehensiveness", one, torch.ones(1, 100, 1), torch.rand(1, 100, 1), options=LOGIT | {"percents": percents}
    )
    torch.testing.assert_close(found.curves[0], torch.arange(1, 101).double(), rtol=0, atol=1e-3)


def test_what_cannot_be_is_said():
    with pytest.raises(NotApplicable, match="class probability"):
        scores("sufficiency", torch.nn.Linear(5, 1), draw((5,), 0), draw((5,), 1), options={"baseline": "zero"})
    with pytest.raises(UserError, match="baseline"):
        scores("sufficiency", Constant(), draw((5, 4), 0), draw((5, 4), 1), options={"baseline": "grey"})


def test_a_token_without_attribution_is_not_positive():
    model, inputs = Additive((4, 2), generator=generator(3)), torch.ones(1, 4, 2)
    maps = torch.tensor([1.0, 0.0, 0.0, 0.0])[None, :, None].expand(1, 4, 2)
    options = {"positive_only": True, "score": "logit"}
    all_positive, first = (
        scores("comprehensiveness", model, inputs, maps, options={**options, "percents": percents}).values
        for percents in ("100", "25")
    )
    torch.testing.assert_close(all_positive, first)
