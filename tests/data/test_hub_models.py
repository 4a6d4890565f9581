"""Models of timm and Hugging Face from local files, without a network."""

import os

import pytest
import torch
from PIL import Image

import harness
from harness.engine.protocol import Protocol
from harness.engine.stage import set_stage
from harness.errors import UserError
from harness.sources import Data
from named_options import model_named

huggingface, timm = model_named("huggingface"), model_named("timm")

library = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = "the film was great ##ly ##est bad . , un ##like good a is and this one".split()
TEXTS = ["The film was greatly unlike good.", "bad, bad film", "Great", "this one is good and this one is unlikely bad"]
LENGTH = 12
CLASSES = ("bad", "neither", "good")
SMALL = {"num_labels": 3, "id2label": dict(enumerate(CLASSES)), "label2id": {name: n for n, name in enumerate(CLASSES)}}
BERT = {
    "vocab_size": 22,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}
DISTILBERT = {"vocab_size": 22, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 40}
GPT2 = {"vocab_size": 22, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 40}
LLAMA = {
    "vocab_size": 22,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}


def tokenizer(ends=True, **changed):
    """A tokenizer of word pieces, lower-cased, that puts a special token before and behind each text if it has ends."""
    pieces = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({piece: n for n, piece in enumerate(MARKS + PIECES)}, unk_token="[UNK]")
    )
    pieces.normalizer = tokenizers.normalizers.BertNormalizer()
    pieces.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    if ends:
        pieces.post_processor = tokenizers.processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), MARKS, strict=True)) | changed
    return transformers.PreTrainedTokenizerFast(tokenizer_object=pieces, **names)


