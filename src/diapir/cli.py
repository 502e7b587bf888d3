"""The command line: arguments in, one step per command. Imports inside functions keep `diapir --help` quick."""

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Never, get_args, get_type_hints

import typer
import typer.core
from typer.models import ParameterInfo

from diapir import __version__
from diapir.cli_data import data_app
from diapir.cli_review import report as report_page
from diapir.cli_review import review_app, serve
from diapir.cli_survey import survey_app
from diapir.faults import InputError, report
from diapir.processor import is_first_process, tune_process
from diapir.train.doctor import TrainingFailed
from diapir.train.stop import Stopped, stop_at_once

if TYPE_CHECKING:
    from diapir.pipeline.run import DoSteps

_SURVEYS, _DATA, _TRAINING, _LOOKING, _SCORES = (
    "Surveys", "Tiles", "Training and predicting", "Looking and correcting", "Scores and comparisons",
)  # fmt: skip
_ORDER = (
    "survey", "data", "run", "predict", "bundle", "find-lr", "rollback",
    "report", "serve", "review", "score", "check-submission", "compare", "replay", "results",
)  # fmt: skip


class _InOrder(typer.core.TyperGroup):
    """A class, for click asks one for the order in which it lists commands: groups would come last."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)


app = typer.Typer(
    name="diapir",
    cls=_InOrder,
    help="Finds salt in seismic data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data", rich_help_panel=_DATA)
app.add_typer(survey_app, name="survey", rich_help_panel=_SURVEYS)
app.add_typer(review_app, name="review", rich_help_panel=_LOOKING)

_MOST_ALIKE = 50


class Tracker(StrEnum):
    """Where epoch records go besides the run's own log."""

    MLFLOW = "mlflow"
    TENSORBOARD = "tensorboard"


@app.callback(invoke_without_command=True)
def diapir(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    """Finds salt in seismic data."""
    if version:
        print(f"diapir {__version__}")
        raise typer.Exit


@app.command("score", rich_help_panel=_SCORES)
def score(
    submission: Annotated[Path, typer.Argument(help="CSV with id and rle_mask, plain or .gz.")],
    truth: Annotated[Path, typer.Argument(help="CSV with the true masks, or a folder with truth.csv or train.csv.")],
    depths: Annotated[
        Path | None, typer.Option(help="CSV with id and z; else depths.csv beside the truth, if it is there.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file too.")] = None,
) -> None:
    """Score a submission: in all, by salt coverage and by depth, with 95 % intervals."""
    from rich.console import Console

    from diapir.predict.scoring import print_scoring, score_submission, write_scoring

    scoring = score_submission(submission, truth, depths_path=depths)
    print_scoring(scoring, Console())
    if json:
        write_scoring(scoring, json)


@app.command("check-submission", rich_help_panel=_SCORES)
def check_submission(
    submission: Annotated[Path, typer.Argument(help="CSV with id and rle_mask, plain or .gz.")],
    against: Annotated[Path, typer.Option(help="The sample submission: the ids that are wanted.")],
) -> None:
    """Name the line and the fault of every bad row of a submission."""
    from diapir.faults import raise_if_any
    from diapir.predict import submission as submissions

    raise_if_any(submissions.check_submission(submission, against=against))
    print(f"ok: {len(submissions.read_submission(submission))} rows")


@app.command("run", rich_help_panel=_TRAINING)
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe file, e.g. recipes/quickstart.yaml.")],
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    data: Annotated[
        Path | None, typer.Option(help="A data set: the competition's files, or a prepared folder.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run.")] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Keep the steps that a changed recipe or data set leaves as they are.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Show the steps and what is to do, and leave.")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Only see that every step runs, on a few tiles, in minutes.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave faulty tiles out; the record names them.")
    ] = False,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: stages.0.epochs=3. May be repeated.")
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Devices that train each net together.")] = 1,
    side_by_side: Annotated[
        int | None, typer.Option(min=1, help="Processes here that train folds and members side by side, a device each.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The same on a dask cluster, such as tcp://host:8786.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor threads for each net: the same number, the same bytes.")
    ] = None,
    track: Annotated[
        list[Tracker] | None, typer.Option(help="Also log epochs to mlflow or tensorboard (extras). May be repeated.")
    ] = None,
) -> None:
    """Run a recipe from tiles to submission: train, score, predict, draw.

    Exit statuses: 0, done; 2, the input or the command cannot be used; 3, the run cannot succeed, for the cause that is
    named; 130 and 143, stopped by Ctrl-C and SIGTERM: what is done is saved, and --resume goes on.
    """
    from diapir.recipe.files import read_recipe

    settings = read_recipe(recipe, changes=change or ())
    if smoke:
        from diapir.recipe.smoke import smoke_recipe

        settings = smoke_recipe(settings)

    from diapir.pipeline.run import require_one_way, run_recipe, show_plan, summary

    if plan:
        print(show_plan(settings, out, data_path=data, skip_bad=skip_bad))
        return
    require_one_way(devices=devices, side_by_side=side_by_side, scheduler=scheduler)
    try:
        with _workers(side_by_side, scheduler, threads=threads, data_path=data, skip_bad=skip_bad) as do_steps:
            record = run_recipe(
                settings, out, data_path=data, resume=resume, update=update, skip_bad=skip_bad,
                devices=devices, threads=threads, do_steps=do_steps,
                tracker_names=[tracker.value for tracker in dict.fromkeys(track or ())],
            )  # fmt: skip
    except Stopped as stop:
        raise Stopped(stop.signal_number, "what is done is saved: the same command with --resume goes on") from None
    if record:
        print(summary(record, out))


