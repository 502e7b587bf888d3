import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from diapir.data import synthetic
from diapir.data.synthetic import write_synthetic
from diapir.nets.weights import load_tensors
from diapir.pipeline import predicting, submitting, training
from diapir.pipeline import run as pipeline
from diapir.recipe.files import write_recipe
from diapir.runs import locked_folder, read_json
from diapir.train.epoch_log import read_log
from fake_command import Answer, Command
from fake_training import tiny_run_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

ON = "the same command with --resume goes on"
# Long enough to be stopped on its way by another process.
LONG = {"stages.0.epochs": 30, "stages.0.score_every": 10}


def written(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    """A tiny recipe as a file."""
    path = folder / "tiny.yaml"
    path.write_text(write_recipe(tiny_run_recipe(changes)))
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "finished"
    pipeline.run_recipe(tiny_run_recipe(), out, data_path=None)
    return out


def one_line(text: str) -> str:
    (line,) = text.splitlines()
    return line


# What goes well.


def test_a_run_prints_its_score_and_once_more_when_asked_again(diapir: Command, finished: Path, tiny: Path) -> None:
    answer = diapir("run", tiny, "--out", finished)
    assert answer.status == 0
    assert answer.err == ""
    assert f"score       {read_json(finished / 'record.json')['score']:.4f}" in answer.out
    for name in ("tiles.png", "submission.csv", "record.json"):
        assert str(finished / name) in answer.out


def test_a_finished_run_predicts_other_data(diapir: Command, finished: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", labelled=20, unlabelled=5, seed=1)
    answer = diapir("predict", finished, tmp_path / "data", tmp_path / "out.csv")
    assert answer.status == 0, answer.err
    assert "5 tiles" in one_line(answer.out)
    assert (tmp_path / "out.csv").read_bytes() == (finished / "submission.csv").read_bytes()


def test_a_bundle_predicts_as_its_run_does(diapir: Command, finished: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", labelled=20, unlabelled=5, seed=1)
    answer = diapir("bundle", finished, tmp_path / "bundle", "--licence", "none yet")
    assert answer.status == 0, answer.err
    assert str(tmp_path / "bundle" / "card.md") in one_line(answer.out)
    assert diapir("predict", tmp_path / "bundle", tmp_path / "data", tmp_path / "out.csv").status == 0
    assert (tmp_path / "out.csv").read_bytes() == (finished / "submission.csv").read_bytes()


def test_a_damaged_bundle_is_told_of_with_status_2(diapir: Command, finished: Path, tmp_path: Path) -> None:
    assert diapir("bundle", finished, tmp_path / "bundle").status == 0
    card = tmp_path / "bundle" / "card.md"
    card.write_text(card.read_text().replace("0", "1", 1))
    for command in (("predict", tmp_path, tmp_path / "out.csv"), ("bundle", tmp_path / "out")):
        answer = diapir(command[0], tmp_path / "bundle", *command[1:])
        assert answer.status == 2
        assert one_line(answer.err).startswith(f"error: {card}: it does not match its SHA-256 in bundle.json")


def test_a_run_without_rounds_has_nothing_to_roll_back(diapir: Command, finished: Path) -> None:
    answer = diapir("rollback", finished, "round-1")
    assert answer.status == 2
    assert one_line(answer.err).endswith("expected a pseudo-label step of its recipe (none), found 'round-1'")


def test_mosaics_are_written_and_rules_held_against_masks(diapir: Command, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", labelled=20, unlabelled=5, seed=1)
    answer = diapir("data", "mosaics", tmp_path / "data", "--out", tmp_path / "mosaics")
    assert answer.status == 0, answer.err
    for name in ("mosaics.csv", "mosaics.json", "mosaics.png"):
        assert str(tmp_path / "mosaics" / name) in answer.out
        assert (tmp_path / "mosaics" / name).exists()
    assert "extrude_vertical: exact on " in answer.out


def test_a_learning_rate_is_found_and_drawn(diapir: Command, tiny: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", labelled=20, unlabelled=5, seed=1)
    change = "stages.0.optimiser.lr=0.125"
    answer = diapir("find-lr", tiny, "--data", tmp_path / "data", "--out", tmp_path / "rate.png", "--set", change)
    assert answer.status == 0, answer.err
    line = one_line(answer.out)
    assert str(tmp_path / "rate.png") in line
    assert "the recipe has 0.125" in line
    assert 1e-6 <= float(line.partition(" at ")[2].partition(";")[0]) <= 10
    assert (tmp_path / "rate.png").read_bytes().startswith(b"\x89PNG")


def test_the_help_of_run_lists_the_exit_statuses(diapir: Command) -> None:
    answer = diapir("run", "--help")
    assert answer.status == 0
    for status in ("0,", "2,", "3,", "130", "143", "--resume"):
        assert status in answer.out


def test_the_package_runs_as_a_module() -> None:
    def told(*command: str) -> str:
        return subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout

    assert told(sys.executable, "-m", "diapir") == told(str(Path(sys.executable).with_name("diapir"))) != ""


def test_settings_are_changed_and_epochs_tracked(diapir: Command, tiny: Path, tmp_path: Path) -> None:
    changes = ("--set", "stages.0.epochs=1", "--set", "stages.1.epochs=1", "--set", "name=short")
    answer = diapir("run", tiny, "--out", tmp_path / "run", *changes, "--track", "tensorboard")
    assert answer.status == 0, answer.err
    assert [record["stage"] for record in read_log(tmp_path / "run" / "train" / "fold-0")] == ["small", "native"]
    assert len(answer.err.splitlines()) == 2, "a line an epoch where there is no terminal"
    (events,) = (tmp_path / "run" / "tensorboard_logs" / "short-train-fold-0").iterdir()
    assert b"score" in events.read_bytes()


# What a person did or gave that cannot be used.


@pytest.mark.parametrize(
    "ways",
    [
        ["--devices 2", "--side-by-side 2"],
        ["--devices 2", "--scheduler tcp://host:8786"],
        ["--side-by-side 2", "--scheduler tcp://host:8786"],
    ],
)
def test_only_one_way_of_using_several_devices_is_taken(
    diapir: Command, tiny: Path, tmp_path: Path, ways: list[str]
) -> None:
    answer = diapir("run", tiny, "--out", tmp_path / "run", *" ".join(ways).split())
    assert answer.status == 2
    assert one_line(answer.err).startswith(f"error: {' '.join(ways)}: choose one: --devices trains each net on several")
    assert not (tmp_path / "run").exists()


def test_a_scheduler_that_is_not_there_is_one_line_and_status_2(diapir: Command, tiny: Path, tmp_path: Path) -> None:
    answer = diapir("run", tiny, "--out", tmp_path / "run", "--scheduler", "tcp://127.0.0.1:1")
    assert answer.status == 2
    assert one_line(answer.err).startswith("error: --scheduler tcp://127.0.0.1:1: nobody answers there (")
    assert not (tmp_path / "run").exists()


def test_a_run_takes_the_threads_that_it_is_told_to_and_says_so(diapir: Command, tiny: Path, tmp_path: Path) -> None:
    changes = ("--set", "stages.0.epochs=1", "--set", "stages.1.epochs=1")
    try:
        assert diapir("run", tiny, "--out", tmp_path / "run", "--threads", 2, *changes).status == 0
    finally:
        torch.set_num_threads(1)
    assert read_json(tmp_path / "run" / "record.json")["threads"] == [2]
    assert {record["threads"] for record in read_log(tmp_path / "run" / "train" / "fold-0")} == {2}


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["run", "{tmp}/absent.yaml", "--out", "{tmp}/run"], "{tmp}/absent.yaml: No such file or directory"),
        (["run", "{tmp}", "--out", "{tmp}/run"], "{tmp}: Is a directory"),
        (["run", "{tiny}", "--out", "{tiny}"], "{tiny}: File exists"),
        (["run", "{tiny}", "--out", "{tiny}/below"], "{tiny}/below: Not a directory"),
        (["run", "{tiny}", "--out", "{tmp}/run", "--data", "{tmp}/absent"], "{tmp}/absent: "),
        (["run", "{tiny}", "--out", "{tmp}/run", "--set", "data={{}}"], "--data: the recipe tiny makes no data"),
        (["run", "{tiny}", "--out", "{tmp}/run", "--devices", "99"], "--devices 99: expected at most "),
        (["run", "{tiny}", "--out", "{tmp}/run", "--set", "seed=x"], "{tiny}: seed: input should be a valid integer"),
        (["predict", "{tmp}", "{tmp}", "{tmp}/out.csv"], "{tmp}: expected the folder of a finished run"),
        (["predict", "{tmp}/absent", "{tmp}", "{tmp}/out.csv"], "{tmp}/absent: expected the folder of a finished run"),
        (
            ["predict", "{tmp}", "{tmp}", "{tmp}/data"],
            "{tmp}/data: expected the name of a file to write, found a folder",
        ),
        (
            ["predict", "{tmp}", "{tmp}", "{tmp}/out.zip"],
            "{tmp}/out.zip: expected a name that ends with .csv or .csv.gz",
        ),
        (["predict", "{tmp}", "{tmp}", "{tiny}/out.csv"], "{tiny}: Not a directory"),
    ],
)
def test_a_fault_is_one_line_and_status_2(
    diapir: Command, tiny: Path, tmp_path: Path, arguments: list[str], fault: str
) -> None:
    (tmp_path / "data").mkdir()
    answer = diapir(*(argument.format(tmp=tmp_path, tiny=tiny) for argument in arguments))
    assert answer.status == 2
    assert one_line(answer.err).startswith(f"error: {fault.format(tmp=tmp_path, tiny=tiny)}")


def test_all_faults_of_a_recipe_are_told_at_once(diapir: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: a\nstages: [{name: s, epoch: 3}]\nseed: x\n")
    answer = diapir("run", tmp_path / "bad.yaml", "--out", tmp_path / "run", "--set", "average.decay=7")
    assert answer.status == 2
    assert answer.err.splitlines() == [
        f"error: {tmp_path / 'bad.yaml'}: stages.0.epochs: this key is needed, and missing",
        f"error: {tmp_path / 'bad.yaml'}: stages.0.epoch: unknown key (value 3); did you mean 'epochs'?",
        f"error: {tmp_path / 'bad.yaml'}: average.decay: input should be less than 1, found 7",
        f"error: {tmp_path / 'bad.yaml'}: seed: input should be a valid integer, found 'x'",
    ]
    assert not (tmp_path / "run").exists()


def test_each_of_many_faults_is_told_where_no_terminal_shows_them(diapir: Command, tmp_path: Path) -> None:
    rows = "".join(f"tile{number},1 0\n" for number in range(70))
    (tmp_path / "sample.csv").write_text(f"id,rle_mask\n{rows}")
    answer = diapir("check-submission", tmp_path / "sample.csv", "--against", tmp_path / "sample.csv")
    assert answer.status == 2
    lines = answer.err.splitlines()
    assert [line.split(": ")[1] for line in lines] == [f"{tmp_path / 'sample.csv'}:{line}" for line in range(2, 72)]


def test_a_name_that_cannot_be_shown_is_no_reason_to_fail(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "diapir", "data", "synthetic", str(tmp_path / "Größe 🌊")]
    command += ["--labelled", "1", "--unlabelled", "0"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout == rf"{tmp_path}/Gr\xf6\xdfe \U0001f30a: 1 labelled and 0 unlabelled tiles, seed 0" + "\n"


def test_a_recipe_that_may_not_be_read_is_named(
    diapir: Command, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, **named: object) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refuse)
    answer = diapir("run", tiny, "--out", tmp_path / "run")
    assert (answer.status, answer.err) == (2, f"error: {tiny}: Permission denied\n")


@pytest.mark.parametrize(
    "arguments",
    [["fly"], ["run"], ["run", "{tiny}"], ["run", "{tiny}", "--devices", "0"], ["run", "{tiny}", "--track", "paper"]],
)
def test_a_command_that_does_not_exist_in_that_form_is_status_2(
    diapir: Command, tiny: Path, arguments: list[str]
) -> None:
    answer = diapir(*(argument.format(tiny=tiny) for argument in arguments))
    assert answer.status == 2
    assert "Usage" in answer.err
    assert "Traceback" not in answer.err


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_written(
    diapir: Command, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    answer = diapir("run", tiny, "--out", tmp_path / "run", "--track", "mlflow", "--track", "tensorboard")
    assert answer.status == 2
    assert answer.err.splitlines() == [
        f"error: --track {name}: it is not installed; install it with: python3 scripts/setup.py --extra {name}"
        for name in ("mlflow", "tensorboard")
    ]
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_two_runs_in_one_folder_are_refused(diapir: Command, tiny: Path, tmp_path: Path) -> None:
    with locked_folder(tmp_path / "run"):
        answer = diapir("run", tiny, "--out", tmp_path / "run")
    assert answer.status == 2
    assert f"another run (process {os.getpid()}) is writing here" in one_line(answer.err)


def test_a_full_disk_is_status_2_and_the_run_goes_on_when_there_is_room(
    diapir: Command, finished: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, calls = os.fsync, []

    def fill_up(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 15:  # in the midst of training
            raise OSError(28, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fill_up)
        answer = diapir("run", tiny, "--out", tmp_path / "run")
    assert answer.status == 2
    assert answer.err.splitlines()[-1].startswith(f"error: {tmp_path / 'run' / 'train' / 'fold-0'}")
    assert answer.err.endswith(": No space left on device\n")
    assert "Traceback" not in answer.err
    assert not list((tmp_path / "run").rglob("*.part"))
    assert diapir("run", tiny, "--out", tmp_path / "run", "--resume").status == 0
    assert_same_results(tmp_path / "run", finished)


def test_a_run_that_cannot_succeed_is_status_3_with_the_cause(diapir: Command, tiny: Path, tmp_path: Path) -> None:
    answer = diapir("run", tiny, "--out", tmp_path / "run", "--set", "stages.0.optimiser.lr=1.0e38")
    assert answer.status == 3
    assert "Traceback" not in answer.err
    last = answer.err.splitlines()[-1]
    assert last.startswith("error: train fold 0, stage small, epoch 1: the loss is ")
    assert "the learning rate" in last


@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 9 EiB"), RuntimeError("[...] can't allocate memory: you tried\n#0 0x1")]
)
def test_a_lack_of_memory_is_status_3_with_what_may_help(
    diapir: Command, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "make_synthetic", fail)
    answer = diapir("run", tiny, "--out", tmp_path / "run")
    assert answer.status == 3
    assert one_line(answer.err).startswith("error: out of memory (")
    assert one_line(answer.err).endswith("try smaller batches, smaller tiles or a slimmer net")


def test_a_mistake_of_ours_is_not_called_a_lack_of_memory(
    diapir: Command, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "make_synthetic", lambda **_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="tensor size"):
        diapir("run", tiny, "--out", tmp_path / "run")


# Stopped.


def assert_same_results(run: Path, other: Path) -> None:
    for name in (
        "train/fold-0/weights-last.safetensors",
        "train/fold-0/weights-best.safetensors",
        "submission.csv",
        "tiles.png",
    ):
        assert (run / name).read_bytes() == (other / name).read_bytes(), name


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize(
    ("place", "step", "number", "status"),
    [
        (pipeline, "make_synthetic", *SIGNALS[1]),
        (pipeline, "make_folds", *SIGNALS[0]),
        (training, "fit_fold", *SIGNALS[1]),
        (predicting, "write_array", *SIGNALS[0]),
        (submitting, "draw_predictions", *SIGNALS[0]),
        (submitting, "write_submission", *SIGNALS[1]),
    ],
)
def test_a_run_may_be_stopped_anywhere_and_goes_on(
    diapir: Command, finished: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    place: Any, step: str, number: signal.Signals, status: int,
) -> None:  # fmt: skip
    do_step = getattr(place, step)

    def do_it_and_be_stopped(*arguments: Any, **named: Any) -> Any:
        done = do_step(*arguments, **named)
        os.kill(os.getpid(), number)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(place, step, do_it_and_be_stopped)
        answer = diapir("run", tiny, "--out", tmp_path / "run")
    assert answer.status == status
    assert answer.out == ""
    assert answer.err.splitlines()[-1] == f"stopped by {number.name}; what is done is saved: {ON}"
    assert "Traceback" not in answer.err
    assert diapir("run", tiny, "--out", tmp_path / "run", "--resume").status == 0
    assert_same_results(tmp_path / "run", finished)


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_any_command_may_be_stopped(
    diapir: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    monkeypatch.setattr(synthetic, "write_synthetic", lambda *_, **__: os.kill(os.getpid(), number))
    answer = diapir("data", "synthetic", tmp_path / "data")
    assert (answer.status, answer.out, answer.err) == (status, "", f"stopped by {number.name}\n")


def started(*arguments: object) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("diapir")), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def stopped_in_training(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """Send a signal after the first epoch; exit status and the last line."""
    assert process.stderr is not None
    first = process.stderr.readline()
    assert first.startswith("train fold 0  small"), first + process.stderr.read()
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert out == ""
    assert "Traceback" not in err
    return process.returncode, err.splitlines()[-1]


def test_ctrl_c_to_a_real_process_costs_no_byte(tmp_path: Path) -> None:
    path, out = written(tmp_path, LONG), tmp_path / "run"
    with started("run", path, "--out", out) as process:
        told = f"stopped by SIGINT; what is done is saved: {ON}"
        assert stopped_in_training(process, signal.SIGINT) == (130, told)
    assert num_steps_saved(out) > 0
    assert not (out / "record.json").exists()
    recipe = tiny_run_recipe(LONG)
    pipeline.run_recipe(recipe, out, data_path=None, resume=True)
    pipeline.run_recipe(recipe, tmp_path / "uninterrupted", data_path=None)
    assert_same_results(out, tmp_path / "uninterrupted")


def num_steps_saved(out: Path) -> int:
    facts = load_tensors(out / "train" / "fold-0" / "checkpoint.safetensors")[1]
    return int(facts["progress"]["total_steps"])


# Several devices.


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processor cores")
def test_two_processes_train_one_net_are_stopped_by_a_signal_to_the_first_and_go_on(tmp_path: Path) -> None:
    # Batch norm sees the half of a batch that its process has, so losses agree roughly; test_loop.py shows that a net
    # without it takes the same steps. What dropout and noise draw differs too: they are switched off.
    changes = {
        "net.decoder.dropout": 0.0, "augment": {"flip": 0.5}, "stages.0.epochs": 8, "stages.0.score_every": 4,
        "stages.1.epochs": 1, "stages.0.framing": {"method": "native", "size": None},
    }  # fmt: skip
    path, out = written(tmp_path, changes), tmp_path / "run"
    with started("run", path, "--out", out, "--devices", 2) as process:
        assert process.stderr is not None
        told = next(line for line in process.stderr if " small  " in line)
        process.send_signal(signal.SIGTERM)
        # It ends where the second process, which writes to the same pipe, has ended too.
        told += process.communicate(timeout=120)[1]
    assert process.returncode == 143, told
    assert "Traceback" not in told, told
    assert told.splitlines()[-1] == f"stopped by SIGTERM; what is done is saved: {ON}"
    assert num_steps_saved(out) > 0
    with started("run", path, "--out", out, "--devices", 2, "--resume") as process:
        printed, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert printed.count("score  ") == 1, "the first process alone prints"
    pipeline.run_recipe(tiny_run_recipe(changes), tmp_path / "one", data_path=None)
    one, two = (read_log(folder / "train" / "fold-0") for folder in (tmp_path / "one", out))
    assert [record["epoch"] for record in two] == [*range(1, 9), 1]
    assert [record["learning_rate"] for record in two] == [record["learning_rate"] for record in one]
    for alone, together in zip(one[:3], two[:3], strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=0.1)
    assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}
    assert not list(out.rglob("*.part"))


def test_helpers_of_a_run_leave_words_and_status_to_the_first_process(
    diapir: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert diapir("run", tmp_path / "absent.yaml", "--out", tmp_path / "run") == Answer(0, "", "")
