"""The layer that a map is made of, by name, on the architectures of three libraries, and how its output is read."""

import pytest
import timm
import torch
import torchvision
import transformers
from torch import nn

import harness
from explainer_worlds import linear_net, model, small_cnn
from harness.api import samples_of
from harness.explainers._at_layer import mapped
from harness.explainers._layers import choose_layer
from harness.explainers._layouts import CHANNELS_FIRST, CHANNELS_LAST, TOKENS, ShapeReader, settle
from harness.models.lite0 import EfficientNetLite0

TORCHVISION = torchvision.models


def samples(net, shape, modality=None):
    return samples_of(net.eval(), torch.randn(2, *shape), torch.zeros(2, dtype=torch.long), modality=modality)


def layer_of(net, shape, layer=None, modality=None):
    return choose_layer(net, samples(net, shape, modality), layer=layer)


def name_of(net, shape, **options):
    return layer_of(net, shape, **options).name


class Logits(nn.Module):
    """A model of the transformers library as one that gives logits."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).logits


def torchvision_vit():
    net = TORCHVISION.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3)  # vit_b_16 made small
    nn.init.normal_(net.heads.head.weight)  # zero where untrained
    return net


def vgg():
    return TORCHVISION.VGG(TORCHVISION.vgg.make_layers(TORCHVISION.vgg.cfgs["A"], True), 3, init_weights=False)


def small_swin():
    return TORCHVISION.SwinTransformer([4, 4], 8, [1, 1], [1, 1], [2, 2], num_classes=3)


def timm_vit(name="vit_tiny_patch16_224", **options):
    return timm.create_model(name, img_size=64, num_classes=3, depth=2, **options)


def timm_net(name, **options):
    return timm.create_model(name, num_classes=3, **options)


def hugging_face_vit(**options):
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        patch_size=16,
        **options,
    )
    return Logits(transformers.ViTForImageClassification(config))


def hugging_face_swin():
    config = transformers.SwinConfig(
        embed_dim=8, depths=[1, 1], num_heads=[2, 2], image_size=32, patch_size=2, window_size=4
    )
    return Logits(transformers.SwinForImageClassification(config))


FIRST, LAST = (CHANNELS_FIRST, 0), (CHANNELS_LAST, 0)
CHOICES = {
    "torchvision resnet18": (TORCHVISION.resnet18, "layer4", FIRST, (2, 2)),
    "torchvision vgg11_bn": (vgg, "features", FIRST, (2, 2)),
    "torchvision densenet121": (TORCHVISION.densenet121, "features", FIRST, (2, 2)),
    "torchvision efficientnet_b0": (TORCHVISION.efficientnet_b0, "features", FIRST, (2, 2)),
    "torchvision mobilenet_v3": (TORCHVISION.mobilenet_v3_small, "features", FIRST, (2, 2)),
    "torchvision squeezenet": (TORCHVISION.squeezenet1_1, "classifier.2", FIRST, (3, 3)),
    "torchvision convnext_tiny": (TORCHVISION.convnext_tiny, "features", FIRST, (2, 2)),
    "torchvision swin_t": (TORCHVISION.swin_t, "permute", FIRST, (2, 2)),
    "torchvision vit": (torchvision_vit, "encoder.layers.encoder_layer_1.ln_1", (TOKENS, 1), (4, 4)),
    "timm resnet18": (lambda: timm_net("resnet18"), "layer4", FIRST, (2, 2)),
    "timm efficientnet_lite0": (lambda: timm_net("efficientnet_lite0"), "blocks.6", FIRST, (2, 2)),
    "timm convnext_atto": (lambda: timm_net("convnext_atto"), "stages.3", FIRST, (2, 2)),
    "timm swin": (
        lambda: timm_net("swin_tiny_patch4_window7_224", img_size=64, window_size=4, embed_dim=24, depths=(1, 1, 1, 1)),
        "layers.3",
        LAST,
        (2, 2),
    ),
    "timm vit": (timm_vit, "blocks.1.norm1", (TOKENS, 1), (4, 4)),
    "timm vit with registers": (
        lambda: timm_vit("vit_small_patch14_reg4_dinov2", patch_size=16),
        "blocks.1.norm1",
        (TOKENS, 5),
        (4, 4),
    ),
    "timm vit distilled": (lambda: timm_vit("deit_tiny_distilled_patch16_224"), "blocks.1.norm1", (TOKENS, 2), (4, 4)),
    "timm vit that averages": (lambda: timm_vit(global_pool="avg"), "blocks.1", (TOKENS, 1), (4, 4)),
    "transformers vit": (hugging_face_vit, "net.vit.layers.1.layernorm_before", (TOKENS, 1), (4, 4)),
    "transformers vit, plain attention": (
        lambda: hugging_face_vit(attn_implementation="eager"),
        "net.vit.layers.1.layernorm_before",
        (TOKENS, 1),
        (4, 4),
    ),
    "transformers swin": (hugging_face_swin, "net.swin.layernorm", (TOKENS, 0), (8, 8)),
    "lite0": (EfficientNetLite0, "head", FIRST, (2, 2)),
}


@pytest.mark.parametrize("case", CHOICES)
def test_the_layer_is_the_last_that_has_places_which_the_output_is_computed_from(case, seed):
    make, name, (kind, prefix), grid = CHOICES[case]
    net = make().eval()
    side = 32 if case in ("torchvision vit", "transformers swin") else 64
    context = samples(net, (3, side, side))
    layer = choose_layer(net, context)
    assert (layer.name, layer.layout.kind, layer.layout.prefix, layer.layout.grid) == (name, kind, prefix, grid)
    gradients = mapped(net, layer, context, lambda values, gradients: gradients, context.targets)
    assert gradients.shape[2:] == grid and gradients.flatten(1).abs().amax(1).gt(0).all()


@pytest.mark.parametrize(("make", "blank"), [(timm_vit, "blocks.1"), (torchvision_vit, "encoder")])
def test_the_last_blocks_places_that_are_passed_over_have_no_gradient(make, blank, seed):
    net = make().eval()
    context = samples(net, (3, 32, 32) if make is torchvision_vit else (3, 64, 64))
    layer = choose_layer(net, context, layer=blank)  # a layer that is asked for is taken
    assert not mapped(net, layer, context, lambda values, gradients: gradients, context.targets).any()


def test_the_choice_does_not_hang_on_the_weights_of_the_head():
    net = TORCHVISION.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3)
    assert not net.heads.head.weight.any()
    assert name_of(net, (3, 32, 32)) == "encoder.layers.encoder_layer_1.ln_1"


def test_a_library_model_inside_a_wrapper_is_known():
    normalised = nn.Sequential(model(lambda x: x / 2), timm_net("efficientnet_lite0"))
    assert name_of(normalised, (3, 64, 64)) == "1.blocks.6"
    assert name_of(nn.Sequential(nn.Identity(), timm_vit()), (3, 64, 64)) == "1.blocks.1.norm1"


def test_a_layer_called_twice_is_passed_over():
    shared = nn.Tanh()
    assert name_of(nn.Sequential(nn.Conv2d(3, 5, 3), shared, shared, nn.Flatten()), (3, 8, 8)) == "0"


def test_pooling_itself_is_passed_over():
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))  # as in VGG
    net = nn.Sequential(features, nn.AdaptiveAvgPool2d(7), nn.Dropout2d(), nn.Flatten())
    assert name_of(net, (3, 64, 64)) == "0"
    assert name_of(small_cnn(), (3, 8, 8)) == "4"
    assert name_of(nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten()), (1, 9, 12)) == "0"


def test_swin_is_read_with_channels_last_where_it_never_turns_them():
    swin = small_swin()
    assert name_of(swin, (3, 32, 32)) == "permute"
    swin.permute, swin.flatten = nn.Identity(), nn.Identity()
    swin.avgpool = model(lambda z: z.mean((1, 2)))
    layer = layer_of(swin, (3, 32, 32))
    assert layer.layout.kind == CHANNELS_LAST and layer.layout.grid == (4, 4)


class Turned(nn.Module):
    """Eight channels on 8 x 8 places of 16 x 16 pixels, laid out either way, by functions only."""

    def __init__(self, last):
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1), last
        self.out = nn.Identity()

    def forward(self, x):
        z = torch.tanh(self.second(torch.tanh(self.first(x))))
        return self.out(z.movedim(1, -1) if self.last else z).flatten(1)[:, :3]


@pytest.mark.parametrize("last", [False, True])
def test_as_many_channels_as_rows_and_columns_are_told_apart_by_where_a_change_goes(last, seed):
    layer = layer_of(Turned(last), (3, 16, 16))
    assert (layer.name, layer.layout.kind) == ("out", CHANNELS_LAST if last else CHANNELS_FIRST)


def test_what_follows_no_change_of_the_input_cannot_be_read(seed):
    noise = torch.randn(8, 8, 8)
    net = Turned(False)
    net.out = model(lambda z: z.mean((1, 2, 3), keepdim=True) * noise)
    with pytest.raises(harness.NotApplicable, match=r"which axes of the output \('N', 8, 8, 8\) of layer 'out'"):
        layer_of(net, (3, 16, 16))


def test_modules_with_channels_of_their_own_say_where_they_are_and_what_follows_keeps_them(seed):
    blind = nn.Conv2d(3, 8, 3, padding=1)
    nn.init.zeros_(blind.weight)  # no change of the input shows
    net = nn.Sequential(nn.Sequential(blind, nn.ReLU()), nn.Flatten(), nn.Linear(512, 3))
    layer = layer_of(net, (3, 8, 8))
    assert (layer.name, layer.layout.kind) == ("0", CHANNELS_FIRST)
    turned = nn.Sequential(blind, model(lambda z: z.movedim(1, -1)), nn.LayerNorm(8), nn.ReLU(), nn.Flatten())
    layer = layer_of(turned, (3, 8, 8))
    assert (layer.name, layer.layout.kind) == ("3", CHANNELS_LAST)


def test_a_layer_norm_over_channels_that_come_first_is_read_so():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), TORCHVISION.convnext.LayerNorm2d(4), nn.ReLU(), nn.Flatten())
    layer = layer_of(net, (3, 12, 20))
    assert (layer.name, layer.layout.kind, layer.layout.grid) == ("2", CHANNELS_FIRST, (10, 18))


def test_tokens_lie_on_the_grid_of_the_map_they_were_made_from():
    reader = ShapeReader((48, 96))
    assert [layout.grid for layout in reader.read((1, 16, 6, 12))] == [(6, 12)]
    (layout,) = reader.read((1, 75, 16))
    assert (layout.grid, layout.prefix) == ((6, 12), 3)
    assert reader.read((1, 33, 72)) == [], "a flattened map of 33 channels"
    assert reader.read((4, 18, 16)) == [], "windows"


def test_what_lies_inside_an_attention_has_no_places():
    reader = ShapeReader((64, 64))
    assert reader.read((1, 2, 17, 17)), "by its shape it could be a map"
    assert reader.read((1, 17, 8))[0].prefix == 1
    assert reader.read((1, 2, 17, 17)) == reader.read((1, 2, 17, 16)) == []


def test_tokens_without_a_map_lie_on_the_only_grid_of_patches_that_fits():
    (layout,) = ShapeReader((48, 96)).read((1, 33, 16))
    assert (layout.grid, layout.prefix) == ((4, 8), 1)
    assert ShapeReader((48, 96)).read((1, 30, 16)) == [], "no patches of that number"
    assert ShapeReader((48, 48), prefix=0).read((1, 17, 8)) == []
    (layout,) = ShapeReader((60, 60)).read((1, 41, 8))
    assert (layout.grid, layout.prefix) == ((6, 6), 5)


class Patches(nn.Module):
    """Tokens of 4 x 4 pixel patches, without a map before them and with others in front, averaged and read out."""

    def __init__(self, front):
        super().__init__()
        self.embed, self.norm, self.head = nn.Linear(16, 8), nn.LayerNorm(8), nn.Linear(8, 3)
        self.front = nn.Parameter(torch.randn(1, front, 8))

    def forward(self, x):
        tokens = self.embed(nn.functional.unfold(x, 4, stride=4).transpose(1, 2))
        tokens = torch.cat([self.front.expand(len(x), -1, -1), tokens], 1)
        return self.head(self.norm(tokens).mean(1))


def test_tokens_made_by_hand_are_read_too(seed):
    layer = layer_of(Patches(2), (1, 12, 20))
    assert (layer.name, layer.layout.grid, layer.layout.prefix) == ("norm", (3, 5), 2)


def test_tokens_that_fit_two_grids_are_told_apart_by_where_a_change_goes_or_not_at_all(seed):
    both = ShapeReader((60, 60)).read((1, 17, 8))
    assert {(layout.grid, layout.prefix) for layout in both} == {((4, 4), 1), ((3, 3), 8)}
    places = lambda x: nn.functional.avg_pool2d(x, 15).flatten(2).transpose(1, 2).repeat(1, 1, 8)
    tokens = lambda x: torch.cat([torch.zeros(len(x), 1, 8), places(x)], 1)
    one = torch.rand(1, 1, 60, 60)
    assert settle(both, tokens, one).grid == (4, 4)
    assert settle(both, lambda x: x.mean() + torch.zeros(len(x), 17, 8), one) is None


def test_models_without_places_are_not_applicable():
    with pytest.raises(harness.NotApplicable, match="no layer"):
        name_of(linear_net((3, 4, 4))[0], (3, 4, 4))
    with pytest.raises(harness.NotApplicable, match="more than one place"):
        name_of(nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten()), (3, 8, 8))
    pooled = nn.Sequential(model(lambda x: x.mean((2, 3), keepdim=True)[:, :2]), nn.Flatten())
    with pytest.raises(harness.NotApplicable, match="no layer"):
        name_of(pooled, (3, 8, 8))
    with pytest.raises(harness.NotApplicable, match="no layer"):  # the ImageNet stem leaves one place of 32 x 32
        name_of(nn.Sequential(nn.Conv2d(3, 4, 32), nn.ReLU(), nn.Flatten()), (3, 32, 32))


@pytest.mark.parametrize("name", ["mixer_s32_224", "resmlp_12_224"])
def test_tokens_that_linear_layers_mix_are_read_where_they_stay_in_order(name, seed):
    net = timm_net(name, img_size=64)
    layer = layer_of(net, (3, 64, 64))
    assert (layer.name, layer.layout.kind, layer.layout.prefix) == (f"blocks.{len(net.blocks) - 1}", TOKENS, 0)


class Shuffling(nn.Module):
    """Patches that a linear layer mixes evenly, without any of them kept beside it."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm, self.mix = nn.Conv2d(1, 8, 4, 4), nn.LayerNorm(8), nn.Linear(9, 9)
        self.out = nn.LayerNorm(8)
        nn.init.constant_(self.mix.weight, 1 / 9)

    def forward(self, x):
        tokens = self.norm(self.patches(x).flatten(2).mT)
        return self.out(self.mix(tokens.mT).mT).mean(1)[:, :3]