def enlivened(net):
    """The network with weights of such a size that its outputs depend on its inputs."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return net.eval()


def saved(folder, net, companion):
    for each in (enlivened(net), companion):
        each.save_pretrained(folder)
    return str(folder), net


@pytest.fixture(params=["bert", "distilbert"])
def text(request, tmp_path, seed):
    """The folder of a tiny classifier of texts with random weights, and the network."""
    if request.param == "bert":
        net = transformers.BertForSequenceClassification(transformers.BertConfig(**BERT, **SMALL))
    else:
        net = transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(**DISTILBERT, **SMALL))
    return saved(tmp_path / "net", net, tokenizer())


@pytest.fixture(params=["vit", "resnet", "convnext"])
def image(request, tmp_path, seed):
    """The folder of a tiny classifier of images with random weights, the network and its processor."""
    if request.param == "vit":
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        net = transformers.ViTForImageClassification(
            transformers.ViTConfig(image_size=32, patch_size=8, **sizes, **SMALL)
        )
    elif request.param == "resnet":
        sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
        net = transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes, **SMALL))
    else:
        sizes = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}
        net = transformers.ConvNextForImageClassification(transformers.ConvNextConfig(**sizes, **SMALL))
    processor = transformers.ViTImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.25, 0.5]
    )
    return *saved(tmp_path / "net", net, processor), processor


def refusal(call, **options):
    with pytest.raises(UserError) as caught:
        call(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def of_text(folder, **options):
    return huggingface(**{"path": folder, "kind": "text", "length": LENGTH, **options})


def own_logits(net, texts, length=LENGTH):
    """What the network gives for the texts' token ids."""
    given = tokenizer()(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    with torch.no_grad():
        return net(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits


# timm


def test_weights_of_a_file_give_the_outputs_they_were_saved_with(tmp_path, seed):
    net = enlivened(library.create_model("test_vit", num_classes=5))
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    pytest.importorskip("safetensors.torch").save_file(net.state_dict(), tmp_path / "weights.safetensors")
    inputs = torch.randn(2, 3, 160, 160)
    for file in ("weights.pt", "weights.safetensors"):
        loaded = timm(architecture="test_vit", outputs=5, weights=str(tmp_path / file))
        assert torch.equal(loaded.module(inputs), net(inputs))
    assert "do not fit test_vit" in refusal(timm, architecture="test_vit", weights=str(tmp_path / "weights.pt"))


def test_random_weights_depend_on_the_seed_alone_and_nothing_works_in_place(seed):
    inputs = torch.randn(1, 3, 64, 64)
    nets = [timm(architecture="test_resnet", outputs=4, seed=number).module for number in (seed, seed, seed + 1)]
    first, again, other = (net(inputs) for net in nets)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not any(getattr(part, "inplace", False) or part.training for part in nets[0].modules())


def test_images_are_prepared_as_the_models_own_configuration_says(seed):
    loaded, picture = timm(architecture="test_resnet"), Image.effect_noise((200, 260), 64).convert("RGB")
    config = library.data.resolve_model_data_config(library.create_model("test_resnet"))
    expected = library.data.create_transform(**config, is_training=False)(picture)
    assert torch.equal(loaded.preprocess(picture), expected) and loaded.preprocess(picture.convert("L")).shape[0] == 3
    for bound, value in zip(loaded.value_range, (0.0, 1.0), strict=True):
        mean, deviation = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
        torch.testing.assert_close(bound, (value - mean) / deviation)


def test_a_transformer_can_be_made_for_another_size_and_a_cnn_takes_any(seed):
    for architecture in ("test_vit", "test_resnet"):
        loaded = timm(architecture=architecture, size=64, outputs=2)
        inputs = loaded.preprocess(Image.new("RGB", (100, 90)))
        assert inputs.shape == (3, 64, 64) and loaded.module(inputs[None]).shape == (1, 2)


def test_unknown_architectures_and_files_are_one_line(tmp_path, monkeypatch):
    assert "did you mean resnet18" in refusal(timm, architecture="resnet_18")
    assert "weights=pretrained, or weights=FILE" in refusal(timm, architecture="test_resnet", weights="pretraind")
    assert "timm cannot make resnet18.bogus" in refusal(timm, architecture="resnet18.bogus")

    def offline(*_, **__):
        raise OSError("no route to host\nsecond line")

    monkeypatch.setattr(library, "create_model", offline)
    said = refusal(timm, architecture="resnet18", weights="pretrained")
    assert "no route to host" in said and "weights=FILE" in said


# Hugging Face, images


def test_a_classifier_of_images_gives_its_own_logits_names_and_inputs(image):
    folder, net, processor = image
    loaded = huggingface(path=folder)
    picture = Image.effect_noise((50, 40), 64).convert("RGB")
    inputs = loaded.preprocess(picture)
    assert torch.equal(inputs, processor(images=picture, return_tensors="pt")["pixel_values"][0])
    torch.testing.assert_close(loaded.module(inputs[None]), net(pixel_values=inputs[None]).logits)
    assert loaded.classes == CLASSES and loaded.preprocess(picture.convert("L")).shape == (3, 32, 32)
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in (processor.image_mean, processor.image_std))
    for bound, value in zip(loaded.value_range, (0.0, 1.0), strict=True):
        torch.testing.assert_close(bound, (value - mean) / deviation)


def test_explainers_of_images_work_on_it(image, seed):
    folder, *_ = image
    module = huggingface(path=folder).module
    inputs, targets = torch.rand(2, 3, 32, 32), torch.tensor([0, 2])
    for name in ("gradient", "integrated_gradients", "grad_cam", "lrp", "occlusion"):
        assert harness.explain(name, module, inputs, targets).abs().sum() > 0, name


# Hugging Face, texts


def own_outputs(loaded, texts):
    """The logits of a loaded model for texts, as the engine calls it: the embeddings with what goes along."""
    carried = [loaded.wording.carried(each) for each in texts]
    carried = {name: torch.stack([each[name] for each in carried]) for name in carried[0]}
    return loaded.module(torch.stack([loaded.preprocess(each) for each in texts]), **carried).logits


def test_logits_on_embeddings_are_those_on_token_ids(text):
    folder, net = text
    loaded = of_text(folder)
    assert loaded.preprocess(TEXTS[0]).shape == (LENGTH, 16) and loaded.classes == CLASSES
    torch.testing.assert_close(own_outputs(loaded, TEXTS), own_logits(net, TEXTS), rtol=1e-5, atol=1e-5)


def test_padding_changes_nothing_and_what_is_too_long_is_left_out(text):
    folder, net = text
    for length in (LENGTH, 20):
        found = own_outputs(of_text(folder, length=length), TEXTS[1:2])
        torch.testing.assert_close(found, own_logits(net, TEXTS[1:2], 7), rtol=1e-5, atol=1e-5)
    short = of_text(folder, length=6)
    assert short.preprocess(TEXTS[0]).shape == (6, 16) and len(short.wording.tokens(TEXTS[0])) == 6
    torch.testing.assert_close(own_outputs(short, TEXTS[:1]), own_logits(net, TEXTS[:1], 6), rtol=1e-5, atol=1e-5)


def test_padding_is_attended_to_by_nobody_whatever_its_embedding_is(text):
    folder, _ = text
    loaded = of_text(folder)
    carried = {name: values[None] for name, values in loaded.wording.carried(TEXTS[2]).items()}
    inputs = loaded.preprocess(TEXTS[2])[None]
    other = inputs.clone()
    other[0, 3:] += torch.randn(LENGTH - 3, 16)
    torch.testing.assert_close(loaded.module(other, **carried).logits, loaded.module(inputs, **carried).logits)
    leaf = inputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loaded.module(leaf, **carried).logits[0, 0], leaf)
    assert gradient[0, :3].abs().amin(0).max() > 0 and gradient[0, 3:].abs().max() == 0