@contextmanager
def _workers(
    count: int | None, address: str | None, *, threads: int | None, **source: Any
) -> Iterator["DoSteps | None"]:
    """What does the steps of a run side by side, if that is wanted."""
    if count is None and address is None:
        yield None
        return
    # Here, for most runs do without dask, which takes a second or two.
    from diapir.pipeline import side_by_side

    if address is not None:
        where = side_by_side.workers_at(address, threads=threads)
    else:
        assert count is not None
        where = side_by_side.local_workers(count, threads=threads)
    with where as crew:
        yield partial(side_by_side.side_by_side, crew=crew, **source)


@app.command("predict", rich_help_panel=_TRAINING)
def predict(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run, or a bundle.")],
    data: Annotated[Path, typer.Argument(help="A data set whose unlabelled tiles are wanted, or a folder of PNGs.")],
    out: Annotated[Path, typer.Argument(help="The submission to write: .csv or .csv.gz.")],
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave faulty tiles out.")] = False,
) -> None:
    """Find salt in the unlabelled tiles of a data set with the models of a run or a bundle."""
    from diapir.pipeline.new_tiles import predict_with_run
    from diapir.predict.submission import require_submission_place, write_submission

    require_submission_place(out)
    tiles, masks = predict_with_run(run, data, skip_bad=skip_bad)
    write_submission(out, tiles.ids, masks)
    print(f"{out}: {len(tiles)} tiles, {masks.any((1, 2)).mean():.1%} with salt")


@app.command("bundle", rich_help_panel=_TRAINING)
def bundle(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run, or another bundle.")],
    out: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    data: Annotated[Path | None, typer.Option(help="The data set that the run had, if any.")] = None,
    licence: Annotated[str, typer.Option(help="For the card: under which terms the weights may be used.")] = "",
    onnx: Annotated[bool, typer.Option("--onnx", help="The nets as ONNX too, held against torch.")] = False,
) -> None:
    """Write what predicting needs of a run as one hashed folder, with training tiles' figures, scores and a card."""
    from diapir.pipeline.bundle import write_bundle
    from diapir.pipeline.bundle_files import CARD

    model = write_bundle(run, out, data_path=data, licence=licence, with_onnx=onnx)
    files = sum(len(member.weights) for member in model.members)
    print(f"{out}: files of weights: {files}; {out / CARD} says what they are; digest {model.digest}")


