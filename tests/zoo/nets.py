"""The models that every explainer is tried on: their kinds of layers are what people's models are made of."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TABULAR = {
    "permutation_importance",
    "mutual_information",
    "rfe",
    "random_forest",
    "linear_surrogate",
    "tree_surrogate",
    "rule_list",
    "anchors",
    "counterfactuals",
}
ATTENTION_MAPS = {"attention", "attention_rollout", "transformer_attribution", "att_cat"}
ATTENTION = ATTENTION_MAPS | {"attn_lrp", "cp_lrp"}
MAPS = {
    "grad_cam",
    "grad_cam_pp",
    "xgrad_cam",
    "hires_cam",
    "layer_cam",
    "score_cam",
    "eigen_cam",
    "activation_map",
    "ablation_cam",
    "smoothgrad_cam_pp",
    "vit_cx",
    "full_grad",
    "blur_ig",
}
GATED = {"guided_backprop", "deconvnet", "guided_grad_cam"}
PICTURES = {"edge", "center", "tcav", "xrai", "extremal_perturbation"}
SERIES = {"dyna_mask", "extrmask"}
KINKED = {"integrated_hessians"}  # without beta not applicable to ReLUs


class FunctionalCNN(nn.Module):
    """Activations, pooling and a residual as plain functions: there is no module to hook."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.out = nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        x = F.relu(x + self.norm(self.second(x)))
        return self.out(x.mean((2, 3)))


class ReusingCNN(nn.Module):
    """One ReLU module, in place, and one convolution serve twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.relu, self.pool, self.out = nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.first(x)))
        x = self.relu(self.twice(x))
        x = self.relu(self.twice(x))
        return self.out(x.amax((2, 3)))


class Logits(nn.Module):
    """A Hugging Face classifier as a module from one float tensor to logits."""

    def __init__(self, model: nn.Module, argument: str) -> None:
        super().__init__()
        self.model, self.argument = model, argument

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(**{self.argument: inputs}).logits


@dataclass(frozen=True)
class Net:
    """A model, the shape of its inputs, the explainers that do not apply to it, and options that make some quick."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    not_applicable: set[str]
    modality: str = "image"
    classes: int = 5
    options: dict[str, dict[str, object]] = field(default_factory=dict)


def _narrow(model: nn.Module, classes: int = 5) -> nn.Module:
    """The same layers in the same order, each with an eighth of its channels: the widths make a net slow, not odd."""
    part = lambda count: count if count in (3, classes) else max(count // 8, 1)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            sizes = part(layer.in_channels), part(layer.out_channels), layer.kernel_size, layer.stride, layer.padding
            layer.__init__(*sizes, groups=part(layer.groups), bias=layer.bias is not None)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.__init__(part(layer.num_features), layer.eps, momentum=1)  # all of the statistics below
        elif isinstance(layer, nn.Linear):
            layer.__init__(part(layer.in_features), part(layer.out_features))
    with torch.no_grad():
        model.train()(torch.randn(8, 3, 64, 64))
    return model


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from torchvision import models

        return _narrow(getattr(models, name)(weights=None, num_classes=5))

    return make


def _efficientnet_b0() -> nn.Module:
    """As ``_torchvision``, and no block is repeated more than once: further repetitions are no other kind of layer."""
    from torchvision import models

    model = models.efficientnet_b0(weights=None, num_classes=5)
    for stage in model.features:
        if type(stage) is nn.Sequential:  # its subclasses are single blocks
            del stage[2:]
    return _narrow(model)


def _vit() -> nn.Module:
    """torchvision's vision transformer, small."""
    from torchvision.models import VisionTransformer

    return VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=5
    )


def _swin() -> nn.Module:
    """torchvision's Swin transformer, with merged patches and shifted windows, small."""
    from torchvision.models import SwinTransformer

    return SwinTransformer([4, 4], 32, [2, 2], [2, 4], window_size=[4, 4], num_classes=5)


def _convnext() -> nn.Module:
    """torchvision's ConvNeXt with two stages."""
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(32, 64, 2), CNBlockConfig(64, None, 2)], num_classes=5)


def _timm_vit() -> nn.Module:
    import timm

    sizes = {"depth": 3, "embed_dim": 48, "num_heads": 3}
    return timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=5, **sizes)


def _lite0() -> nn.Module:
    from harness.models.lite0 import EfficientNetLite0

    model, kept = EfficientNetLite0(), []
    for block in model.blocks:  # no block is repeated more than once, as in EfficientNet-B0 above
        if not (block.skip and kept[-1].skip):
            kept.append(block)
    model.blocks = nn.Sequential(*kept)
    return _narrow(model, classes=1000)


def _text_classifier() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return Logits(BertForSequenceClassification(BertConfig(num_labels=5, **sizes)), "inputs_embeds")


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))


def _series_cnn() -> nn.Module:
    layers = nn.Conv1d(2, 8, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 8, 3, padding=1), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 5))


CONVOLUTIONAL = TABULAR | ATTENTION


def _few_channels(layer: str) -> dict[str, dict[str, object]]:
    """These take a pass per channel, of which late layers have up to 1,280."""
    return dict.fromkeys(("score_cam", "ablation_cam", "vit_cx"), {"layer": layer})


NETS = {
    "CNN of functions": Net(FunctionalCNN, (3, 24, 24), CONVOLUTIONAL | KINKED),
    "CNN of reused modules": Net(ReusingCNN, (3, 24, 24), CONVOLUTIONAL | KINKED),
    "resnet18": Net(_torchvision("resnet18"), (3, 64, 64), CONVOLUTIONAL | KINKED, options=_few_channels("layer1")),
    "vgg11_bn": Net(_torchvision("vgg11_bn"), (3, 64, 64), CONVOLUTIONAL | KINKED, options=_few_channels("features.0")),
    "efficientnet_b0": Net(_efficientnet_b0, (3, 64, 64), CONVOLUTIONAL | GATED, options=_few_channels("features.1")),
    "ConvNeXt": Net(_convnext, (3, 32, 32), CONVOLUTIONAL | GATED, options=_few_channels("features.1")),
    "Swin transformer": Net(_swin, (3, 32, 32), TABULAR | GATED | ATTENTION_MAPS, options=_few_channels("features.1")),
    "vision transformer": Net(_vit, (3, 32, 32), TABULAR | GATED),
    "timm ViT": Net(_timm_vit, (3, 64, 64), TABULAR | GATED),
    "lite0": Net(_lite0, (3, 64, 64), CONVOLUTIONAL | KINKED, classes=1000, options=_few_channels("blocks.2.body.6")),
    "MLP": Net(
        _mlp,
        (10,),
        # The drawn targets are classes that this net predicts nowhere: no row of another decision exists.
        KINKED | PICTURES | MAPS | ATTENTION | {"guided_grad_cam", "blurred_random", "rise", "counterfactuals"},
        "table",
    ),
    "1-D CNN": Net(_series_cnn, (2, 32), CONVOLUTIONAL | KINKED | PICTURES, "series"),
    "text classifier": Net(
        _text_classifier, (9, 32), TABULAR | PICTURES | MAPS | GATED | {"gradient_x_weight"}, "tokens"
    ),
}