def test_a_text_without_a_word_is_one_line_that_names_it(text):
    folder, _ = text
    data = Data(["good", " "], labels=torch.tensor([0, 1]), modality="tokens", ids=["first", "nothing"])
    with pytest.raises(UserError, match="sample 'nothing' cannot be read.*the text has no token"):
        set_stage(of_text(folder), data, Protocol(), torch.device("cpu"))


def test_tokens_words_and_fillers_are_those_of_the_tokenizer(text):
    folder, net = text
    wording = of_text(folder).wording
    shown = ["[CLS]", "The", "film", "was", "great", "ly", "un", "like", "good", ".", "[SEP]"]
    assert wording.tokens(TEXTS[0]) == shown
    assert wording.words(TEXTS[0]).tolist() == [7, 0, 1, 2, 3, 3, 4, 4, 5, 6, 7, 7]
    assert wording.words("").tolist() == [0] * LENGTH and wording.tokens("") == ["[CLS]", "[SEP]"]
    embedding = net.get_input_embeddings().weight
    assert torch.equal(wording.fillers["pad"], embedding[0]) and torch.equal(wording.fillers["mask"], embedding[4])


def test_the_readers_embeddings_are_its_own(text):
    folder, _ = text
    loaded = of_text(folder)
    before = loaded.preprocess(TEXTS[0])
    with torch.no_grad():
        loaded.module.module.get_input_embeddings().weight.zero_()
    assert torch.equal(loaded.preprocess(TEXTS[0]), before) and not before.requires_grad


def staged(folder):
    data = Data(TEXTS, labels=torch.tensor([0, 1, 2, 0]), modality="tokens")
    return set_stage(of_text(folder), data, Protocol(), torch.device("cpu"))


def test_words_and_fillers_reach_the_samples(text):
    folder, _ = text
    ((_, samples),) = staged(folder).chunks()
    assert samples.given_segments.shape == (4, LENGTH) and set(samples.fillers) == {"pad", "mask"}
    assert samples.segments("given").most == max(int(words.max()) + 1 for words in samples.given_segments)


NEEDED = {"gradient", "integrated_gradients", "lime", "kernel_shap", "attn_lrp", "attention_rollout", "attention"}


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_explainers_of_texts_work_on_it(text, name, seed):
    folder, _ = text
    loaded = of_text(folder)
    given = {"segments": "given", "samples": 60} if name in ("lime", "kernel_shap") else {}
    found = harness.explain(name, loaded, harness.Data(TEXTS, torch.tensor([0, 2, 1, 0]), modality="tokens"), **given)
    maps = found.sum(2)
    assert maps.shape == (4, LENGTH) and maps.abs().amax(1).min() > 0
    units = torch.stack([loaded.wording.present(each) for each in TEXTS])
    assert (maps[~units] == 0).all() and (maps[units] != 0).float().mean() > 0.9
    if given:  # the pieces of one word have one number
        assert torch.equal(maps[0, 4], maps[0, 5]) and torch.equal(maps[0, 6], maps[0, 7]) and maps[0, 4] != maps[0, 6]


# What is refused


def test_a_folder_that_is_none_says_where_and_what_was_expected(tmp_path):
    assert "needs model.path=FOLDER" in refusal(huggingface)
    assert "did you mean 'image'" in refusal(huggingface, path=str(tmp_path), kind="images")
    assert f"from folder {tmp_path}" in refusal(huggingface, path=str(tmp_path))
    said = refusal(huggingface, path="nobody/nothing", kind="text")
    assert "nobody/nothing, which is no folder here" in said and "model.download=true" in said


def test_a_folder_without_its_processor_or_tokenizer_is_one_line(image, tmp_path):
    folder, net, _ = image
    os.remove(os.path.join(folder, "preprocessor_config.json"))
    assert "an image processor could not be loaded" in refusal(huggingface, path=folder)
    assert "a model could not be loaded" in refusal(huggingface, path=folder, kind="text")


