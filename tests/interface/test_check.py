"""``harness check`` as its user meets it: every explainer on a model and data, and what its self-checks show."""

import json
import sys

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.cli.check import check_defaults
from harness.cli.check_table import print_checks
from harness.cli.main import main
from harness.registry import EXPLAINERS

SMALL = ["model=digits_cnn", "dataset=digits", "runtime.lease=share"]


def of_ones_own(name):
    """A model by its import in place of a registered one."""
    return ["~model", f'+model={{name:"test_check:{name}"}}', *SMALL[1:]]


QUICK = "explainer=[gradient,integrated_gradients,random]"


class Breaking(nn.Module):
    """Functions where captum hooks modules, one module used twice, and one that captum's LRP has no rule for."""

    def __init__(self):
        super().__init__()
        self.first, self.tanh, self.flatten = nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten()
        self.out = nn.Linear(4 * 36, 10)

    def forward(self, inputs):
        return self.out(self.flatten(self.tanh(0.5 * self.tanh(F.relu(self.first(inputs))))))


def breaking():
    """A net that captum's rows break on."""
    torch.manual_seed(0)
    return Breaking().eval()


def nowhere():
    """A model that is not there."""
    raise OSError("no such weights")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Files land in the test's own folder."""
    monkeypatch.chdir(tmp_path)


def check(*arguments):
    return main(["check", *SMALL, *arguments])


def test_a_row_for_each_explainer_says_what_it_cost_and_what_its_checks_show(capsys):
    assert check(QUICK, "explainer.integrated_gradients.steps=20") == 0
    printed = capsys.readouterr()
    lines = {line.split()[0]: line.split() for line in printed.out.splitlines() if line}
    assert lines["random"][1] == "ok" and lines["random"][-3:-1] == ["0", "0"]  # F and B
    assert lines["gradient"][-3:-1] == ["1", "1"]
    assert float(lines["integrated_gradients"][2]) < 0.05  # the sum's error
    assert "digits_cnn on digits" in printed.out and "3 explainers: 3 ok, 0 not applicable, 0 failed" in printed.out
    assert "3 explainers to check on 4 samples" in printed.err and "  1/3  gradient" in printed.err


def test_nothing_is_left_on_disk_and_quiet_says_nothing_but_the_table(capsys, tmp_path):
    assert check(QUICK, "--quiet") == 0
    assert capsys.readouterr().err == "" and list(tmp_path.iterdir()) == []


def test_the_table_is_no_wider_than_a_hundred_columns_and_has_no_blanks_at_line_ends(capsys):
    check("explainer=[captum_lrp,captum_guided_grad_cam,gradient]", "--quiet")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100 and all(line == line.rstrip() for line in lines)


def test_every_explainer_is_checked_unless_some_are_named_a_librarys_rows_last():
    every, samples = check_defaults(SMALL)
    names = every.removeprefix("explainer=[").removesuffix("]").split(",")
    assert sorted(names) == sorted(EXPLAINERS) and samples == "protocol.samples=4"
    assert [bool(EXPLAINERS[name].caveat) for name in names] == sorted(bool(EXPLAINERS[name].caveat) for name in names)
    assert check_defaults([*SMALL, "explainer=rise"]) == ["protocol.samples=4"]
    assert check_defaults([*SMALL, "explainer=rise", "protocol.samples=2"]) == []
    assert len(check_defaults([*SMALL, "explainer.rise.samples=2"])) == 2


def test_where_captum_breaks_it_is_told_and_not_scored_in_silence(capsys):
    rows = "explainer=[gradient,captum_lrp,captum_deep_lift,captum_guided_backprop,captum_deconvnet]"
    assert main(["check", *of_ones_own("breaking"), rows, "--quiet", "--csv", "checks.csv"]) == 0
    table = pd.read_csv("checks.csv").set_index("explainer")
    assert table.loc["captum_lrp", "status"] == table.loc["captum_deep_lift", "status"] == "not_applicable"
    assert "has no rule defined" in table.loc["captum_lrp", "error"]
    assert "Tanh() was detected" in table.loc["captum_deep_lift", "error"]
    assert set(table.loc[["captum_guided_backprop", "captum_deconvnet"], "equal_to"]) == {"gradient"}
    printed = capsys.readouterr().out
    assert "captum_lrp" in printed and "has no rule defined" in printed and "* equal to gradient" in printed
    assert "0 flagged, not counting rows of libraries with a known caveat" in printed


