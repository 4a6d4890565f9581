"""TCAV: sensitivities are directional derivatives, a planted concept is found, others are not more often than alpha."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.stats import ttest_ind
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F

import harness
from explainer_worlds import model, near, small_cnn
from harness.api import samples_of
from harness.engine.explain import Explaining
from harness.explainers import _concepts
from harness.explainers._at_layer import activations
from harness.explainers._cavs import activation_vectors, classifier, concept_sets
from harness.explainers._concept_scores import holm_corrected, most_significant, tcav_scores, two_sided_p
from harness.explainers._layers import choose_layer
from harness.explainers._tabular import drawn_rows
from harness.explainers.tcav import ConceptDirection, sensitivity_map
from harness.facts import Facts
from harness.guards import ModelGuard
from harness.predictor import Predictor
from harness.randomness import element
from harness.registry import EXPLAINERS
from harness.samples import Samples
from harness.units import Units

SIZE = 24
FAST = {"images": 4}


class Features(nn.Module):
    """How much an image's edges share one direction, at every place; and its standardised brightness there.

    Colour has no part in it: to this layer, tinted noise is noise.
    """

    def forward(self, x):
        grey = x.mean(1)
        grey = (grey - grey.mean((1, 2), keepdim=True)) / (grey.std((1, 2), keepdim=True) + 1e-3)
        sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(grey)
        dx, dy = F.conv2d(grey[:, None], torch.stack([sobel, sobel.T])[:, None]).unbind(1)
        xx, yy, xy = ((a * b).mean((1, 2)) for a, b in ((dx, dx), (dy, dy), (dx, dy)))
        coherence = ((xx - yy).square() + 4 * xy.square() + 1e-9).sqrt() / (xx + yy + 1e-6)
        brightness = F.avg_pool2d(grey[:, None], SIZE // 4)
        return torch.cat([10 * coherence[:, None, None, None].expand_as(brightness), brightness], 1)


class StripeNet(nn.Module):
    """Class 0 grows with stripes, class 1 falls; with brightness as its own pattern has it, differently each image."""

    def __init__(self):
        super().__init__()
        self.features, self.weight = Features(), torch.randn(16, 16)

    def forward(self, x):
        maps = self.features(x)
        brightness = maps[:, 1].flatten(1)
        mixed = 0.02 * torch.einsum("ni,ij,nj->n", brightness, self.weight - self.weight.T.roll(1, 0), brightness)
        stripes = maps[:, 0].sum((1, 2)) / 8
        return torch.stack([stripes + mixed, mixed - stripes], 1)


def samples_at(net, x, *, train=None, seed=0, truth=None, chunk=64, value_range=(0.0, 1.0), targets=None):
    targets = torch.zeros(len(x), dtype=torch.long) if targets is None else targets
    return Samples(
        x,
        targets,
        Predictor(net, chunk=chunk),
        units=Units.of(x),
        seed=seed,
        train=train,
        train_labels=truth,
        value_range=value_range,
        facts=Facts(),
    )


def told(net, x, *, batch=16, targets=None, **given):
    """Maps of the inputs, and the facts told of them."""
    options = {name: given.pop(name) for name in list(given) if name in EXPLAINERS["tcav"].options}
    samples = samples_at(net, x, targets=targets, **given)
    explaining = Explaining(EXPLAINERS["tcav"], EXPLAINERS["tcav"].complete(options), net, batch)
    explaining.prepare(samples)
    return explaining(samples), samples.facts


def test_the_sum_over_places_is_the_derivative_of_the_logit_along_the_vector(seed):
    net, x, targets = small_cnn().double(), torch.randn(5, 3, 12, 12).double(), torch.tensor([0, 1, 2, 3, 0])
    samples = samples_at(net, x, targets=targets, chunk=2)
    for name, tail in (("0", 1), ("4", 5)):
        layer = choose_layer(net, samples, layer=name)
        hidden = net[:tail](x).detach()
        vector = F.normalize(torch.randn(hidden[0].numel()).double(), dim=0).view_as(hidden[0])
        found = sensitivity_map(net, samples, targets, ConceptDirection(layer, vector))
        assert found.shape == (5, 1, *hidden.shape[2:])
        step = 1e-6
        ends = [net[tail:](hidden + sign * step * vector).gather(1, targets[:, None])[:, 0] for sign in (1, -1)]
        assert near(found.sum((1, 2, 3)), (ends[0] - ends[1]).detach() / (2 * step), 1e-5)


def test_the_map_is_the_gradient_times_the_vector_summed_over_channels_and_enlarged(seed):
    net, x = small_cnn(), torch.rand(3, 3, 12, 12)
    found, facts = told(net, x, concept="dots", **FAST)
    samples = samples_at(net, x)
    names, sets = concept_sets(samples, "textures", 10, 4)
    layer = choose_layer(net, samples)
    vectors, _ = activation_vectors(net, samples, layer, ("dots",), sets, 10, 0.01)
    mean = vectors["dots"].mean(0)
    hidden = net[:5](x).detach().requires_grad_()
    gradient = torch.autograd.grad(net[5:](hidden)[:, 0].sum(), hidden)[0]
    coarse = (gradient * mean / mean.norm()).sum(1, keepdim=True)
    assert near(found, F.interpolate(coarse, (12, 12), mode="bilinear", align_corners=False))
    assert facts.single["layer"] == layer.name and facts.single["concept"] == "dots" and "dots" in names
    assert near(torch.cat(facts.per_sample["sensitivity"]), coarse.sum((1, 2, 3)).double(), 1e-5)


@pytest.mark.parametrize("alpha", [0.01, 1.0])
def test_the_vector_is_the_normal_of_a_logistic_regression_on_all_activations(alpha, seed):
    concept, other = torch.randn(9, 3, 4, 4) + 0.3, 2 * torch.randn(7, 3, 4, 4)
    x = torch.cat([concept, other]).flatten(1).double().numpy()
    scale = np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean())
    direct = LogisticRegression(C=1 / (alpha * 16), tol=1e-10, max_iter=10_000).fit(
        (x - x.mean(0)) / scale, np.arange(16) < 9
    )
    own = classifier(concept, other, alpha)
    weight = torch.from_numpy(direct.coef_[0]).view(3, 4, 4)
    assert near(own.vector, weight / weight.norm(), 5e-3) and float(own.vector.norm()) == pytest.approx(1, abs=1e-5)
    right = direct.predict((x - x.mean(0)) / scale) == (np.arange(16) < 9)
    assert own.accuracy(concept, other) == pytest.approx((right[:9].mean() + right[9:].mean()) / 2)
    again = classifier(1000 * concept, 1000 * other, alpha)
    assert near(again.vector, own.vector, 1e-3), "whatever the unit of the activations"
    assert near(classifier(other, concept, alpha).vector, -own.vector, 5e-3)


def test_a_planted_concept_is_found_with_score_one_and_noise_in_colour_is_not(seed):
    net, x = StripeNet().eval(), torch.rand(40, 3, SIZE, SIZE)
    samples = samples_at(net, x[:2], train=x, seed=seed)
    _, sets = concept_sets(samples, "textures", 20, 6)
    layer = choose_layer(net, samples, layer="features")
    vectors, accuracy = activation_vectors(net, samples, layer, ("stripes", "red"), sets, 20, 0.01)
    scores = tcav_scores(net, samples, layer, vectors, "predicted", 40)
    own = scores[scores.concept == "stripes"]
    for number, rows in own.groupby("class"):
        assert (rows.score == 1 - number).all() and (rows.p < 0.01).all()
    assert (scores[scores.concept == "red"].p > 1e-4).all() and scores[scores.concept == "random"].p.isna().all()
    assert accuracy["stripes"] > 0.95 and max(accuracy["red"], accuracy["random"]) < 0.7
    assert most_significant(scores) == "stripes"


def test_what_is_no_concept_to_a_layer_is_significant_about_as_often_as_alpha(seed):
    net, x = StripeNet().eval(), torch.rand(30, 3, SIZE, SIZE)
    values = []
    for number in range(15):
        samples = samples_at(net, x[:2], train=x, seed=seed + number)
        _, sets = concept_sets(samples, "textures", 10, 4)
        layer = choose_layer(net, samples, layer="features")
        vectors, _ = activation_vectors(net, samples, layer, ("red",), sets, 10, 0.01)
        scores = tcav_scores(net, samples, layer, vectors, "predicted", 30)
        values += list(scores[scores.concept == "red"].groupby("class").p.first())[:1]
    # With p uniform, 6 of 15 below 0.05 come once in 20,000; a test of runs that share images would fail half the time.
    assert sum(p < 0.05 for p in values) <= 5 and max(values) > 0.2


@pytest.mark.parametrize("kind", ["coin", "share"])
def test_equal_distributions_of_scores_differ_significantly_about_as_often_as_alpha(kind, seed):
    generator = np.random.default_rng(seed)
    draw = (lambda n: generator.integers(0, 2, n)) if kind == "coin" else (lambda n: generator.random(n))
    found = np.array([two_sided_p(draw(10).astype(float), draw(10).astype(float)) for _ in range(4000)])
    for alpha in (0.1, 0.05):
        assert (found < alpha).mean() < alpha * 1.4  # of coins 0.116 and 0.042, summed over all outcomes
    assert (found < 0.2).mean() > 0.1


def test_p_is_welchs_and_never_below_the_rarest_order():
    first, second = np.array([0.9, 0.8, 1.0, 0.9]), np.array([0.4, 0.6, 0.5, 0.9])
    assert two_sided_p(first, second) == pytest.approx(ttest_ind(first, second, equal_var=False).pvalue)
    assert two_sided_p(np.ones(10), np.zeros(10)) == pytest.approx(2 / 184756)
    assert two_sided_p(np.ones(10), np.ones(10)) == 1
    assert two_sided_p(np.ones(10), np.array([1.0] * 5 + [0] * 5)) == pytest.approx(0.015, abs=1e-3)


def test_holm_multiplies_by_how_many_are_left_and_keeps_the_order():
    assert holm_corrected([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_corrected([0.9, 0.8]) == [1, 1] and holm_corrected([0.02]) == [0.02]


def test_the_most_significant_concept_has_the_smallest_p_and_among_equals_the_most_extreme_score():
    rows = [("a", 0, 0.5, 0.02), ("b", 0, 0.9, 0.01), ("c", 1, 0.0, 0.01), ("random", 0, 1.0, np.nan)]
    scores = pd.DataFrame(rows, columns=["concept", "class", "score", "p"])
    assert most_significant(scores) == "c"
    assert most_significant(scores[scores.concept != "c"]) == "b"


def test_scores_are_shares_of_each_class_own_images_over_all_chunks(seed):
    net, train = small_cnn(), torch.randn(60, 3, 12, 12)
    labels = torch.randint(3, (60,))
    _, facts = told(net, train[:2], train=train, layer="0", concept="dots", rows=35, chunk=7, **FAST)
    table = facts.tables["scores"]
    assert list(table.columns) == ["concept", "class", "run", "score", "p", "images"]
    per_class = table.groupby("class").images.first()
    rows = drawn_rows(60, 35, 0)
    predicted = torch.bincount(net(train[rows]).argmax(1), minlength=4)
    assert per_class.to_dict() == {number: count for number, count in enumerate(predicted.tolist()) if count}
    assert table.score.between(0, 1).all() and set(table.concept) == {*_concepts.texture_names(3), "random"}
    assert (table.groupby(["concept", "class"]).size() == 10).all()

    samples = samples_at(net, train[:2], train=train)
    _, sets = concept_sets(samples, "textures", 10, 4)
    layer = choose_layer(net, samples, layer="0")
    vectors, _ = activation_vectors(net, samples, layer, ("dots",), sets, 10, 0.01)
    most = int(predicted.argmax())
    own = train[rows][net(train[rows]).argmax(1) == most]
    hidden = net[:1](own).detach().requires_grad_()
    gradient = torch.autograd.grad(net[1:](hidden)[:, most].sum(), hidden)[0]
    by_hand = [float(((gradient * vector).sum((1, 2, 3)) > 0).double().mean()) for vector in vectors["dots"]]
    chosen = table[(table.concept == "dots") & (table["class"] == most)].sort_values("run")
    assert np.allclose(chosen.score, by_hand, atol=1.5 / len(own))

    _, facts = told(net, train[:2], train=train, truth=labels, labels="label", layer="0", concept="dots", **FAST)
    per_class = facts.tables["scores"].groupby("class").images.first()
    assert per_class.to_dict() == dict(enumerate(torch.bincount(labels, minlength=3).tolist()))


def test_scores_and_maps_do_not_depend_on_the_samples_explained_or_their_batch(seed):
    net, train, x, targets = small_cnn(), torch.rand(20, 3, 12, 12), torch.rand(5, 3, 12, 12), torch.arange(5) % 4
    first, facts = told(net, x, targets=targets, train=train, **FAST)
    for rows, batch, chunk in ((slice(None), 2, 3), (slice(3, 5), 1, 500)):
        again, own = told(net, x[rows], targets=targets[rows], train=train, batch=batch, chunk=chunk, **FAST)
        assert near(again, first[rows], 1e-4)
        assert own.single["concept"] == facts.single["concept"]
        assert own.tables["scores"].equals(facts.tables["scores"]) or np.allclose(
            own.tables["scores"].score, facts.tables["scores"].score, atol=0.11
        )
        assert len(torch.cat(own.per_sample["sensitivity"])) == len(again)


def test_nothing_is_changed_and_nothing_warns_also_in_place_and_reused(seed):
    net, x, train = small_cnn(), torch.rand(3, 3, 12, 12), torch.rand(9, 3, 12, 12)
    in_place = nn.Sequential(*[nn.ReLU(inplace=True) if isinstance(part, nn.ReLU) else part for part in net]).eval()
    guard, before, state = ModelGuard(net), x.clone(), torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, _ = told(net, x, train=train, layer="3", **FAST)
    assert guard.changes() == [] and torch.equal(x, before) and torch.equal(torch.random.get_rng_state(), state)
    again, _ = told(in_place, x, train=train, layer="3", **FAST)
    assert near(again, first)
    assert not near(
        told(net, x, train=train, layer="3", seed=1, concept="dots", **FAST)[0],
        told(net, x, train=train, layer="3", seed=2, concept="dots", **FAST)[0],
        1e-3,
    )


def test_runs_share_no_image_and_another_seed_draws_others(seed):
    shape = (3, 10, 14)
    sets = _concepts.drawn_sets(0, 3, shape)
    for name in (*_concepts.texture_names(3), "random"):
        pictures = torch.cat([sets(name, number) for number in range(6)] + [_concepts.drawn_sets(1, 3, shape)(name, 0)])
        assert pictures.shape == (21, *shape) and pictures.min() >= 0 and pictures.max() <= 1
        assert len(pictures.flatten(1).unique(dim=0)) == 21, name
        assert torch.equal(sets(name, 2), sets(name, 2))
    assert _concepts.texture_names(1) == tuple(_concepts.TEXTURES) and "red" in _concepts.texture_names(3)


def test_textures_and_colours_are_what_they_are_called(seed):
    keys = element(torch.tensor([seed]), torch.arange(40))
    image = lambda name, channels=3: _concepts.concept_images(name, keys, (channels, 32, 32)).double()
    for name in _concepts.TEXTURES:
        assert all(len(one.unique()) == 2 for one in image(name, 1)), f"{name}: two levels"
        levels = image(name, 1).flatten(1)
        assert near(levels.amax(1) - levels.amin(1), torch.full((40,), 0.5).double(), 1e-6)
    found = {name: float(Features()(F.interpolate(image(name), SIZE))[:, 0].mean() / 10) for name in _concepts.TEXTURES}
    assert found.pop("stripes") > 0.85 > 0.5 > max(found.values()), found
    for number, name in enumerate(_concepts.CONCEPT_COLOURS):
        others = [other for other in range(3) if other != number]
        assert (image(name)[:, number] >= image(name)[:, others].amax(1) + 0.59).all()
    spectrum = torch.fft.rfft2(image("random", 1)[:, 0]).abs().mean(0)
    assert 4 < float(spectrum[1, 0] / spectrum[8, 0]) < 16, "amplitudes fall with 1 / frequency"


def write_folder(root, counts, size=(9, 7)):
    for name, count in counts.items():
        (root / name).mkdir()
        for number in range(count):
            colour = (250, 10, 10) if name == "red" else tuple(int(v) for v in torch.randint(256, (3,)))
            Image.new("RGB", size, colour).save(root / name / f"{number}.png")


def test_concepts_may_come_from_folders_dealt_out_to_the_runs(tmp_path, seed):
    write_folder(tmp_path, {"red": 23, "other": 21, "random": 60})
    net, x = small_cnn(), torch.randn(2, 3, 12, 12)
    samples = samples_at(net, x, value_range=(torch.tensor([-1.0, 0, 0]), torch.tensor([1.0, 2, 4])))
    names, sets = concept_sets(samples, str(tmp_path), 10, 99)
    assert names == ("other", "red")
    assert near(sets("red", 3)[0, :, 5, 5], torch.tensor([2 * 250 / 255 - 1, 20 / 255, 40 / 255]), 1e-5)
    assert sum(len(sets("red", number)) for number in range(10)) == 23
    dealt = torch.cat([sets("random", number) for number in range(30)])
    assert len(dealt) == 60 and dealt.shape[1:] == (3, 12, 12)
    assert len(dealt.flatten(1).unique(dim=0)) == len(dealt)
    found, facts = told(net, x, concepts=str(tmp_path), concept="red")
    assert found.isfinite().all() and facts.single["cav_accuracy"]["red"] > 0.7


def test_folders_that_do_not_serve_are_told_in_one_line(tmp_path, seed):
    net, x = small_cnn(), torch.randn(2, 3, 12, 12)
    with pytest.raises(ValueError, match="expected textures or a folder"):
        told(net, x, concepts=str(tmp_path / "nowhere"), concept="red")
    write_folder(tmp_path, {"red": 19})
    with pytest.raises(ValueError, match="'random'"):
        told(net, x, concepts=str(tmp_path), concept="red")
    write_folder(tmp_path, {"random": 60})
    with pytest.raises(ValueError, match="'red' holds 19 images, expected at least 20 for 10 sets"):
        told(net, x, concepts=str(tmp_path), concept="red")
    (tmp_path / "red" / "bad.png").write_text("no image")
    with pytest.raises(ValueError, match="'bad.png' cannot be read"):
        told(net, x, concepts=str(tmp_path), concept="red")


def test_what_it_cannot_serve_is_not_applicable_with_a_reason(seed):
    net, x = small_cnn(), torch.randn(2, 3, 12, 12)
    targets = torch.tensor([0, 1])
    with pytest.raises(harness.NotApplicable, match="training images"):
        told(net, x)
    with pytest.raises(harness.NotApplicable, match="range of the inputs"):
        harness.explain("tcav", net, x, targets, concept="dots")
    with pytest.raises(harness.NotApplicable, match="train_labels"):
        harness.explain("tcav", net, x, targets, train=x, labels="label")
    with pytest.raises(harness.NotApplicable):
        harness.explain("tcav", nn.Sequential(nn.Flatten(), nn.Linear(432, 3)).eval(), x, targets, train=x)
    with pytest.raises(harness.NotApplicable, match="the same for all images"):
        told(nn.Sequential(model(lambda x: x * 0), *net).eval(), x, concept="dots")
    for options, match in (
        ({"runs": 9}, "runs (of .* )?is 9, expected"),
        ({"concept": "spots"}, "unknown concept 'spots'"),
        ({"penalty": 0.0}, "penalty (of .* )?is 0.0"),
        ({"labels": "labels"}, "labels of tcav is"),
        ({"images": 1}, "images (of .* )?is 1"),
        ({"layer": "12"}, "no layer '12'"),
    ):
        with pytest.raises(ValueError, match=match):
            told(net, x, train=x, **{"concept": "dots", **options})


def test_captum_counts_the_same_signs_along_the_same_vector(tmp_path, seed):
    from captum.concept import TCAV, Concept
    from captum.concept._utils.classifier import Classifier

    net, x, train = small_cnn(), torch.randn(12, 3, 12, 12), torch.rand(2, 3, 12, 12)
    samples = samples_of(net, x, torch.ones(12, dtype=torch.long), train=train)
    _, sets = concept_sets(samples, "textures", 10, 6)
    pictures = {"dots": sets("dots", 0), "random": sets("random", 0)}
    layer = choose_layer(net, samples, layer="0")
    hidden = {name: activations(net, layer, samples_at(net, each)) for name, each in pictures.items()}
    own = classifier(hidden["dots"], hidden["random"], 0.01)

    class Given(Classifier):
        """Captum's activations, our fit."""

        def __init__(self):
            pass

        def train_and_eval(self, dataloader, **kwargs):
            parts = [(values, label) for values, label in dataloader]
            values, labels = torch.cat([v for v, _ in parts]), torch.cat([label for _, label in parts])
            shape = (-1, *hidden["dots"].shape[1:])
            self.vector = classifier(values[labels == 0].view(shape), values[labels == 1].view(shape), 0.01).vector
            return {}

        def weights(self):
            return torch.stack([self.vector.flatten(), -self.vector.flatten()])

        def classes(self):
            return [0, 1]

    concepts = [Concept(number, name, pictures[name].split(3)) for number, name in enumerate(pictures)]
    theirs = TCAV(net, ["0"], classifier=Given(), save_path=str(tmp_path), model_id="net")
    found = theirs.interpret(x, [concepts], target=1)["0-1"]["0"]
    slopes = sensitivity_map(net, samples, samples.targets, ConceptDirection(layer, own.vector)).sum((1, 2, 3))
    assert float(found["sign_count"][0]) == pytest.approx(float((slopes > 0).double().mean()), abs=1e-6)
    assert float(found["magnitude"][0]) == pytest.approx(float(slopes.mean()), rel=1e-3)


@pytest.mark.parametrize("labels", [torch.rand(6), torch.full((6,), 9), torch.full((6,), -1)])
def test_labels_that_are_no_class_of_the_model_are_refused_in_one_line(labels, seed):
    x = torch.randn(6, 3, SIZE, SIZE)
    with pytest.raises(ValueError, match="expected class indices from 0 to 3"):
        harness.explain(
            "tcav",
            small_cnn(),
            harness.Data(x, torch.zeros(6).long(), train_labels=labels),
            labels="label",
            train=x,
            **FAST,
        )
