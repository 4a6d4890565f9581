"""The score of a box: the largest overlap x score of the detections of its class, by hand and on torchvision's."""

import pytest
import torch
from torch import nn

from architectures import detection, faster_rcnn
from harness.errors import UserError
from harness.models.detection import BoxScore, check_boxes, detections, top_detections

BOX = torch.tensor([0.0, 0.0, 10.0, 10.0])


class Finds(nn.Module):
    """A detector that finds in every image what it was given: (box, label, score); the score times the first pixel."""

    def __init__(self, *found):
        super().__init__()
        self.found = found
        self.eval()

    def forward(self, images):
        boxes = torch.tensor([box for box, _, _ in self.found]).reshape(-1, 4)
        labels = torch.tensor([label for _, label, _ in self.found], dtype=torch.long)
        scores = torch.tensor([score for _, _, score in self.found])
        return [{"boxes": boxes, "labels": labels, "scores": scores * image[0, 0, 0]} for image in images]


def score_of(*found, box=BOX, label=1):
    images = torch.ones(1, 3, 20, 20)
    return float(BoxScore(Finds(*found))(images, box[None], torch.tensor([label])))


FULL, LEFT, QUARTER, APART = [0.0, 0, 10, 10], [0.0, 0, 5, 10], [5.0, 5, 15, 15], [11.0, 11, 20, 20]


def test_the_score_is_overlap_times_the_score_of_the_class():
    assert score_of((FULL, 1, 0.8)) == pytest.approx(0.8)
    assert score_of((LEFT, 1, 0.8)) == pytest.approx(0.5 * 0.8)
    assert score_of((QUARTER, 1, 0.7)) == pytest.approx(25 / 175 * 0.7)
    assert score_of((APART, 1, 0.9)) == 0


def test_the_best_match_of_all_detections_counts():
    assert score_of((FULL, 1, 0.3), (LEFT, 1, 0.8), (QUARTER, 1, 0.9)) == pytest.approx(0.4)


def test_a_detection_of_another_class_does_not_count():
    assert score_of((FULL, 2, 0.9), (LEFT, 1, 0.2)) == pytest.approx(0.1)
    assert score_of((FULL, 2, 0.9)) == 0


def test_nothing_detected_is_zero_with_a_gradient_of_zero():
    image = torch.ones(1, 3, 20, 20, requires_grad=True)
    score = BoxScore(Finds((FULL, 2, 0.9)))(image, BOX[None], torch.tensor([1]))
    assert score.shape == (1, 1) and score.item() == 0
    assert torch.autograd.grad(score.sum(), image)[0].abs().sum() == 0


def test_the_score_has_the_gradient_of_the_detector():
    image = torch.full((1, 3, 20, 20), 0.5, requires_grad=True)
    BoxScore(Finds((LEFT, 1, 0.8)))(image, BOX[None], torch.tensor([1])).sum().backward()
    assert float(image.grad[0, 0, 0, 0]) == pytest.approx(0.5 * 0.8) and image.grad.count_nonzero() == 1


def test_a_detector_without_gradients_has_none():
    detector = Finds((FULL, 1, 0.8))
    image = torch.ones(1, 3, 20, 20, requires_grad=True)
    score = BoxScore(lambda_module(lambda images: [_detached(each) for each in detector(images)]))
    assert not score(image, BOX[None], torch.tensor([1])).requires_grad


def _detached(found):
    return {name: each.detach() for name, each in found.items()}


def lambda_module(function):
    module = nn.Module()
    module.forward = function
    return module.eval()


def test_a_clean_image_gives_its_top_detection_the_score_that_the_detector_gives_it():
    module, images = faster_rcnn(), torch.rand(3, 3, 64, 64)
    top = top_detections(module, images)
    assert top.score.min() > 0
    assert torch.allclose(BoxScore(module)(images, top.box, top.label)[:, 0], top.score, atol=1e-6)
    assert torch.equal(top.image, torch.arange(3))


def test_rows_come_in_any_number_and_order():
    made = detection()
    rows = torch.tensor([1, 0, 0, 1, 1])
    together = made.module(made.inputs, **made.carried)
    gathered = made.module(made.inputs[rows], **{name: each[rows] for name, each in made.carried.items()})
    assert torch.allclose(gathered, together[rows], atol=1e-6)


