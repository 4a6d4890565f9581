"""What is known about each sample in words: its label, the model's prediction, the explained output."""

from typing import Any

from harness.engine.stage import Stage


def names_of_columns(stage: Stage) -> list[str]:
    """The name of each canonical output: the model's or the data's names of classes, else class 0, class 1, ..."""
    names, width = stage.model.classes or stage.data.classes, stage.output_count
    if names and len(names) == width:
        return [str(name) for name in names]
    what = "class" if stage.task.classed else "output"
    return [f"{what} {number}" for number in range(width)]


def describe_samples(stage: Stage, count: int) -> list[dict[str, Any]]:
    """Id, label, prediction, target and confidence of each of the first samples; None for what there is not.

    Classes are named. Of a regression the label and the prediction are numbers, those of the explained output.
    """
    names, labels, classed = names_of_columns(stage), stage.labels, stage.task.classed and stage.output_count > 1
    explained = stage.outputs.gather(1, stage.targets[:, None])[:, 0]
    confidence = stage.confidences if classed else None

    def label_of(i: int) -> Any:
        if labels is None:
            return None
        return names[int(labels[i])] if classed else labels[i].item()

    return [
        {
            "id": str(stage.data.ids[i]),
            "label": label_of(i),
            "prediction": names[int(stage.predictions[i])] if classed else explained[i].item(),
            "target": names[int(stage.targets[i])] if stage.output_count > 1 else None,
            "confidence": None if confidence is None else float(confidence[i]),
        }
        for i in range(count)
    ]
