"""Detection models of torchvision, explained by how well an image's detections match one box and its class.

D-RISE (Petsiuk et al. 2021, arXiv 2006.03204) scores an image by the largest similarity of its detection proposals to
the explained detection: overlap of the boxes (IoU) x cosine of the two vectors of class probabilities x objectness.
Here it differs in two ways, because torchvision's models return neither these vectors nor all proposals:

- only the label and its score are known of a detection, so that the cosine of the class vectors becomes that of two
  one-hot vectors, 1 for the same label and 0 for another, and the score stands for the objectness;
- only detections above the model's ``score_thresh`` that survive its suppression of overlapping boxes are seen: below
  the threshold a score is 0 at once. A model made with a low threshold (``box_score_thresh=0.01``) falls smoothly.

torchvision is imported where it is needed: it takes a second, which the names of models should not cost.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import UserError

PARTS = ("boxes", "labels", "scores")
IMAGES_AT_ONCE = 8


class BoxScore(nn.Module):
    """A torchvision detection model as a module from images, boxes and labels to the score of each box.

    ``module`` takes a list of images (C, H, W) and returns for each a mapping with ``boxes`` (D, 4), ``labels`` (D,)
    and ``scores`` (D,), as torchvision's models do in eval mode.
    """

    wraps_a_users_module = True  # whose layers keep the names that the user knows

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.train(module.training)

    def forward(self, inputs: Tensor, box: Tensor, label: Tensor) -> Tensor:
        """The scores (N, 1), from 0 to 1, of boxes (N, 4) and labels (N,), int64, in images (N, C, H, W).

        A box is (left, top, right, bottom) in pixels of the image. The score is the largest, over the detections with
        the label, of IoU x score; 0 where there is none. It has gradients where the model's boxes and scores have them;
        those of torchvision's two-stage models take the proposals as constants.
        """
        found = detections(self.module, inputs)
        return torch.stack([_best_match(*each, box[row], label[row]) for row, each in enumerate(found)])[:, None]


@dataclass(frozen=True)
class Detections:
    """Detections to explain, M in all, each as one sample.

    image   (M,) int64, the number of the image of each: the samples' inputs are ``inputs[image]``
    box     (M, 4) float, (left, top, right, bottom) in pixels
    label   (M,) int64, the classes as the model numbers them
    score   (M,) float, what the model gives them, from 0 to 1
    """

    image: Tensor
    box: Tensor
    label: Tensor
    score: Tensor


def top_detections(module: nn.Module, inputs: Tensor, most: int = 1, least_score: float = 0.0) -> Detections:
    """The detections to explain in images (N, C, H, W): for each image those with the largest scores, ``most`` of them.

    ``inputs`` lie on the model's device. Detections with a score below ``least_score`` are left out. UserError, which
    tells their numbers, where images are without any detection.
    """
    with torch.no_grad():
        found = [each for part in inputs.split(IMAGES_AT_ONCE) for each in detections(module, part)]
    chosen = [_best(scores, most, least_score) for _, _, scores in found]
    empty = [number for number, places in enumerate(chosen) if len(places) == 0]
    if empty:
        listed = ", ".join(map(str, empty[:8])) + (f" and {len(empty) - 8} more" if len(empty) > 8 else "")
        raise UserError(
            f"the model detects nothing with a score of {least_score:g} or more in {len(empty)} of {len(inputs)} "
            f"images (number {listed}): leave these out, or lower least_score or the model's score_thresh"
        )
    numbers = torch.arange(len(inputs), device=inputs.device)
    counts = torch.tensor([len(places) for places in chosen], device=inputs.device)
    parts = (torch.cat([each[part][places] for each, places in zip(found, chosen, strict=True)]) for part in range(3))
    return Detections(numbers.repeat_interleave(counts), *parts)


def check_boxes(box: Tensor, label: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (N, 4), float, and labels (N,), int64, one of each for every image (N, C, H, W); else UserError.

    A box is (left, top, right, bottom) in pixels and overlaps the image; (left, top, width, height) is mostly refused,
    because its right edge would lie left of its left edge.
    """
    box, label, (height, width) = torch.as_tensor(box), torch.as_tensor(label), inputs.shape[2:]
    if box.shape != (len(inputs), 4) or label.shape != (len(inputs),):
        raise UserError(
            f"boxes are {tuple(box.shape)} and labels {tuple(label.shape)} for {len(inputs)} images, expected "
            f"({len(inputs)}, 4) and ({len(inputs)},): one box (left, top, right, bottom) and one class for each"
        )
    if label.is_floating_point() or label.dtype == torch.bool:
        raise UserError(f"labels of boxes are {label.dtype}, expected the classes as the model numbers them, integers")
    left, top, right, bottom = box.unbind(1)
    good = (left < right) & (top < bottom) & (left < width) & (top < height) & (right > 0) & (bottom > 0)
    if not good.all():
        first = int((~good).nonzero()[0])
        raise UserError(
            f"box {first} is {box[first].tolist()}, expected (left, top, right, bottom) in pixels of an image of "
            f"{height} rows x {width} columns, with left < right and top < bottom"
        )
    return box.to(inputs.dtype), label.long()


def detections(module: nn.Module, inputs: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Boxes (D, 4), labels (D,) and scores (D,) that the model finds in each of the images (N, C, H, W).

    UserError where the model returns something else than torchvision's detection models do.
    """
    found: Any = module(list(inputs))
    if not isinstance(found, list | tuple) or len(found) != len(inputs) or not all(map(_is_detection, found)):
        came = f"{len(found)} items" if isinstance(found, list | tuple) else type(found).__name__
        raise UserError(
            f"the detection model returned {came} for {len(inputs)} images, expected for each a mapping with boxes "
            "(D, 4), labels (D,) and scores (D,), as torchvision's models return in eval mode"
        )
    return [tuple(each[part] for part in PARTS) for each in found]


def _is_detection(each: Any) -> bool:
    if not isinstance(each, dict) or not all(isinstance(each.get(part), Tensor) for part in PARTS):
        return False
    boxes, labels, scores = (each[part] for part in PARTS)
    return boxes.shape == (len(scores), 4) and labels.shape == scores.shape == (len(scores),)


def _best_match(boxes: Tensor, labels: Tensor, scores: Tensor, box: Tensor, label: Tensor) -> Tensor:
    """The largest IoU x score over the detections with the label; 0 with a gradient of 0 where there is none."""
    from torchvision.ops import box_iou

    same = labels == label
    matches = box_iou(boxes[same], box[None].to(boxes.dtype))[:, 0] * scores[same]
    return torch.cat([matches, matches.new_zeros(1)]).max()


def _best(scores: Tensor, most: int, least: float) -> Tensor:
    """The places of the largest scores, from the largest down, ``most`` at most and none below ``least``."""
    order = scores.argsort(descending=True, stable=True)[:most]
    return order[scores[order] >= least]
