"""Small models of published architectures with random weights, each with inputs, carried inputs, targets and its task.

They are built from the libraries' own classes, as people's models are, in sizes that one thread runs in a moment.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import harness
from harness.models.black_box import estimator_model
from harness.models.detection import BoxScore, top_detections
from harness.models.segmentation import RegionScore, predicted_classes, predicted_regions
from harness.models.token_ids import EmbeddedTokens

TEXTS, LENGTH, WORDS, PAD, START, END = 3, 9, 40, 0, 1, 2
SPREAD = {"initializer_range": 0.3}  # of weights; with Hugging Face's 0.02 small models hardly depend on their inputs


@dataclass(frozen=True)
class Architecture:
    """A module with inputs (N, ...), the targets (N,) to explain, its task, and what is carried with each sample.

    ``estimator`` is the fitted estimator behind a black box, as its user has it.
    """

    module: nn.Module
    inputs: Tensor
    targets: Tensor
    task: str
    modality: str = "image"
    carried: dict[str, Tensor] = field(default_factory=dict)
    estimator: Any = None


def _frozen(module: nn.Module, *example: Any) -> nn.Module:
    """The module in eval mode, its BatchNorms with the statistics of an example batch, as after training.

    Without these, random weights give outputs that hardly depend on the image.
    """
    norms = [part for part in module.eval().modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.train().momentum = 1.0
    if norms:
        with torch.no_grad():
            module(*example)
    return module.eval().requires_grad_(False)


def segmentation() -> Architecture:
    """LR-ASPP on MobileNetV3 (Howard et al. 2019), which returns an ordered dict with the maps as ``out``."""
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    module = _frozen(
        lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4), torch.rand(8, 3, 32, 32)
    )
    inputs = torch.rand(3, 3, 32, 32)
    targets = predicted_classes(module, inputs).flatten(1).mode().values
    carried = {"region": predicted_regions(module, inputs, targets)}
    return Architecture(RegionScore(module), inputs, targets, "segmentation", carried=carried)


def transformer_segmentation() -> Architecture:
    """SegFormer (Xie et al. 2021) of Hugging Face, whose logits have a quarter of the image's size."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    sizes = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16, "num_labels": 4}
    module = _frozen(
        SegformerForSemanticSegmentation(SegformerConfig(num_attention_heads=[1, 1, 2, 2], **sizes, **SPREAD)),
        torch.rand(8, 3, 32, 32),
    )
    inputs = torch.rand(3, 3, 32, 32)
    targets = predicted_classes(module, inputs).flatten(1).mode().values
    carried = {"region": predicted_regions(module, inputs, targets)}
    return Architecture(RegionScore(module), inputs, targets, "segmentation", carried=carried)


def faster_rcnn() -> nn.Module:
    """Faster R-CNN on MobileNetV3 (Ren et al. 2015), with random scores that are not all below its threshold."""
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

    sizes = {"min_size": 64, "max_size": 64, "num_classes": 3, "box_score_thresh": 0.01, "box_detections_per_img": 10}
    few = {"rpn_pre_nms_top_n_test": 50, "rpn_post_nms_top_n_test": 20, "rpn_score_thresh": 0.0}
    module = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, **sizes, **few)
    # A sixteenth of the 14 million weights of its head, which the guard of the model compares for every cell.
    module.roi_heads.box_head = TwoMLPHead(module.backbone.out_channels * 7**2, 64)
    module.roi_heads.box_predictor = FastRCNNPredictor(64, sizes["num_classes"])
    nn.init.normal_(module.roi_heads.box_predictor.cls_score.weight, std=0.5)
    return _frozen(module, list(torch.rand(8, 3, 64, 64)))


def detection() -> Architecture:
    """Faster R-CNN, explained by one box of each image."""
    module, inputs = faster_rcnn(), torch.rand(2, 3, 64, 64)
    top = top_detections(module, inputs)
    carried = {"box": top.box, "label": top.label}
    return Architecture(BoxScore(module), inputs, torch.zeros(2, dtype=torch.long), "detection", carried=carried)


def timm_classifier() -> Architecture:
    """A ResNet of timm."""
    import timm

    module = _frozen(timm.create_model("test_resnet", pretrained=False, num_classes=5), torch.rand(8, 3, 32, 32))
    return Architecture(module, torch.rand(3, 3, 32, 32), torch.tensor([0, 1, 2]), "classes")


