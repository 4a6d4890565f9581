"""Outputs that no attribution decides are kept by content: the same question costs nothing again, another is asked."""

import errno
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import harness
from harness.api import make_batch, samples_of
from harness.engine import output_cache
from harness.engine.output_cache import OutputCache
from harness.engine.protocol import precision
from harness.engine.score import score_batch
from harness.errors import UserError
from harness.identity import weights_of
from harness.predictor import Predictor
from harness.registry import METRICS
from harness.results.frames import read_cells, read_scores

# Metrics all of whose evaluations can be kept.
METRICS_KEPT = {
    "sensitivity_n": {"sizes": 3, "draws": 8},
    "seg_sensitivity_n": {"sizes": 2, "draws": 8, "segments": "grid:3"},
    "faithfulness_correlation": {"draws": 8},
    "infidelity": {"draws": 8},
    "faithfulness_estimate": {},
    "single_deletion": {},
    "non_sensitivity": {"attribution_eps": 1.0},
    "monotonicity_correlation": {"draws": 3},
}
# Those that ask for the clean outputs too, or for the class that noise must not change.
FILES = dict.fromkeys(
    ("infidelity", "faithfulness_estimate", "single_deletion", "non_sensitivity", "monotonicity_correlation"), 2
)
each_metric = pytest.mark.parametrize("metric", METRICS_KEPT)

pytestmark = pytest.mark.usefixtures("seed")


class World:
    """A small network on a few images, and the folder in which its outputs are kept."""

    def __init__(self, folder):
        self.folder = folder
        self.net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 3)).eval()
        self.inputs, self.train = torch.randn(4, 1, 6, 6), torch.randn(9, 1, 6, 6)
        self.maps, self.targets = torch.randn(4, 1, 6, 6), torch.tensor([0, 1, 2, 0])

    def score(self, metric, maps=None, options=None, chunk=64, **more):
        """The scores, and how many inputs went through the model."""
        given = {"train": self.train, "value_range": (-4.0, 4.0)} | more
        predictor = Predictor(self.net, chunk=chunk)
        samples = samples_of(self.net, self.inputs, self.targets, predictor=predictor, **given)
        samples = replace(samples, output_cache=OutputCache(self.folder, weights_of(self.net)))
        predictor.forwards = 0
        batch = make_batch(samples, self.maps if maps is None else maps, None)
        entry = METRICS[metric]
        scores = score_batch(entry, entry.complete(METRICS_KEPT[metric] | (options or {})), batch)
        return scores.values, predictor.forwards

    def files(self):
        return sorted(self.folder.glob("*.npy"))


@pytest.fixture
def world(seed, tmp_path):
    return World(tmp_path / "outputs")


def same(first, second):
    return torch.equal(first.nan_to_num(-9), second.nan_to_num(-9))


@each_metric
def test_the_same_question_is_answered_from_disk_bit_for_bit(metric, world):
    first, evaluations = world.score(metric)
    again, once_more = world.score(metric)
    assert evaluations > 8 and once_more == 0
    assert same(first, again) and len(world.files()) == FILES.get(metric, 1)


@each_metric
def test_another_explainer_tomorrow_costs_nothing(metric, world):
    first, _ = world.score(metric)
    other, evaluations = world.score(metric, maps=torch.randn(4, 1, 6, 6))
    assert evaluations == 0 and not same(first, other)
    unkept = samples_of(world.net, world.inputs, world.targets, train=world.train, value_range=(-4.0, 4.0))
    entry = METRICS[metric]
    expected = score_batch(entry, entry.complete(METRICS_KEPT[metric]), make_batch(unkept, world.maps, None)).values
    torch.testing.assert_close(first, expected, rtol=1e-5, atol=1e-5)


@each_metric
def test_another_score_of_the_same_outputs_costs_nothing(metric, world):
    world.score(metric)
    assert world.score(metric, options={"score": "log_odds"})[1] == 0


def changed_weights(world):
    with torch.no_grad():
        world.net[0].bias[0] += 1e-3