def test_tokens_that_are_not_in_order_any_more_have_no_map(seed):
    net = Shuffling()
    with pytest.raises(harness.NotApplicable, match="linear layers mix the places: the tokens of 'out'"):
        name_of(net, (1, 12, 12))
    assert name_of(net, (1, 12, 12), layer="norm") == "norm"


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("make", [torch.jit.script, lambda net: torch.jit.trace(net, torch.zeros(1, 3, 8, 8))])
def test_torchscript_is_named_as_the_reason(make):
    net = make(small_cnn())
    for whole in (net, nn.Sequential(net)):
        with pytest.raises(harness.NotApplicable, match="place; those inside its TorchScript program cannot be seen"):
            name_of(whole, (3, 8, 8))
    with pytest.raises(harness.NotApplicable, match="layer '0' is part of a TorchScript program"):
        name_of(net, (3, 8, 8), layer="0")
    behind = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), net)
    assert name_of(behind, (3, 8, 8)) == "0", "a layer that can be seen"


def test_a_layer_asked_for_must_be_called_once_and_have_places():
    net = small_cnn()
    assert name_of(net, (3, 8, 8), layer="0") == "0"
    with pytest.raises(harness.NotApplicable, match=r"layer '7' gives \(1, 4\)"):
        name_of(net, (3, 8, 8), layer="7")
    with pytest.raises(harness.NotApplicable, match=r"layer '5' gives \(1, 8, 1, 1\)"):
        name_of(net, (3, 8, 8), layer="5")
    net.unused = nn.ReLU()
    net.forward = lambda x: nn.Sequential(*list(net)[:-1])(x)
    with pytest.raises(harness.NotApplicable, match="'unused' is called 0 times"):
        name_of(net, (3, 8, 8), layer="unused")


def test_a_misspelt_layer_is_told_with_close_names():
    with pytest.raises(ValueError, match="no layer 'layr4', expected .* like layer4"):
        name_of(TORCHVISION.resnet18(), (3, 64, 64), layer="layr4")


def test_a_series_is_read_with_channels_first_only(seed):
    net = nn.Sequential(
        nn.Conv1d(2, 8, 5),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(8, 12, 3),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(12, 3),
    )
    layer = layer_of(net, (2, 40), modality="series")
    assert (layer.name, layer.layout.kind, layer.layout.grid) == ("5", CHANNELS_FIRST, (16,))
    turned = nn.Sequential(nn.Conv1d(2, 8, 3), model(lambda z: z.transpose(1, 2)), nn.LayerNorm(8), nn.Flatten())
    with pytest.raises(harness.NotApplicable, match="cannot be told"):
        layer_of(turned, (2, 40), modality="series")


def test_a_compiled_model_is_asked_layer_by_layer(seed):
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(180, 3)).eval()
    x, targets = torch.randn(2, 3, 8, 8), torch.tensor([0, 1])
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    compiled(x)
    assert torch.equal(harness.explain("grad_cam", compiled, x, targets), harness.explain("grad_cam", net, x, targets))