def texts(pad: int = PAD) -> tuple[Tensor, Tensor]:
    """Ids (N, T) and attention mask (N, T) of texts of different lengths: start, words, end, padding."""
    ids, mask = torch.full((TEXTS, LENGTH), pad), torch.zeros(TEXTS, LENGTH, dtype=torch.long)
    for row, length in enumerate((LENGTH, 6, 4)):
        ids[row, :length] = torch.cat(
            [torch.tensor([START]), torch.randint(5, WORDS, (length - 2,)), torch.tensor([END])]
        )
        mask[row, :length] = 1
    return ids, mask


def _of_tokens(module: nn.Module) -> Architecture:
    """A classifier of token ids at its embedding layer."""
    ids, attention_mask = texts()
    explained = EmbeddedTokens(_frozen(module))
    carried = {"ids": ids, "attention_mask": attention_mask}
    return Architecture(
        explained, explained.embeddings(**carried), torch.tensor([0, 1, 2]), "classes", "tokens", carried
    )


def bert() -> Architecture:
    """BERT (Devlin et al. 2018), which reads the first token."""
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return _of_tokens(BertForSequenceClassification(BertConfig(vocab_size=WORDS, num_labels=4, **sizes, **SPREAD)))


def gpt2() -> Architecture:
    """GPT-2 (Radford et al. 2019) with a head that reads the last token that is not padding."""
    from transformers import GPT2Config, GPT2ForSequenceClassification

    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    marks = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END}
    return _of_tokens(
        GPT2ForSequenceClassification(GPT2Config(vocab_size=WORDS, num_labels=4, **sizes, **marks, **SPREAD))
    )


def llama() -> Architecture:
    """Llama (Touvron et al. 2023) with a head that reads the last token that is not padding."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = LlamaConfig(vocab_size=WORDS, num_labels=4, pad_token_id=PAD, **sizes, **SPREAD)
    return _of_tokens(LlamaForSequenceClassification(config))


def gemma() -> Architecture:
    """Gemma (2024), which multiplies its embeddings by the root of their size after the embedding layer."""
    from transformers import GemmaConfig, GemmaForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    heads = {"num_key_value_heads": 1, "head_dim": 8}
    config = GemmaConfig(vocab_size=WORDS, num_labels=4, pad_token_id=PAD, **sizes, **heads, **SPREAD)
    return _of_tokens(GemmaForSequenceClassification(config))


def esm() -> Architecture:
    """ESM-2 (Lin et al. 2023), a language model of proteins, which scales embeddings by the share of masked ids."""
    from transformers import EsmConfig, EsmForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    more = {"pad_token_id": PAD, "mask_token_id": 3, "position_embedding_type": "rotary", "token_dropout": True}
    return _of_tokens(
        EsmForSequenceClassification(EsmConfig(vocab_size=WORDS, num_labels=4, **sizes, **more, **SPREAD))
    )


class TwoTower(nn.Module):
    """An image beside a table, each in a tower of its own, as in models of health records with X-rays."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.image, self.table = nn.Sequential(*layers), nn.Sequential(nn.Linear(6, 8), nn.ReLU())
        self.out = nn.Linear(16, 4)

    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        return self.out(torch.cat([self.image(image), self.table(table)], 1))


def two_tower() -> Architecture:
    """A two-tower model, of which the image is explained and the table is carried."""
    carried = {"table": torch.randn(3, 6)}
    return Architecture(
        _frozen(TwoTower()), torch.rand(3, 3, 24, 24), torch.tensor([0, 1, 2]), "classes", "image", carried
    )


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) of two levels."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        block = lambda into, out: nn.Sequential(
            nn.Conv2d(into, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
        )
        self.down, self.low, self.up = block(3, 8), block(8, 16), nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.pool, self.joined, self.out = nn.MaxPool2d(2), block(16, 8), nn.Conv2d(8, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.down(x)
        return self.out(self.joined(torch.cat([high, self.up(self.low(self.pool(high)))], 1)))


def unet() -> Architecture:
    """A U-Net, explained over a square that a mask marks."""
    inputs, region = torch.rand(3, 3, 24, 24), torch.zeros(3, 24, 24, dtype=torch.bool)
    region[:, 6:14, 8:18] = True
    carried = {"region": region}
    return Architecture(
        RegionScore(_frozen(UNet(), torch.rand(8, 3, 24, 24))),
        inputs,
        torch.tensor([0, 1, 2]),
        "segmentation",
        carried=carried,
    )


class LSTM(nn.Module):
    """A classifier of series (N, C, T), which reads the last state of an LSTM (Hochreiter and Schmidhuber 1997)."""

    def __init__(self) -> None:
        super().__init__()
        self.states, self.out = nn.LSTM(4, 12, batch_first=True), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.states(x.mT)[0][:, -1])


