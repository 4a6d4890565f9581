"""How to reproduce: the shell and Hydra read the command of a report as the configuration that was measured."""

import json
import random
import subprocess

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from harness.cli.hydra_config import for_each_job
from harness.identity import canonical
from harness.jobs.plan import Plan
from harness.results.report.blocks import blocks_of
from harness.results.report.origin import command, origin_part, unwritten
from harness.results.report.overrides import Unwritable, override_key, override_value
from harness.results.store import Store

LETTERS = "ab1e.,='\"[]{}:() \\$%&#;<>|~!?*@/+-_é\t\n\x1b"
LOOK_ALIKES = [
    *("null", "True", "FALSE", "nan", "-inf", "1", "1.5", "-1e3", "1_0", ".5", "5.", "", "~", "choice(a)", "a,b"),
    *("${x}", "\\${x}", "\\\\${x}", "${", "[a]", "{a:1}", "it's", 'say "no"', "C:\\folder\\", "\\", " a ", "x=1"),
]


def any_text(generator):
    if generator.random() < 0.5:
        return generator.choice(LOOK_ALIKES)
    return "".join(generator.choice(LETTERS) for _ in range(generator.randrange(8)))


def any_value(generator, depth=0):
    kind = generator.random()
    if depth < 3 and kind < 0.25:
        return [any_value(generator, depth + 1) for _ in range(generator.randrange(4))]
    if depth < 3 and kind < 0.45:
        keys = (any_text(generator) for _ in range(generator.randrange(4)))
        return {key: any_value(generator, depth + 1) for key in keys}
    plain = (None, True, False, generator.randrange(-9, 10**18), generator.gauss(0, 1), 1e-7, -1e20)
    return generator.choice((*plain, any_text(generator), any_text(generator)))


def as_hydra_reads(text):
    value = OverridesParser.create().parse_override(f"x={text}").value()
    return OmegaConf.to_container(OmegaConf.create({"x": value}), resolve=True)["x"]


def test_any_value_is_read_as_what_was_written_or_refused_for_a_key(seed):
    generator, refused = random.Random(seed), 0
    for _ in range(3000):
        value = any_value(generator)
        try:
            text = override_value(value)
        except Unwritable:
            refused += 1
            continue
        assert repr(as_hydra_reads(text)) == repr(value), text
    assert refused < 1500


@pytest.mark.parametrize("key", ["age", "marital status", "a:b", "x=1", "1st", "a-b", "sub.group", "a[0]", "(a)", "$x"])
def test_keys_of_a_mapping_keep_their_characters(key):
    assert as_hydra_reads(f"{{{override_key(key)}:1}}") == {key: 1}


@pytest.mark.parametrize("key", ["1", "1.5", "true", "null", "inf", "", "it's", 'a"b', "é", "a\\b", 3])
def test_keys_that_hydra_would_read_as_something_else_are_refused(key):
    with pytest.raises(Unwritable):
        override_key(key)


def as_bash_reads(line):
    """The words of a command as the shell hands them on."""
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


def planned(arguments):
    found = []
    for_each_job(arguments, lambda config: found.append(Plan.of(config)))
    return found


def record(plan, folder):
    """A run that holds the plan's cells, none of which has a score."""
    store = Store(folder)
    for cell in plan.cells:
        config = json.loads(canonical(plan.identity(cell.explainer, cell.metric)))
        about = {"cell": cell.id, "model": plan.model.label, "dataset": plan.dataset.label, "config": config}
        store.append({**about, "explainer": cell.explainer.label, "metric": cell.metric.label, "status": "failed"})
    (block,) = blocks_of([folder])
    return block


SETTINGS = ["model=digits_cnn", "explainer=[edge]", "metric=[srg]", "protocol.samples=12", "protocol.target=3"]


@pytest.mark.parametrize(
    "own",
    [
        ["dataset=table", "dataset.path=people.csv", "dataset.target=good", "dataset.groups=[sex]"],
        ["dataset=table", "dataset.path='my people, 2.csv'", "dataset.target='a = b'", "dataset.groups=['1','is old']"],
        ["dataset=table", 'dataset.path="it\'s \\"it\\".csv"', "dataset.target='null'", "dataset.groups=[]"],
        ["dataset=digits", "+metric.other={name:srg,baseline:zero}", "+explainer.mine={name:rise,samples:7}"],
        ["dataset=digits", "metric.srg.over={baseline:[zero,mean],granularity:[unit,patch]}"],
        ["dataset=digits", "~explainer", "+explainer.a-b={name:rise}"],
    ],
)
def test_the_command_plans_the_same_cells(tmp_path, own):
    settings = [each for each in SETTINGS if not ("~explainer" in own and each.startswith("explainer"))]
    settings += [f"runtime.runs={tmp_path}", "run=told"]
    (first,) = planned([*settings, *own])
    block = record(first, tmp_path / "told")
    words = as_bash_reads(command(block))
    (again,) = planned([*words[2:], f"runtime.runs={tmp_path}"])
    assert {cell.id for cell in again.cells} == {cell.id for cell in first.cells}
    labels = lambda plan: [sorted({chosen.label for chosen in each}) for each in (plan.explainers, plan.metrics)]
    assert labels(again) == labels(first)
    assert unwritten(block) == []


def row_with(folder, options):
    """A block of one cell whose data set has these options."""
    config = {"model": {"name": "m"}, "dataset": {"name": "d", **options}, "explainer": {"name": "e"}}
    about = {"cell": "c", "model": "m", "dataset": "d", "explainer": "e", "metric": "x", "status": "failed"}
    Store(folder).append({**about, "config": {**config, "metric": {"name": "x"}, "protocol": {"seed": 0}}})
    (block,) = blocks_of([folder])
    return block


def test_the_shell_hands_every_value_on_and_no_control_character_is_shown(tmp_path, seed):
    generator = random.Random(seed)
    texts = {f"option{place}": any_text(generator) for place in range(200)} | {"evil": "\x1b[31mred\x07 \u0085é"}
    line = command(row_with(tmp_path / "r", texts))
    assert line.isprintable()
    overrides = dict(word.split("=", 1) for word in as_bash_reads(line)[2:])
    for name, text in texts.items():
        assert as_hydra_reads(overrides[f"dataset.{name}"]) == text


def test_what_no_command_line_can_hold_is_told_on_the_page(tmp_path):
    block = row_with(tmp_path / "r", {"names": {"1": "one"}, "groups": ["sex"]})
    assert "dataset.groups=[sex]" in as_bash_reads(command(block)) and "names" not in command(block)
    assert "dataset.names: the key &#x27;1&#x27;" in origin_part(block)