@app.command("rollback", rich_help_panel=_TRAINING)
def rollback(
    run: Annotated[Path, typer.Argument(help="The folder of a run, finished or not.")],
    step: Annotated[str, typer.Argument(help="A pseudo-label step of it.")],
    data: Annotated[Path | None, typer.Option(help="The data set that the run had, if any.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be dropped and done, and leave.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="As the run was given.")] = False,
) -> None:
    """Take a round of pseudo-labels out of a run, with all that came of it, and submit from before the round.

    Nothing is deleted: what is dropped moves to RUN/rolled_back/STEP-1. What is left of the run is then done, as by
    diapir run --resume; of a finished run that is its submission alone.
    """
    from diapir.pipeline.rollback import plan_rollback, roll_back, rollback_text
    from diapir.pipeline.run import summary

    planned = plan_rollback(run, step, data_path=data, skip_bad=skip_bad)
    print(rollback_text(planned))
    if not plan:
        print(summary(roll_back(planned, data_path=data, skip_bad=skip_bad), run))


@app.command("compare", rich_help_panel=_SCORES)
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Finished runs, two or more; the first is the measure.")],
) -> None:
    """Hold runs against the first: score by depth, coverage and boundary, and how they were made differently."""
    from rich.console import Console

    from diapir.predict.comparing import print_comparison

    if len(runs) < 2:
        raise InputError.of("compare", f"expected two runs or more, found {len(runs)}")
    for other in runs[1:]:
        print_comparison(runs[0], other, Console())


@app.command("replay", rich_help_panel=_SCORES)
def replay(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    out: Annotated[Path, typer.Option(help="Where to do it again: a new folder.")],
    data: Annotated[Path | None, typer.Option(help="The data set that the run had, if any.")] = None,
) -> None:
    """Do a run again, and say which files came out the same to the byte, or what went in that was not the same."""
    from diapir.pipeline.replay import replay_run, replay_text

    print(replay_text(replay_run(run, out, data_path=data)))


@app.command("results", rich_help_panel=_SCORES)
def results(
    folder: Annotated[Path, typer.Argument(help="Such as results/tgs: a folder a recipe, record.json in each.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("docs/results.md"),
) -> None:
    """Write the table of results from their records: published figures, ours, and the gap."""
    from diapir.predict.results import results_page
    from diapir.runs import require_file_place, write_text

    require_file_place(out)
    write_text(out, results_page(folder))
    print(out)


@app.command("find-lr", rich_help_panel=_TRAINING)
def find_lr(
    recipe: Annotated[Path, typer.Argument(help="A recipe file; its first stage is tried.")],
    data: Annotated[Path, typer.Option(help="A data set: the competition's files, or a prepared folder.")],
    out: Annotated[Path, typer.Option(help="The picture to draw: .png.")],
    model: Annotated[str, typer.Option(help="One of the recipe's models, where it has several.")] = "",
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: stages.0.batch=16. May be repeated.")
    ] = None,
) -> None:
    """Find a learning rate to start from: raise it step by step, and see where the loss falls fastest."""
    from diapir.recipe.files import read_recipe

    settings = read_recipe(recipe, changes=change or ())

    from diapir.data.tgs import open_data
    from diapir.recipe.whole import model_alone
    from diapir.train.find_rate import find_rate

    settings = model_alone(settings, model) if model else settings
    sweep = find_rate(settings, open_data(data), out)
    print(f"{out}: the loss falls fastest at {sweep.steepest:.2g}; the recipe has {settings.stages[0].optimiser.lr:g}")


app.command("report", rich_help_panel=_LOOKING)(report_page)
app.command("serve", rich_help_panel=_LOOKING)(serve)


def _leave_reading_to_steps(commands: typer.Typer) -> None:
    """Typer looks whether files may be read, and tells it on five lines; the step that reads one says it on one."""
    for command in commands.registered_commands:
        for hint in get_type_hints(command.callback, include_extras=True).values():
            for setting in get_args(hint):
                if isinstance(setting, ParameterInfo):
                    setting.readable = False
    for group in commands.registered_groups:
        if group.typer_instance:
            _leave_reading_to_steps(group.typer_instance)


_leave_reading_to_steps(app)


def main() -> None:
    """Run a command; whatever ends it too early is told in a line or a few, with the status that stands for it."""
    tune_process()
    stop_at_once()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files hold what a terminal cannot show; that is no reason to fail when the work is done.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except InputError as error:
        # A person reads a screen of them; a file or a pipe takes them all.
        most_alike = _MOST_ALIKE if sys.stderr.isatty() else None
        _leave(2, *(f"error: {line}" for line in report(error.faults, most_alike=most_alike)))
    except TrainingFailed as error:
        _leave(3, f"error: {error}")
    except Stopped as stop:
        _leave(128 + stop.signal_number, str(stop))
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        _leave(3, f"error: out of memory ({reason}): try smaller batches, smaller tiles or a slimmer net")
    except BrokenPipeError:
        # The reader of a pipe left (`diapir ... | head`): no fault of ours, and no traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        place = f"{Path(error.filename)}: " if error.filename else ""
        _leave(2, f"error: {place}{error.strerror or error}")


def _is_lack_of_memory(error: Exception) -> bool:
    """Torch tells of it in words alone, and differently for each kind of device."""
    words = ("allocate memory", "out of memory", "not enough memory")
    return isinstance(error, MemoryError) or any(part in str(error) for part in words)


def _leave(status: int, *lines: str) -> Never:
    """Say why, and end; the helpers of a run on several devices leave both to the first process."""
    if not is_first_process():
        # The first process may end it while Python is clearing up, where an exception would be told as a traceback.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.exit(0)
    for line in lines:
        print(line, file=sys.stderr)
    sys.exit(status)