def changed_inputs(world):
    world.inputs = world.inputs.clone()
    world.inputs[0, 0, 0, 0] += 1e-3


def changed_targets(world):
    world.targets = torch.tensor([0, 1, 2, 1])


def changed_order(world):
    world.inputs, world.targets = world.inputs.flip(0), world.targets.flip(0)


@pytest.mark.parametrize("change", [changed_weights, changed_inputs, changed_targets, changed_order])
@each_metric
def test_what_decides_the_outputs_decides_the_file(metric, change, world):
    first, evaluations = world.score(metric)
    change(world)
    assert world.score(metric)[1] == evaluations and len(world.files()) == 2 * FILES.get(metric, 1)


@pytest.mark.parametrize(
    ("more", "options"),
    [
        ({"seed": 1}, {}),
        ({}, {"baseline": "blur"}),
        ({}, {"draws": 9}),
        ({"value_range": (-5.0, 5.0)}, {}),
        ({"train": torch.ones(3, 1, 6, 6)}, {}),
        ({}, {"baseline": torch.tensor(0.5)}),
        ({}, {"granularity": "segment", "segments": "grid:3"}),
        ({}, {"granularity": "patch", "patch": 2}),
    ],
    ids=str,
)
def test_seed_data_and_every_option_decide_too(more, options, world):
    _, evaluations = world.score("faithfulness_correlation")
    assert world.score("faithfulness_correlation", options=options, **more)[1] >= evaluations
    assert len(world.files()) == 2


def test_the_randomness_of_the_samples_and_the_matrix_units_of_a_gpu_decide_too(world):
    made = samples_of(world.net, world.inputs, world.targets)
    made = replace(made, output_cache=OutputCache(world.folder, "any"))
    others = replace(made, keys=made.keys + 1, memo={}, scratch={})
    for number, each in enumerate((made, others), 1):
        each.outputs("use", lambda: torch.zeros(4, 3))
        assert len(world.files()) == number
    for _ in range(2):
        with precision("tf32"):
            replace(made, memo={}).outputs("use", lambda: torch.zeros(4, 3))
    assert len(world.files()) == 3


def test_given_tensors_count_by_their_content(world):
    for number, value in enumerate((0.5, 0.5, 0.25)):
        expected = (0, 4 * 8)[number != 1]
        options = {"baseline": torch.full((1, 6, 6), value)}
        assert world.score("faithfulness_correlation", options=options)[1] == expected


def test_given_segments_count_by_their_content(world):
    labels = torch.arange(36).view(6, 6) // 5
    options = {"granularity": "segment", "segments": "given"}
    evaluations = [
        world.score("faithfulness_correlation", options=options, segments=segments)[1]
        for segments in (labels, labels.clone(), labels.T.contiguous())
    ]
    assert evaluations == [32, 0, 32]


def test_other_code_asks_again(world, monkeypatch):
    _, evaluations = world.score("sensitivity_n")
    monkeypatch.setattr(output_cache, "code_of", lambda function: "changed")
    assert world.score("sensitivity_n")[1] == evaluations
    assert world.score("sensitivity_n")[1] == 0