def test_the_csv_holds_everything_that_was_found(capsys):
    check(QUICK, "--quiet", "--csv", "checks.csv")
    table = pd.read_csv("checks.csv").set_index("explainer")
    audit = json.loads(table.loc["integrated_gradients", "audit"])
    assert audit["completeness_error"]["median"] == pytest.approx(
        table.loc["integrated_gradients", "completeness_error"]
    )
    assert (table["repeat_difference"] == 0).all() and (table["alone_difference"] < 1e-4).all()
    assert not table["model_changed"].any() and (table["model"] == "digits_cnn").all()
    assert table.loc["random", "forwards"] == 0 and (table["seconds"] >= 0).all()
    assert "3 rows: checks.csv" in capsys.readouterr().out


def copy(model, inputs, targets):
    """The gradient under another name."""
    inputs.requires_grad_()
    return torch.autograd.grad(model(inputs).gather(1, targets[:, None]).sum(), inputs)[0]


def vandal(model, inputs, targets):
    """Spoils the model."""
    next(model.parameters()).data.zero_()
    return inputs


@pytest.mark.parametrize(
    ("explainer", "status"),
    [("gradient", 0), ("captum_guided_backprop", 0), ("test_check:copy", 1), ("test_check:vandal", 1)],
)
def test_strict_is_status_one_if_an_explainer_failed_or_is_flagged_but_for_what_a_library_is_known_for(
    explainer, status, capsys
):
    chosen = ["explainer=random", f'+explainer.other={{name:"{explainer}"}}', "--quiet"]
    assert check(*chosen) == 0
    assert check(*chosen, "--strict") == status
    if explainer == "test_check:vandal":
        assert "ModelChanged: the explainer changed the model" in capsys.readouterr().out


def test_a_sweep_checks_every_model_and_goes_on_where_one_does_not_fit(capsys):
    sweep = ["model=cancer_mlp,digits_cnn", "dataset=digits", "explainer=gradient", "runtime.lease=share", "--quiet"]
    assert main(["check", "-m", *sweep, "--csv", "checks.csv"]) == 2
    printed = capsys.readouterr()
    assert "harness: cancer_mlp on digits could not be loaded: the model does not take inputs" in printed.err
    assert "digits_cnn on digits" in printed.out and len(pd.read_csv("checks.csv")) == 1


MISTAKES = {
    "an explainer": (["explainer=gradeint"], "unknown explainer 'gradeint': did you mean 'gradient'"),
    "a setting": (["protocol.smaples=2"], "unknown setting 'protocol.smaples'"),
    "a metric": (["metric=srg"], "metric= came, expected none"),
    "a file": (["--csv"], "--csv came without a value, expected --csv FILE"),
    "a place for it": (["--csv", "taken/checks.csv"], "cannot write taken/checks.csv"),
    "weights": (of_ones_own("nowhere"), "could not be loaded: OSError: no such weights"),
    "samples": (["protocol.samples=0"], "protocol.samples is 0, expected a whole number from 1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line(mistake, capsys, tmp_path):
    arguments, expected = MISTAKES[mistake]
    (tmp_path / "taken").write_text("a file where a folder should be")
    model = [] if "~model" in arguments else SMALL
    named = [] if mistake == "an explainer" else ["explainer=gradient"]
    assert main(["check", *model, *named, *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("harness: ")]
    assert len(lines) == 1 and expected in lines[0]


def test_names_with_brackets_and_colons_stand_in_the_table_as_they_are(capsys):
    rows = pd.DataFrame(
        [
            {
                "model": "m",
                "dataset": "d",
                "explainer": "my[bold]:smile:[/x]",
                "caveat": "",
                "status": "ok",
                "error": "",
                "flags": [],
            }
        ]
    )
    print_checks(rows, sys.stdout)
    assert "my[bold]:smile:[/x]" in capsys.readouterr().out


def test_the_file_may_be_given_behind_an_equals_sign(capsys):
    assert check("explainer=random", "--quiet", "--csv=checks.csv") == 0
    assert len(pd.read_csv("checks.csv")) == 1
    assert check("explainer=random", "--csv=") == 2


def test_an_interrupted_check_does_not_speak_of_cells_on_disk(capsys, monkeypatch):
    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.jobs.checking.check_plan", interrupted)
    assert check(QUICK) == 130
    assert capsys.readouterr().err == "harness: interrupted\n"