def test_torchvision_gives_gradients_along_which_the_score_rises():
    """The gradient is not exact: torchvision takes the proposals as constants."""
    made = detection()
    inputs = made.inputs[:1].clone().requires_grad_()
    carried = {name: each[:1] for name, each in made.carried.items()}
    slope = torch.autograd.grad(made.module(inputs, **carried).sum(), inputs)[0]
    away = lambda size: made.module((inputs + size * slope / slope.norm()).detach(), **carried).item()
    assert slope.isfinite().all() and away(0.01) > away(-0.01)


def test_single_shot_detectors_are_taken():
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    module = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3).eval()
    images = torch.rand(1, 3, 64, 64)
    top = top_detections(module, images, most=2)
    found = BoxScore(module)(images[top.image], top.box, top.label)[:, 0]
    assert len(top.image) == 2 and torch.allclose(found, top.score, atol=1e-6)


def test_the_top_detections_are_those_with_the_largest_scores():
    module = Finds((FULL, 1, 0.2), (LEFT, 2, 0.9), (QUARTER, 3, 0.5))
    top = top_detections(module, torch.ones(2, 3, 20, 20), most=2)
    assert top.image.tolist() == [0, 0, 1, 1] and top.label.tolist() == [2, 3, 2, 3]
    assert top.box[0].tolist() == LEFT and top.score.tolist() == pytest.approx([0.9, 0.5] * 2)
    assert len(top_detections(module, torch.ones(2, 3, 20, 20), most=3, least_score=0.5).image) == 4


def test_images_without_a_detection_are_refused_by_their_numbers():
    images = torch.ones(12, 3, 8, 8)
    images[[1, 4]] = 0.1
    with pytest.raises(UserError, match=r"score of 0.5 or more in 2 of 12 images \(number 1, 4\)"):
        top_detections(Finds((FULL, 1, 0.9)), images, least_score=0.5)
    with pytest.raises(UserError, match=r"12 of 12 images \(number 0, 1, 2, 3, 4, 5, 6, 7 and 4 more\)"):
        top_detections(Finds(), images)


IMAGES, LABELS = torch.rand(2, 3, 20, 30), torch.tensor([1, 2])
GOOD = torch.tensor([[1.0, 2, 25, 18], [0, 0, 5, 5]])
WRONG_BOXES = {
    "width and height": (torch.tensor([[20.0, 10, 5, 5], [0, 0, 5, 5]]), LABELS, r"box 0 is \[20.*left < right"),
    "row before column": (torch.tensor([[0.0, 0, 5, 5], [21, 25, 26, 29]]), LABELS, "box 1 .* 20 rows x 30 columns"),
    "no area": (torch.tensor([[3.0, 3, 3, 9], [0, 0, 5, 5]]), LABELS, "box 0"),
    "not a number": (torch.full((2, 4), float("nan")), LABELS, "box 0"),
    "one box for two": (GOOD[:1], LABELS, r"boxes are \(1, 4\)"),
    "float labels": (GOOD, LABELS.float(), "float32"),
}


@pytest.mark.parametrize("what", WRONG_BOXES)
def test_wrong_boxes_are_refused_in_one_line(what):
    box, label, words = WRONG_BOXES[what]
    with pytest.raises(UserError, match=words) as caught:
        check_boxes(box, label, IMAGES)
    assert "\n" not in str(caught.value)


def test_boxes_of_any_number_type_become_those_of_the_images():
    box, label = check_boxes(GOOD.to(torch.int32), LABELS.to(torch.int32), IMAGES)
    assert box.dtype == IMAGES.dtype and label.dtype == torch.int64 and torch.equal(box, GOOD)


NO_DETECTIONS = {
    "a tensor": (lambda images: torch.stack(images), "returned Tensor for 2 images"),
    "one for all": (lambda images: [{}], "returned 1 items for 2 images"),
    "losses, in training mode": (lambda images: {"loss": 0.0}, "returned dict"),
    "other names": (lambda images: [{"pred_boxes": GOOD, "logits": GOOD}] * 2, "returned 2 items"),
    "shapes that differ": (lambda images: [{"boxes": GOOD, "labels": LABELS, "scores": GOOD}] * 2, "returned 2 items"),
}


@pytest.mark.parametrize("what", NO_DETECTIONS)
def test_what_is_no_detection_is_refused_in_one_line(what):
    function, words = NO_DETECTIONS[what]
    with pytest.raises(UserError, match=words) as caught:
        detections(lambda_module(function), IMAGES)
    assert "\n" not in str(caught.value)
