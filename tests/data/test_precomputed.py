"""Attributions from a file are scored like the explainer's that made them, and never stand for anything else."""

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness.cli.main import main
from harness.errors import NotApplicable, UserError
from harness.registry import METRICS
from harness.results.store import Store
from harness.sources import Data

COUNT, SHAPE = 7, (2, 4, 4)


@pytest.fixture
def world(seed, tmp_path):
    """A net, samples, their targets, and a map for each that is drawn by lot."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(32, 6), nn.Tanh(), nn.Linear(6, 3)).eval().requires_grad_(False)
    inputs, maps = torch.randn(COUNT, *SHAPE), torch.randn(COUNT, *SHAPE)
    return types.SimpleNamespace(
        net=net, inputs=inputs, maps=maps, targets=net(inputs).argmax(1), folder=tmp_path, train=torch.randn(30, *SHAPE)
    )


def write(world, suffix, **members):
    """A file of that kind with the maps, or with these members."""
    path, members = world.folder / f"maps{suffix}", members or {"attributions": world.maps.numpy()}
    if suffix == ".npy":
        np.save(path, members["attributions"])
    elif suffix == ".npz":
        np.savez(path, **members)
    elif suffix == ".pt":
        as_torch = lambda value: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        torch.save({name: as_torch(value) for name, value in members.items()}, path)
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, value in members.items():
                file[name] = value.astype("S") if name == "ids" else value
    return str(path)


def explain(world, path, rows=slice(None), **options):
    return harness.explain("precomputed", world.net, world.inputs[rows], world.targets[rows], path=path, **options)


def refusal(world, path, error=UserError):
    with pytest.raises(error) as caught:
        explain(world, path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def evaluate(world, metrics, **explainers):
    options = {name: {"name": "precomputed", "path": path} for name, path in explainers.items()}
    return harness.evaluate(
        world.net,
        harness.Data(
            world.inputs, world.targets, train_labels=torch.randint(3, (30,)), ids=[f"s{i}" for i in range(COUNT)]
        ),
        explainers=options,
        metrics=metrics,
        explain_batch=3,
        train=world.train,
    )


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".h5"])
def test_the_maps_in_a_file_come_out_bit_for_bit(world, suffix):
    assert torch.equal(explain(world, write(world, suffix)), world.maps)


def test_a_bare_tensor_and_other_number_types_are_maps_too(world):
    path = world.folder / "bare.pt"
    torch.save(world.maps.double(), path)
    assert torch.equal(explain(world, str(path)), world.maps)
    assert torch.equal(explain(world, write(world, ".npy", attributions=world.maps.half().numpy())), world.maps.half())
    whole = (world.maps * 100).int()
    assert torch.equal(explain(world, write(world, ".npy", attributions=whole.numpy())), whole.float())


def test_maps_of_one_number_per_unit_or_of_one_channel_are_taken_as_from_any_explainer(world):
    for maps in (world.maps.sum(1), world.maps.sum(1, keepdim=True)):
        found = explain(world, write(world, ".npy", attributions=maps.numpy()))
        assert torch.equal(found.squeeze(1), world.maps.sum(1))


def test_scores_are_those_of_the_explainer_that_made_the_maps(world):
    maps = harness.explain("input_x_gradient", world.net, world.inputs, world.targets)
    path = write(world, ".npy", attributions=maps.numpy())
    options = {"input_x_gradient": {}, "mine": {"name": "precomputed", "path": path}}
    frame = harness.evaluate(
        world.net,
        world.inputs,
        world.targets,
        explainers=options,
        metrics=["deletion", "sparseness", "complexity"],
        explain_batch=2,
    )
    table = frame.pivot(index=["metric", "sample"], columns="explainer", values="value")
    assert len(table) == 3 * COUNT and table["mine"].notna().all()
    assert np.allclose(table["mine"], table["input_x_gradient"], rtol=1e-5)  # made in batches of another size


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".h5"])
def test_ids_say_whose_each_map_is_in_whatever_order(world, suffix):
    order = torch.randperm(COUNT)
    names = [f"s{i}" for i in order.tolist()]
    ids = names if suffix == ".pt" else np.array(names)
    shuffled = write(world, suffix, attributions=world.maps[order].numpy(), ids=ids)
    plain = write(world, ".npy")
    frame = evaluate(world, ["deletion"], shuffled=shuffled, plain=plain)
    table = frame.pivot(index="sample", columns="explainer", values="value")
    assert np.array_equal(table["shuffled"], table["plain"]) and table["plain"].notna().all()


def test_a_sample_of_which_another_class_is_explained_has_no_attribution(world):
    told = world.targets.clone()
    told[2] = (told[2] + 1) % 3
    path = write(world, ".npz", attributions=world.maps.numpy(), targets=told.numpy())
    frame = evaluate(world, ["sparseness"], mine=path).set_index("sample")
    assert frame["value"].isna().tolist() == [i == 2 for i in range(COUNT)]
    assert not frame["valid"].loc["s2"]


def test_metrics_that_explain_again_do_not_apply(world):
    names = [name for name, entry in METRICS.items() if "explainer" in entry.needs]
    assert {"max_sensitivity", "parameter_randomization", "random_logit", "grid_pointing"} <= set(names)
    frame = evaluate(world, names, mine=write(world, ".npy")).drop_duplicates("metric")
    assert sorted(frame["metric"]) == sorted(names)
    assert (frame["status"] == "not_applicable").all(), frame[["metric", "status", "error"]].to_string()
    said = frame.set_index("metric")["error"]
    assert "explains again, which precomputed attributions cannot do" in said["max_sensitivity"]


def test_what_they_cost_is_not_known(world):
    names = [name for name, entry in METRICS.items() if entry.kind == "cost"]
    frame = evaluate(world, names, mine=write(world, ".npy"))
    assert (frame["status"] == "not_applicable").all() and frame["error"].str.contains("cost is not known").all()


def test_other_inputs_are_never_answered_with_a_stored_map(world):
    from harness.api import samples_of
    from harness.engine.explain import Explaining
    from harness.registry import EXPLAINERS

    samples = samples_of(world.net, world.inputs, world.targets)
    explaining = Explaining(EXPLAINERS["precomputed"], {"path": write(world, ".npy")}, world.net)
    explaining.prepare(samples)
    rows = torch.tensor([4, 1])
    assert torch.equal(explaining(samples.take(rows)), world.maps[rows])
    moved = samples.inputs[rows].clone()
    moved[1, 0, 0, 0] += 1e-3
    with pytest.raises(NotApplicable, match="these inputs are others"):
        explaining(samples.with_inputs(moved, rows))


def test_a_nan_map_is_an_invalid_sample_and_all_nan_a_failure(world):
    world.maps[3, 0, 0, 0] = float("nan")
    path = write(world, ".npy")
    frame = evaluate(world, ["sparseness"], mine=path).set_index("sample")
    assert frame["value"].isna().sum() == 1 and not frame["valid"].loc["s3"]
    assert "1 of 7 samples hold NaN" in refusal(world, path)
    world.maps[:] = float("nan")
    assert (evaluate(world, ["sparseness"], mine=write(world, ".npy"))["status"] == "failed").all()


def test_no_file_named_does_not_apply(world):
    assert "needs path=FILE" in refusal(world, None, NotApplicable)


def test_each_mistake_is_one_line(world):
    ids = np.array([f"s{i}" for i in range(COUNT)])
    maps, file = world.maps.numpy(), write(world, ".npy")
    assert "does not exist" in refusal(world, file + ".npy")
    assert "no file of a known kind" in refusal(world, str(world.folder / "maps.csv"))
    cases = {
        "holds 5 maps, none for sample 5": (".npy", {"attributions": maps[:5]}),
        "attributions have shape ('N', 3, 4, 4), expected ('N', 2, 4, 4) or": (
            ".npy",
            {"attributions": np.zeros((COUNT, 3, 4, 4))},
        ),
        "an array (7,), expected one map for each": (".npy", {"attributions": np.zeros(COUNT)}),
        "expected real numbers": (".npy", {"attributions": np.full((COUNT, *SHAPE), "a")}),
        "Python objects": (".npy", {"attributions": np.array([{}] * COUNT, dtype=object)}),
        "no array 'attributions', only targets": (".npz", {"targets": np.arange(COUNT)}),
        "unknown key": (".npz", {"attribution": maps}),
        "holds 3 ids for 7 maps": (".npz", {"attributions": maps, "ids": ids[:3]}),
        "only 1 different": (".npz", {"attributions": maps, "ids": np.array(["s0"] * COUNT)}),
        "these inputs have no ids": (".npz", {"attributions": maps, "ids": ids}),
    }
    for said, (suffix, members) in cases.items():
        assert said in refusal(world, write(world, suffix, **members)), said
    for suffix in (".npy", ".npz", ".pt", ".h5"):
        if suffix != ".h5" or "h5py" in sys.modules:
            (world.folder / f"broken{suffix}").write_bytes(b"no such file")
            assert "cannot be read" in refusal(world, str(world.folder / f"broken{suffix}"))


def test_more_maps_than_samples_need_ids_and_a_sample_without_a_map_is_named(world):
    more = np.concatenate([world.maps.numpy(), world.maps.numpy()])
    frame = evaluate(world, ["sparseness"], mine=write(world, ".npy", attributions=more))
    assert (frame["status"] == "failed").all() and frame["error"].str.contains("14 maps for 7 samples").all()
    ids = np.array([f"s{i}" for i in range(1, COUNT + 1)])
    frame = evaluate(world, ["sparseness"], mine=write(world, ".npz", attributions=world.maps.numpy(), ids=ids))
    assert frame["error"].str.contains("no map for the sample 's0'").all()


def test_objects_in_a_torch_file_are_never_loaded(world):
    path = world.folder / "objects.pt"
    torch.save({"attributions": world.maps, "ids": Data}, path)
    assert "Python objects" in refusal(world, str(path))


def test_hdf5_without_its_library_names_the_extra(world, monkeypatch):
    (world.folder / "maps.h5").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "pip install 'harness[h5]'" in refusal(world, str(world.folder / "maps.h5"))


def test_another_content_of_the_file_makes_its_cells_stale_and_no_others(world):
    from harness.jobs.plan import Plan

    path = write(world, ".npy")
    config = {
        "model": "cancer_mlp",
        "dataset": "breast_cancer",
        "metric": ["sparseness"],
        "run": "night",
        "explainer": {"mine": {"name": "precomputed", "path": path}, "random": {}},
    }
    codes = lambda: [plan.subject_code(e) for plan in [Plan.of(config)] for e in plan.explainers]
    mine, random = codes()
    world.maps[0] += 1
    write(world, ".npy")
    assert codes()[0] != mine and codes()[1] == random


def test_several_files_are_scored_in_one_run_from_the_command_line(world, monkeypatch):
    monkeypatch.chdir(world.folder)
    for name in ("first", "second"):
        np.save(world.folder / f"{name}.npy", torch.randn(8, 30).numpy())
    explainers = [f"+explainer.{name}={{name:precomputed,path:{name}.npy}}" for name in ("first", "second")]
    settings = ["runs=here", "control=false", "lease=share", "chunk=8", "sheet=0", "device=cpu", "quiet=true"]
    status = main(
        [
            "run",
            "model=cancer_mlp",
            "dataset=breast_cancer",
            "~explainer",
            *explainers,
            "metric=[sparseness,deletion]",
            "protocol.samples=8",
            "run=night",
            *(f"runtime.{setting}" for setting in settings),
        ]
    )
    rows = Store(world.folder / "here" / "night").latest().values()
    assert status == 0 and {row["status"] for row in rows} == {"ok"}
    assert {(row["explainer"], row["metric"]) for row in rows} == {
        (name, metric) for name in ("first", "second") for metric in ("sparseness", "deletion")
    }
    assert len({row["value"] for row in rows if row["metric"] == "deletion"}) == 2


@pytest.mark.parametrize(
    "name, values, words",
    [
        ("targets", np.array(["a"] * COUNT), "expected class indices"),
        ("targets", np.full(COUNT, 0.5), "such as 0.5"),
        ("targets", np.zeros((COUNT, 2)), "targets (7, 2) for 7 maps"),
        ("ids", np.float64(3), "ids () for 7 maps"),
    ],
)
def test_ids_and_targets_that_are_not_one_each_are_one_line(world, name, values, words):
    path = write(world, ".npz", attributions=world.maps.numpy(), **{name: values})
    assert words in refusal(world, path)


def test_a_sparse_tensor_is_one_line_and_the_other_order_of_bytes_is_read(world):
    torch.save(world.maps.to_sparse(), world.folder / "sparse.pt")
    assert "expected a dense one" in refusal(world, str(world.folder / "sparse.pt"))
    assert torch.equal(explain(world, write(world, ".npy", attributions=world.maps.numpy().astype(">f4"))), world.maps)
