"""Composes configurations with Hydra and sweeps over them."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import product
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Glob
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.catalogue import CATALOGUES
from harness.cli.former_names import (
    DEFAULT,
    SHARED,
    defaults_by_reference,
    settings_with_present_names,
    with_present_names,
)
from harness.cli.groups import PAPERS, names_in_reach, with_folders_spread
from harness.cli.hydra_mistakes import (
    check_choices,
    check_settings,
    hydra_mistake,
    not_chosen,
    paper_is_no_run,
    refuse_launcher_of_hydra,
)
from harness.cli.item_checks import check_items
from harness.cli.origins import Origins
from harness.cli.override_text import has_own_files, own_folders, parsed_overrides
from harness.cli.own_items import offer_own_items
from harness.cli.sections import CONFIG_GROUPS, LABELLED_GROUPS, section_of_one
from harness.engine.variations import OVER, standard_choices
from harness.errors import UserError, printable, unknown
from harness.places import temporary_folder
from harness.registry import METRICS

try:
    from hydra._internal.hydra import Hydra
except ImportError:  # a later version of Hydra has it elsewhere: it composes once more, with the same result
    Hydra = None

QUOTED_OR_COLON = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\\:""")
EXPLAINERS, OUR_METRICS = CATALOGUES["explainer"], CATALOGUES["metric"]
MOST_KEPT = 1000  # validated configurations of a sweep that wait for their jobs; each takes some tenths of a megabyte
OFFERED: dict[tuple[str, str], str] = {}  # the choices that Hydra has, by their groups and names