@pytest.mark.parametrize("left", [b"", b"\x93NUMPY", b"not an array", "half", "flipped"])
def test_a_torn_file_is_named_and_made_again(left, world, caplog):
    first, evaluations = world.score("sensitivity_n")
    (path,) = world.files()
    whole = path.read_bytes()
    flipped = whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]
    path.write_bytes({"half": whole[: len(whole) // 2], "flipped": flipped}.get(left, left))
    again, once_more = world.score("sensitivity_n")
    assert once_more == evaluations and same(first, again)
    assert path.read_bytes() == whole and world.score("sensitivity_n")[1] == 0
    (line,) = caplog.messages
    assert path.name in line and "computed again" in line


def test_a_writer_that_dies_leaves_no_outputs_behind(world, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        world.score("sensitivity_n")
    assert world.files() == []
    monkeypatch.undo()
    assert world.score("sensitivity_n")[1] > 0 and world.score("sensitivity_n")[1] == 0


def test_writers_at_the_same_time_do_not_clash(world):
    expected, _ = world.score("sensitivity_n")
    (path,) = world.files()
    whole = path.read_bytes()
    path.unlink()
    found, begin = [], threading.Barrier(4)

    def work():
        begin.wait()
        found.append(world.score("sensitivity_n")[0])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(same(values, expected) for values in found)
    assert world.files() == [path] and path.read_bytes() == whole
    assert not [each for each in world.folder.iterdir() if each != path]


def test_randomised_weights_never_meet_the_kept_outputs(world):
    samples = samples_of(world.net, world.inputs, world.targets)
    samples = replace(samples, output_cache=OutputCache(world.folder, "any"))
    assert samples.live().output_cache is None


def test_runs_share_a_folder_and_a_new_explainer_asks_nothing_again(tmp_path, monkeypatch):
    asked = []
    original = Predictor.track
    monkeypatch.setattr(
        Predictor, "track", lambda self, count, *rest: asked.append(count) or original(self, count, *rest)
    )

    def run(name, explainer, outputs=True):
        asked.clear()
        directory = harness.run(
            {
                "model": "digits_cnn",
                "dataset": "digits",
                "explainer": [explainer],
                "run": name,
                "metric": {"faithfulness_correlation": {"draws": 20}, "single_deletion": {}},
                "protocol": {"samples": 5},
                "runtime": {
                    "runs": str(tmp_path / "runs"),
                    "chunk": 64,
                    "device": "cpu",
                    "quiet": True,
                    "sheet": 0,
                    "outputs": str(tmp_path / "kept") if outputs else None,
                },
            }
        )
        frame = read_scores(directory, read_cells(directory))
        return sum(asked), frame.set_index(["metric", "sample"]).value.sort_index()

    first, values = run("first", "input_x_gradient")
    assert first == 5 * (20 + 16 + 1) and len(list((tmp_path / "kept").glob("*.npy"))) == 3
    again, same_values = run("second", "input_x_gradient")
    assert again == 0 and values.equals(same_values)
    other, other_values = run("third", "saliency")
    assert other == 0 and not values.equals(other_values)
    unkept, plain = run("fourth", "input_x_gradient", outputs=False)
    assert unkept == first and values.equals(plain)


def test_a_folder_that_cannot_be_is_one_line_and_a_full_disk_costs_no_score(world, tmp_path, monkeypatch, caplog):
    (tmp_path / "taken").write_text("a file")
    config = {
        "model": "digits_cnn",
        "dataset": "digits",
        "explainer": ["random"],
        "metric": ["single_deletion"],
        "protocol": {"samples": 2},
        "runtime": {
            "runs": str(tmp_path / "runs"),
            "quiet": True,
            "sheet": 0,
            "outputs": str(tmp_path / "taken" / "outputs"),
        },
    }
    with pytest.raises(UserError, match="cannot write .*outputs") as error:
        harness.run(config)
    assert "\n" not in str(error.value)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    expected, _ = world.score("single_deletion")
    other = World(tmp_path / "other")
    other.net, other.inputs, other.train, other.maps = world.net, world.inputs, world.train, world.maps
    monkeypatch.setattr(Path, "write_bytes", full)
    assert same(other.score("single_deletion")[0], expected) and not other.files()
    assert "not kept for another run" in caplog.text and not list(other.folder.glob(".*"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_the_fingerprint_of_weights_is_of_their_numbers_however_they_lie_in_memory(dtype):
    def fingerprint(values):
        holder = nn.Module()
        holder.register_buffer("values", values)
        return weights_of(holder)

    numbers = torch.arange(34).reshape(2, 17).to(dtype)
    for view in (numbers[:1, 3:4].T, numbers.T, numbers[:, ::2], numbers[:, 0], numbers[:0], numbers.expand(3, 2, 17)):
        assert fingerprint(view) == fingerprint(torch.tensor(view.tolist(), dtype=dtype).reshape(view.shape))
    assert fingerprint(numbers) != fingerprint(numbers + 1)