def test_a_model_without_a_trained_head_is_refused(tmp_path, seed):
    net = transformers.BertForSequenceClassification(transformers.BertConfig(**BERT, **SMALL))
    folder, _ = saved(tmp_path, net.bert, tokenizer())
    said = refusal(of_text, folder=folder)
    assert "parts would be random" in said and "classifier.weight" in said


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_weights_that_would_run_code_are_refused_and_nothing_runs(text, tmp_path):
    folder, _ = text
    os.remove(os.path.join(folder, "model.safetensors"))
    torch.save({"classifier.weight": Bomb(tmp_path / "went off")}, os.path.join(folder, "pytorch_model.bin"))
    assert "a model could not be loaded" in refusal(of_text, folder=folder)
    assert not (tmp_path / "went off").exists()


def test_a_length_beyond_the_positions_and_a_tokenizer_without_padding_are_refused(tmp_path, seed):
    net = transformers.BertForSequenceClassification(transformers.BertConfig(**BERT, **SMALL))
    folder, _ = saved(tmp_path, net, tokenizer())
    assert "length is 41, expected at most 40 tokens" in refusal(of_text, folder=folder, length=41)
    assert "length of huggingface is 0" in refusal(of_text, folder=folder, length=0)
    tokenizer(pad_token=None).save_pretrained(folder)
    assert "has no padding token" in refusal(of_text, folder=folder)


def of_last_token(kind):
    """A classifier that pools at the last token which is no padding, and its tokenizer, which adds no special ones."""
    if kind == "gpt2":
        net = transformers.GPT2ForSequenceClassification(transformers.GPT2Config(**GPT2, **SMALL))
    else:
        net = transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**LLAMA, **SMALL))
    return net, tokenizer(pad_token=None, cls_token=None, sep_token=None, eos_token="[SEP]", ends=False)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_model_that_pools_at_the_last_token_and_has_no_padding_token_is_right_at_any_length(kind, tmp_path, seed):
    net, words = of_last_token(kind)
    folder, _ = saved(tmp_path, net, words)
    expected = torch.cat([net(**words(each, return_tensors="pt")).logits for each in TEXTS]).detach()
    for length in (20, 30):
        loaded = of_text(folder, length=length)
        torch.testing.assert_close(own_outputs(loaded, TEXTS), expected, rtol=1e-4, atol=1e-4)
        data = harness.Data(TEXTS, expected.argmax(1), modality="tokens")
        frame = harness.evaluate(loaded, data, explainers=["gradient", "random"], metrics=["srg", "sparseness"])
        assert set(frame["status"]) == {"ok"}


def test_padding_that_the_model_does_not_know_as_such_is_refused(tmp_path, seed):
    net, words = of_last_token("gpt2")
    net.config.pad_token_id = 7  # a word
    words.pad_token = "[PAD]"
    folder, _ = saved(tmp_path, net, words)
    assert "other logits for a text that is padded" in refusal(of_text, folder=folder)


def test_an_item_that_is_no_text_is_one_line(text):
    folder, _ = text
    assert "expected a text" in refusal(of_text(folder).preprocess, text=3)


def test_no_network_is_asked_unless_wanted(text, monkeypatch):
    folder, _ = text
    asked = []
    monkeypatch.setattr(
        transformers.AutoTokenizer, "from_pretrained", lambda *_, **given: asked.append(given) or tokenizer()
    )
    of_text(folder), of_text(folder, download=True)
    assert [given["local_files_only"] for given in asked] == [True, False]
    assert not any(given["trust_remote_code"] for given in asked)


def test_deletion_and_subsets_score_it(text, seed):
    folder, _ = text
    loaded = of_text(folder)
    frame = harness.evaluate(
        loaded,
        harness.Data(TEXTS, own_outputs(loaded, TEXTS).argmax(1), modality="tokens"),
        explainers=["gradient", "random"],
        metrics=["srg", "sensitivity_n"],
    )
    assert set(frame["status"]) == {"ok"}
    assert set(frame[frame["value"].isna()]["sample"]) <= {"2"}  # a text of one token


@pytest.mark.parametrize("name", ["integrated_gradients", "attention_rollout", "lime", "random"])
def test_maps_and_scores_of_a_text_are_the_same_at_any_length(text, name, seed):
    folder, _ = text
    maps, scores = [], []
    for length in (16, 32):
        loaded = of_text(folder, length=length)
        data = harness.Data(TEXTS, torch.tensor([0, 2, 1, 0]), modality="tokens")
        maps.append(harness.explain(name, loaded, data))
        scores.append(harness.score("comprehensiveness", loaded, data, maps[-1]))
    first = torch.stack([loaded.wording.present(each) for each in TEXTS])[:, :16]
    assert first.any(1).all() and (maps[1][:, 16:] == 0).all()
    torch.testing.assert_close(maps[1][:, :16], maps[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-4, atol=1e-5)