def for_each_job(
    arguments: Sequence[str],
    job: Callable[[dict[str, Any]], int | None],
    *,
    with_launcher: bool = False,
    notes_sweep: bool = False,
    swept: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """Compose the configuration that command-line ``arguments`` describe, and call ``job`` with it as plain values.

    With ``-m`` the job is called for every combination of a sweep, by Hydra's launcher. The highest exit status that a
    job returned (None counts as 0) is returned. A UserError of one job is printed, counts as 2, and does not end a
    sweep. Raises UserError, in one line, for anything Hydra does not understand.

    ``with_launcher`` leaves the section ``launcher`` in the configuration. ``notes_sweep`` lets Hydra write a file
    about a sweep into the run, which is for commands that measure it. ``swept`` are the options of the model and of the
    data set that the sweep varies to which these arguments belong, if they are those of one of its jobs.
    """
    arguments = with_folders_spread(with_present_names(arguments))
    own_files = has_own_files(arguments)
    if not own_files:  # Hydra tells what is unknown there
        check_choices(arguments)
        check_settings(arguments)
    refuse_launcher_of_hydra(arguments)
    swept = swept_options(arguments) if swept is None else swept
    folders = own_folders(arguments)
    reached = None if folders is None else names_in_reach(arguments, folders)
    _offer_registry(reached)
    offer_own_items(arguments)
    statuses = [0]
    task = _task(job, statuses, swept, with_launcher)
    parts = _without_sweeps_over_groups(arguments)
    if len(parts) > 1 and any(re.match(r"[~+]|(model|dataset|explainer|metric)\.", word) for word in arguments):
        _check_parts(parts)  # only options of items can be refused in one part and not in another
    elif len(parts) > 1 and not own_files and _sweeps_over_plain_names(arguments):
        parts = [_groups_first(arguments)]  # one sweep: Hydra composes once more before the first job of each sweep
    sweeps = bool({"-m", "--multirun"} & set(arguments))
    mode_is_typed = not _files_may_sweep(arguments, reached)
    with temporary_folder() if sweeps and not notes_sweep else nullcontext() as elsewhere:
        for each in parts:
            _compose_jobs(each, task, elsewhere, mode_is_typed)
    return max(statuses)


def _files_may_sweep(arguments: Sequence[str], reached: Set[str] | None) -> bool:
    """Whether a file or a setting of Hydra may make the command a sweep, so that its flags alone do not tell.

    ``reached`` are the words of the files that the arguments reach; None if they are not known.
    """
    set_by_hand = any("hydra" in argument for argument in arguments)
    return reached is None or set_by_hand or RunMode.MULTIRUN.name in reached


def _check_parts(parts: Sequence[Sequence[str]]) -> None:
    """UserError for what Hydra refuses in one of the parts of a sweep, before any of them is measured."""
    for part in parts:
        swept = {each.input_line for each in parsed_overrides(part) if each.is_sweep_override()}
        try:
            _compose_jobs([word for word in part if word not in {*swept, "-m", "--multirun"}], lambda config: None)
        except UserError as error:
            own = [word for word in part if not all(word in other for other in parts)]
            raise UserError(f"{' '.join(own)}: {error}") from error


def _without_sweeps_over_groups(arguments: Sequence[str]) -> list[list[str]]:
    """The arguments for each combination of choices in the groups that a sweep varies, such as ``model=lite0,mine``.

    Before its sweep Hydra composes a configuration without what is swept, and would refuse there an option that
    only a swept model has.
    """
    if not {"-m", "--multirun"} & set(arguments):
        return [list(arguments)]
    choices = []
    groups = {each.input_line: each for each in parsed_overrides(arguments) if each.key_or_group in CONFIG_GROUPS}
    for argument in arguments:
        swept = groups[argument] if argument in groups and groups[argument].is_choice_sweep() else None
        swept = None if swept is not None and isinstance(swept.value(), Glob) else swept  # Hydra knows what is there
        values = [] if swept is None else swept.sweep_string_iterator()
        key = argument.partition("=")[0]
        choices.append([f"{key}={as_typed(value)}" for value in values] or [argument])
    return [list(each) for each in product(*choices)]


def _sweeps_over_plain_names(arguments: Sequence[str]) -> bool:
    """Whether the groups that are swept list plain names of items or experiments, so that Hydra's own sweep will do.

    It would change names in quotes, with colons or with globs, and composes the base of a sweep without what is swept,
    so without what the options of a launcher or a flag with a value belong to.
    """
    words = [word for word in arguments if word not in ("-m", "--multirun")]
    keys = [word.partition("=")[0] for word in words]
    if any(word.startswith("-") or "=" not in word for word in words) or len(set(keys)) < len(keys):
        return False
    swept = (
        each for each in parsed_overrides(words) if each.is_sweep_override() and each.key_or_group in CONFIG_GROUPS
    )
    plain = r"(model|dataset|explainer|metric|experiment)=(?!.*\bnull\b)[\w/]+(,[\w/]+)*"
    return all(re.fullmatch(plain, each.input_line) for each in swept)


def _groups_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with choices in ``CONFIG_GROUPS`` before all others, each in the order typed.

    Hydra varies the last argument fastest: jobs have the order that they have as one sweep after the other.
    """
    return sorted(arguments, key=lambda word: word.partition("=")[0] not in CONFIG_GROUPS)


def _compose_jobs(
    arguments: Sequence[str],
    task: Callable[[DictConfig], None],
    notes_folder: str | None = None,
    mode_is_typed: bool = False,
) -> None:
    """Let Hydra compose what the arguments describe, and call ``task`` with it; UserError for what it refuses.

    Its file about a sweep goes into ``notes_folder``, if given. ``mode_is_typed``: it is a sweep only if ``-m`` is
    typed.
    """
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    # Hydra expects overrides side by side: a -m between them goes first.
    sys.argv = ["harness", *sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))]
    if notes_folder is not None:
        sys.argv.append(f'hydra.sweep.dir="{notes_folder}"')
    os.environ["HYDRA_FULL_ERROR"] = "1"  # then Hydra raises errors, and does not print and exit
    try:
        with _help_of_any_type(), _composing_once(mode_is_typed):
            hydra.main(version_base="1.3", config_path="pkg://harness.conf", config_name="config")(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise hydra_mistake(error, arguments) from None
    except ValueError as error:  # metric=null
        if not str(error).startswith("Config group override"):
            raise
        raise hydra_mistake(error, arguments) from None
    finally:
        sys.argv = before[0]
        os.environ.pop("HYDRA_FULL_ERROR")
        if before[1] is not None:
            os.environ["HYDRA_FULL_ERROR"] = before[1]


def launches(arguments: Sequence[str]) -> bool:
    """Whether the arguments choose a launcher that starts other processes."""
    return any(each.key_or_group == "launcher" and each.value() != "here" for each in parsed_overrides(arguments))


def in_sweep() -> bool:
    """Whether the job that is being done is one of several, by -m or by its configuration."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


@contextmanager
def _help_of_any_type() -> Iterator[None]:
    """Let Hydra add its option ``--shell-completion``.

    Its help is an object that makes its text when it is printed. From Python 3.14 on argparse checks the help of every
    option that is added, and refuses one that is not text (Hydra 1.3.8 and older).
    """
    parser, name = argparse.ArgumentParser, "_check_help"
    check = getattr(parser, name, None)
    if check is None:  # Python 3.13 and older do not look at the help of an option that is added
        yield
        return
    setattr(parser, name, lambda self, action: check(self, action) if isinstance(action.help, str) else None)
    try:
        yield
    finally:
        setattr(parser, name, check)


@contextmanager
def _composing_once(mode_is_typed: bool) -> Iterator[None]:
    """Let Hydra compose each configuration once, and in less than half of the time, with the same result.

    It copies all choices whenever it composes, although it copies each again when it reads it. It composes all only to
    see whether a file makes the command a sweep, which is not necessary where that is known (``mode_is_typed``). And
    it composes all jobs of a sweep to see whether one is refused, and each again when it begins.

    Hydra's own sweeper writes its file about a sweep before that, so that it is made to compose all jobs earlier.
    """
    with ExitStack() as changes:
        changes.enter_context(_method_replaced(ConfigStore, "__deepcopy__", lambda self, memo: self))
        made = Plugins.instantiate_sweeper
        checking = lambda plugins, **given: _checking_first(made(plugins, **given))
        changes.enter_context(_method_replaced(Plugins, "instantiate_sweeper", checking))
        if mode_is_typed and Hydra is not None:
            changes.enter_context(_method_replaced(Hydra, "get_mode", lambda *_, **__: None))
        yield


def _checking_first(sweeper: Sweeper) -> Sweeper:
    """A sweeper that keeps what it composes; Hydra's own composes all jobs when it cuts them into batches.

    Nothing has been written by then, so that a sweep which is refused leaves nothing.
    """
    split = getattr(sweeper, "split_arguments", None)
    if split is None:  # a plugin
        sweeper.validate_batch_is_legal = partial(_validate_and_keep, sweeper)
    else:
        sweeper.split_arguments = partial(_split_and_validated, sweeper, split)
        sweeper.validate_batch_is_legal = lambda batch: None
    return sweeper


def _split_and_validated(
    sweeper: Sweeper, split: Callable[..., list[list[list[str]]]], overrides: Sequence[Any], batch_size: int | None
) -> list[list[list[str]]]:
    """The jobs of a sweep in batches, as Hydra's ``split`` makes them, after all of them have been composed."""
    if batch_size is not None and batch_size < 1:
        raise UserError(f"hydra.sweeper.max_batch_size is {batch_size}, expected 1 or more")
    batches = split(overrides, batch_size)
    _validate_and_keep(sweeper, [job for batch in batches for job in batch])
    return batches


def _validate_and_keep(sweeper: Sweeper, batch: Sequence[Sequence[str]]) -> None:
    """Compose the jobs of a sweep, each of which gets what was composed here when it begins.

    UserError if there are none, for example because a ``glob`` matches no name: Hydra would do nothing, and not say so.
    """
    if not batch:
        raise UserError(
            "this sweep has no jobs, because a glob(...) or range(...) in it gives no value; expected at least one "
            "(glob looks for names in a group and not in its folders; harness list shows the names)"
        )
    context = getattr(sweeper, "hydra_context", None)
    loader = sweeper.config_loader if context is None else context.config_loader
    compose, validated = type(loader).load_sweep_config.__get__(loader), dict[tuple[str, ...], DictConfig]()
    for overrides in batch:
        config = compose(master_config=sweeper.config, sweep_overrides=list(overrides))
        if len(validated) < MOST_KEPT:
            validated[tuple(overrides)] = config

    def composed(master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        found = validated.pop(tuple(sweep_overrides), None)
        return compose(master_config, sweep_overrides) if found is None else found

    loader.load_sweep_config = composed  # of this one loader, which Hydra makes for one command


@contextmanager
def _method_replaced(owner: type, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Replace a method of a class, or add it."""
    missing = object()
    before = vars(owner).get(name, missing)
    setattr(owner, name, function)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def words_of_job(arguments: Sequence[str]) -> list[str]:
    """The overrides of the job that is being done, one of those that the arguments describe, as they are typed for it.

    Hydra writes some signs of a word in another way, which is not what names of the user's own items are read from.
    """
    key = lambda word: word.partition("=")[0]
    overrides = parsed_overrides(with_folders_spread(arguments))
    swept = {key(each.input_line) for each in overrides if each.is_sweep_override()}
    typed = {key(each.input_line): each.input_line for each in overrides if key(each.input_line) not in swept}
    of_hydra = [word for name, word in typed.items() if name.lstrip("+~").startswith("hydra.")]
    return [*of_hydra, *(typed.get(key(word), as_typed(word)) for word in HydraConfig.get().overrides.task)]


def as_typed(word: str) -> str:
    """A word of Hydra's as a user types it: Hydra puts a backslash before the colon of an import.

    What stands in quotes is the user's own text.
    """
    return re.sub(QUOTED_OR_COLON, lambda found: ":" if found[0] == "\\:" else found[0], word)


def swept_options(arguments: Sequence[str]) -> dict[str, list[str]]:
    """The options of the model and of the data set that a sweep varies: they tell its jobs apart."""
    overrides = parsed_overrides(arguments)
    keys = [each.key_or_group.split(".") for each in overrides if each.is_sweep_override()]
    options = lambda section: [key[1] for key in keys if key[0] == section and len(key) > 1]
    return {section: options(section) for section in ("model", "dataset") if options(section)}


def last_shard(arguments: Sequence[str]) -> str:
    """The last shard of those that a sweep varies (``runtime.shard=0,1``); "" if it varies none, or in no order."""
    for each in parsed_overrides(arguments):
        if each.key_or_group == "runtime.shard" and each.is_discrete_sweep() and not isinstance(each.value(), Glob):
            values = [] if each.value().shuffle else list(each.sweep_string_iterator())
            return values[-1] if values else ""
    return ""


def _task(
    job: Callable[[dict[str, Any]], int | None],
    statuses: list[int],
    swept: Mapping[str, Sequence[str]],
    with_launcher: bool,
) -> Callable[[DictConfig], None]:
    """The function that Hydra calls for each job."""

    def task(config: DictConfig) -> None:
        try:
            _refuse_paper()
            settings = _settings_or_mistake(config)
            if not with_launcher:
                settings.pop("launcher", None)
            check_items(settings)
            for section, options in swept.items():
                settings[section] = {**settings[section], "swept": options}
            statuses.append(job(settings) or 0)
        except UserError as error:
            print(f"harness: {printable(error)}", file=sys.stderr)
            statuses.append(error.status)

    return task


def _settings_or_mistake(config: DictConfig) -> dict[str, Any]:
    """The configuration as ``Plan.of`` takes it; UserError for a reference in it that leads nowhere."""
    try:
        return _plain_settings(config)
    except OmegaConfBaseException as error:
        raise hydra_mistake(error, list(HydraConfig.get().overrides.task)) from None


def _plain_settings(config: DictConfig) -> dict[str, Any]:
    """The configuration as ``Plan.of`` takes it."""
    origins = Origins()
    unresolved = settings_with_present_names(OmegaConf.to_container(config, resolve=False), origins)
    unresolved = _without_options_of_others(unresolved, origins)
    settings = OmegaConf.to_container(OmegaConf.create(unresolved), resolve=True)
    settings.pop("experiment", None)
    settings |= {group: _with_bridged_names(chosen) for group, chosen in settings.items() if group in CATALOGUES}
    return settings | {"metric": _with_shared(settings.get("metric"))}


def _without_options_of_others(settings: Mapping[str, Any], origins: Origins) -> dict[str, Any]:
    """The settings without the options that an experiment sets for explainers or metrics which the user replaced.

    With ``experiment=series metric=[srg]`` the experiment's options of ``irof`` would else choose ``irof`` too. Raises
    UserError for an option of such an item that was typed.
    """
    typed = list(HydraConfig.get().overrides.task)
    groups = {each.partition("=")[0].lstrip("+") for each in typed}
    replaced = {}
    for group in LABELLED_GROUPS:
        if "experiment" in groups and group in groups and isinstance(settings.get(group), Mapping):
            others = [str(label) for label in settings[group] if not origins.is_chosen(group, str(label))]
            for label in others:
                came = origins.option_typed(group, label)
                if came is not None:
                    raise not_chosen(group, label, came, typed)
            replaced[group] = {label: each for label, each in settings[group].items() if str(label) not in others}
    return {**settings, **replaced}


def _refuse_paper() -> None:
    """UserError for the file of a paper, which is no configuration of a run."""
    typed = [each for each in HydraConfig.get().overrides.task if each.lstrip("+").startswith("experiment=")]
    for paper in re.findall(rf"{PAPERS}/(\w+)", " ".join(typed)):
        raise paper_is_no_run(f"{PAPERS}/{paper}", paper)


def _with_shared(metrics: Any) -> Any:
    """The metrics without the section ``shared``; its values are added to each metric that has the option and no value.

    Registered metrics have them already, since their defaults are references (``_own_or_shared``). Here metrics under
    a label of the user's get them, whose section lists only what the user set. An option whose default is None follows
    the explainer, and takes no shared value. Raises UserError for an option that no chosen metric has.
    """
    if not isinstance(metrics, Mapping) or SHARED not in metrics:
        return metrics
    chosen = {label: options for label, options in metrics.items() if label != SHARED}
    shared = metrics[SHARED] or {}
    if not isinstance(shared, Mapping):
        raise UserError(f"metric.{SHARED} is {shared!r}, expected a mapping of options to values")
    known: set[str] = set()
    for label, options in chosen.items():
        if options is not None and not isinstance(options, Mapping):
            continue  # Plan.of raises the error
        options = options or {}
        entry = _metric_entry(str(options.get("name", label)))
        known |= {option for option, default in entry.options.items() if default is not None}
        chosen[label] = {n: value for n, value in shared.items() if entry.options.get(n) is not None} | dict(options)
    for name in shared:
        if name not in known:
            raise unknown(f"option of the chosen metrics in metric.{SHARED}", name, known)
    return chosen


def _own_or_shared(metric: str, option: str, *, _root_: DictConfig) -> Any:
    """The value of a metric's option that the user does not set: that of ``metric.shared``, or else the default."""
    shared, default = OmegaConf.select(_root_, f"metric.{SHARED}"), _metric_entry(metric).options[option]
    if default is not None and isinstance(shared, DictConfig) and option in shared:
        return shared[option]
    return _as_in_files(default)


def _default_of(group: str, item: str, option: str) -> Any:
    """The default of an option that the user does not set."""
    return _as_in_files(CATALOGUES[group][item].options[option])


def _as_in_files(default: Any) -> Any:
    """A default as a file or the user would write it: a tuple is a list."""
    return list(default) if isinstance(default, tuple) else default


def _metric_entry(name: str) -> Any:
    """A metric's entry; one of the user's own is imported."""
    return METRICS.resolve(name) if ":" in name else OUR_METRICS[name]


# On import, since a launcher may run the task in another process, which imports this module and calls nothing else.
OmegaConf.register_new_resolver("own_or_shared", _own_or_shared, replace=True)
OmegaConf.register_new_resolver(DEFAULT, _default_of, replace=True)


def _with_bridged_names(chosen: Any) -> Any:
    """The choices with ``quantus.IROF`` as one name: Hydra reads the dot as a step into a section."""
    if not isinstance(chosen, dict):
        return chosen
    joined = dict(chosen)
    for prefix in {name.partition(".")[0] for name in OUR_METRICS.bridged()} & joined.keys():
        joined |= {f"{prefix}.{name}": options for name, options in (joined.pop(prefix) or {}).items()}
    return joined


def _offer_registry(wanted: Set[str] | None) -> None:
    """Make every registered name a choice in its config group, with its options and their defaults.

    Only those of ``wanted``, if given: Hydra copies choices several times.
    """
    chosen = lambda name: wanted is None or name in wanted
    for name in filter(chosen, EXPLAINERS):
        _offer("explainer", name, {name: defaults_by_reference("explainer", name, EXPLAINERS[name])})
    for name in filter(chosen, OUR_METRICS):
        entry = OUR_METRICS[name]
        switch = {OVER: None} if standard_choices(entry) else {}
        _offer("metric", name, {name: {**_looked_up(name, entry.options), **switch}})
    for name in OUR_METRICS.bridged():
        prefix, _, rest = name.partition(".")
        if chosen(rest):
            options = OUR_METRICS.bridged_options(name)
            _offer("metric", name, {prefix: {rest: _looked_up(name, options)}})
    for group in ("model", "dataset"):
        for name in filter(chosen, CATALOGUES[group]):
            options = defaults_by_reference(group, name, CATALOGUES[group][name])
            _offer(group, name, section_of_one(group, name, options))


def _offer(group: str, name: str, node: Mapping[str, Any]) -> None:
    """Make a node a choice, unless it is one already: Hydra takes long to convert hundreds of them."""
    store, known = ConfigStore.instance(), repr(node)  # equal nodes may have values of different types
    if OFFERED.get((group, name)) != known or f"{name}.yaml" not in store.repo.get(group, {}):
        store.store(group=group, name=name, node=node)
        OFFERED[group, name] = known


def _looked_up(metric: str, options: Mapping[str, Any]) -> dict[str, str]:
    """For each option a reference that gives its value when it is read; a value that the user sets replaces it."""
    return {option: f"${{own_or_shared:{metric},{option}}}" for option in options}
