"""What can befall a run, and what comes of it: the one table behind the tests and docs/reliability.md.

A ``Section`` is a table of the page. Its ``Attack``s are the rows: what happens, in words; the item of ``hostile.py``,
or whatever else the tests of the section need to bring it about; what comes of it, in words; and ``row``, the regular
expression that the row of each of its cells matches, as ``status: error flags``. Tests take their parameters from here,
so that the page lists what is tested and nothing else. To add a table, append a section to SECTIONS and write the tests
that go through its attacks; ``python docs/reliability.py`` writes the page.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Attack:
    """One row: a fault, what brings it about, what comes of it in words, and in the rows of its cells."""

    fault: str
    means: str
    outcome: str
    row: str = ""


@dataclass(frozen=True)
class Section:
    """One table of the page."""

    title: str
    about: str
    attacks: list[Attack] = field(default_factory=list)


NEW_PROCESS = "its cells fail; the rest is measured in a new process"
FAILS = "its cells fail, with the error"
AS_IF_NOT = "its cells are right, and so are all others"
LAST_IN = r"; last in .*hostile.py"
ENDED = r"failed: the process was ended by SIG{}.* after [\d.]+ s"

PROCESS = Section(
    "An explainer that ends the process",
    "The supervisor writes the rows. They say why and when the process ended, and where it was, if its stack is "
    "known; `errors/<cell>.txt` has the whole stack and what was printed.",
    [
        Attack(
            "reads memory that is not there", "segfault", NEW_PROCESS, ENDED.format("SEGV") + r"; last in .*hostile"
        ),
        Attack(
            "ends the process, with exit status 0",
            "exit_status",
            NEW_PROCESS,
            r"failed: the process ended itself with exit status 0",
        ),
        Attack(
            "hangs for longer than `runtime.cell_timeout`, and prints without end",
            "endless",
            f"{NEW_PROCESS}; 64 KiB of its output are kept, the rest is counted",
            r"failed: no end within runtime.cell_timeout=8 s.*; last in .*hostile.py",
        ),
        Attack(
            "holds more than `runtime.memory`, in a child process",
            "hoarder",
            f"{NEW_PROCESS}; the child is ended too",
            r"failed: its processes held 2\.\d GiB of memory, more than runtime.memory=2 .*; last in .*hostile.py",
        ),
        Attack(
            "closes every file of the process",
            "closer",
            NEW_PROCESS,
            r"failed: the process was ended because its file descriptors had been closed",
        ),
        Attack(
            "writes into every file of the process",
            "scribbler",
            f"{AS_IF_NOT}; what it has written to the supervisor is ignored, and a line counts it",
            "ok: ",
        ),
        Attack(
            "tells the supervisor that the run is done",
            "liar",
            f"{NEW_PROCESS}: a run is done when each cell has its row",
            r"failed: the process told that the run was done, with \d+ of its cells left out after .*; last in",
        ),
        Attack(
            "leaves a process without environment, in a session of its own",
            "leaver",
            f"{AS_IF_NOT}; the process ends with the worker",
            "ok: ",
        ),
        Attack(
            "leaves a thread at work that would change the weights",
            "lingering",
            "its cells count; the rest is measured in a new process",
            r"ok: ",
        ),
        Attack(
            "replaces a function of torch by its own",
            "patched_torch",
            NEW_PROCESS,
            r"failed: ModelChanged: the explainer changed what the model computes",
        ),
    ],
)

ERRORS = Section(
    "An explainer that raises an unusual error",
    "The same process goes on.",
    [
        Attack("raises `KeyboardInterrupt`, which is not the user's", "keyboard", FAILS, "failed: KeyboardInterrupt"),
        Attack("raises `GeneratorExit`", "generator_exit", FAILS, "failed: GeneratorExit: enough"),
        Attack("raises `SystemExit`", "system_exit", FAILS, "failed: SystemExit: no more"),
        Attack(
            "raises an error that is not an `Exception`", "panic", FAILS, "failed: Panic: called `unwrap` on nothing"
        ),
        Attack(
            "raises an error whose text cannot be made",
            "unspeakable",
            FAILS,
            r"failed: Unspeakable: \(its text cannot be shown: str\(\) raised Unspeakable\)",
        ),
        Attack(
            "raises an error whose text cannot be encoded",
            "surrogate",
            "its cells fail, with what can be printed of the error",
            r"failed: ValueError: half  ?a letter\[2J",
        ),
        Attack("raises an error that is the cause of its cause", "circle", FAILS, "failed: ValueError: hen"),
        Attack("forks, and raises in the child", "forking", f"the child ends; {AS_IF_NOT}", "ok: "),
        Attack("forks, and both go on", "forking_silently", f"the child ends; {AS_IF_NOT}", "ok: "),
    ],
)

CHANGES = Section(
    "An explainer that changes what is not its own",
    "Everything is put back before the next item is called.",
    [
        Attack(
            "changes the weights from a thread",
            "threaded",
            FAILS,
            "failed: ModelChanged: the explainer changed the model: the values of 0.weight",
        ),
        Attack(
            "puts another `forward` into the model",
            "patched_forward",
            FAILS,
            "failed: ModelChanged: the explainer changed the model: its forward",
        ),
        Attack(
            "puts another `forward` into a class of torch",
            "patched_class",
            FAILS,
            "failed: ModelChanged: the explainer changed the model: the functions of a module's class",
        ),
        Attack(
            "sets default device and dtype, modes, seeds, signal handlers and the working folder of the process",
            "settings",
            "all are put back; its cells count, with a flag that names what it has set",
            "ok: .*the explainer changed the default device, the default dtype, .*the working folder, .*put back",
        ),
        Attack(
            "closes standard output and error",
            "deaf",
            "both are opened again; its cells count, with a flag",
            "ok: .*the explainer changed the standard streams, .*put back",
        ),
        Attack("returns the same memory for every batch", "one_buffer", AS_IF_NOT, "ok: "),
        Attack("changes its inputs in place", "in_place", AS_IF_NOT, "ok: "),
    ],
)

METRICS = Section(
    "A metric",
    "A cell is one explainer scored by one metric.",
    [
        Attack("changes in place whatever it is given", "zeroing", "all cells are right", "ok: "),
        Attack(
            "is killed, as by a system that is out of memory",
            "killed",
            "the cell fails; the other cells, those of its explainer too, are measured in a new process",
            ENDED.format("KILL"),
        ),
        Attack("raises `KeyboardInterrupt`", "interrupt", "the cell fails", "failed: KeyboardInterrupt"),
    ],
)

ENDS = Section(
    "The end of a run",
    "Finished cells stay. The same command measures the others.",
    [
        Attack("Ctrl-Z", "SIGTSTP", "supervisor and worker stop, and go on together; the pause counts for no limit"),
        Attack("Ctrl-C while a cell is measured", "SIGINT", "one line, exit status 130; all its processes end"),
        Attack("SIGTERM while a cell is measured", "SIGTERM", "one line, exit status 143; all its processes end"),
        Attack(
            "SIGKILL of the supervisor",
            "SIGKILL",
            "the worker ends too; the next run begins with the cells that were not being measured",
        ),
        Attack("Ctrl-C while modules are imported", "import", "one line, exit status 130"),
        Attack("a model whose loading ends the process", "model", "one line, exit status 1; all cells say why"),
    ],
)

SECTIONS = [PROCESS, ERRORS, CHANGES, METRICS, ENDS]


def faults_table() -> str:
    """A table in Markdown for each section: what happens, and what comes of it."""
    parts = []
    for section in SECTIONS:
        rows = [f"| {each.fault} | {each.outcome} |" for each in section.attacks]
        parts += [f"**{section.title}**", section.about, "\n".join(["| fault | outcome |", "| --- | --- |", *rows])]
    return "\n\n".join(parts)