def lstm() -> Architecture:
    """An LSTM on series of four channels."""
    return Architecture(_frozen(LSTM()), torch.randn(3, 4, 20), torch.tensor([0, 1, 2]), "classes", "series")


def volume_cnn() -> Architecture:
    """A CNN of volumes (N, C, D, H, W), in the manner of Tran et al. 2015."""
    layers = (
        nn.Conv3d(1, 8, 3, padding=1),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(8, 16, 3, padding=1),
    )
    module = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, 4))
    module = _frozen(module, torch.rand(8, 1, 8, 12, 12))
    return Architecture(module, torch.rand(3, 1, 8, 12, 12), torch.tensor([0, 1, 2]), "classes", "other")


def _table_of(outputs: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    columns = torch.randn(120, 6).numpy()
    return columns, outputs(columns)


def boosted_trees() -> Architecture:
    """Gradient-boosted trees of scikit-learn (as in XGBoost, Chen and Guestrin 2016): a black box of three classes."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    columns, classes = _table_of(lambda x: x[:, :3].argmax(1))
    fitted = HistGradientBoostingClassifier(max_iter=8, random_state=0).fit(columns, classes)
    inputs, targets = torch.from_numpy(columns[:4]), torch.from_numpy(classes[:4])
    return Architecture(estimator_model(fitted).module, inputs, targets, "probabilities", "table", estimator=fitted)


def support_vectors() -> Architecture:
    """A pipeline of scikit-learn for regression: a black box of one output."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    columns, numbers = _table_of(lambda x: 2 * x[:, 0] - x[:, 1])
    fitted = make_pipeline(StandardScaler(), SVR()).fit(columns, numbers)
    inputs, targets = torch.from_numpy(columns[:4]), torch.zeros(4, dtype=torch.long)
    return Architecture(estimator_model(fitted).module, inputs, targets, "regression", "table", estimator=fitted)


ARCHITECTURES: dict[str, Callable[[], Architecture]] = {
    "LR-ASPP (segmentation)": segmentation,
    "SegFormer (segmentation)": transformer_segmentation,
    "U-Net (segmentation)": unet,
    "Faster R-CNN (detection)": detection,
    "timm ResNet": timm_classifier,
    "BERT": bert,
    "GPT-2": gpt2,
    "Llama": llama,
    "Gemma": gemma,
    "ESM": esm,
    "two towers": two_tower,
    "LSTM": lstm,
    "3-D CNN": volume_cnn,
    "boosted trees": boosted_trees,
    "support vectors": support_vectors,
}


def as_a_user_gives_it(name: str) -> tuple[Any, harness.Data]:
    """The model as its library makes it, and the data as its user has them, of an architecture of ``ARCHITECTURES``."""
    made, rows = ARCHITECTURES[name](), slice(0, 2)
    inputs, targets = made.inputs[rows], made.targets[rows]
    carried = {key: each[rows] for key, each in made.carried.items()}
    if made.estimator is not None:
        train = torch.randn(12, inputs.shape[1]).numpy()
        return made.estimator, harness.Data(inputs.numpy(), targets.numpy(), train=torch.from_numpy(train))
    if made.task == "segmentation":
        images = {"pixel_values": inputs} if name.startswith("SegFormer") else inputs
        region = carried["region"] if name.startswith("U-Net") else None
        return made.module.module, harness.Data(images, task="segmentation", region=region)
    if made.task == "detection":
        return made.module.module, harness.Data(inputs, task="detection")
    if made.modality == "tokens":
        mask = carried["attention_mask"]
        special = (PAD, START, END)
        return made.module.module, harness.Data(
            {"input_ids": carried["ids"], "attention_mask": mask}, targets, special=special
        )
    if carried:
        return made.module, harness.Data({"image": inputs, **carried}, targets, explained="image")
    modality = {"series": "series", "other": "volume"}.get(made.modality)
    return made.module, harness.Data(inputs, targets, modality=modality)
