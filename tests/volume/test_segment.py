"""A survey through a finished run's models: what plain loops over its sections give, whoever does which strip when."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.data.tiles import TILE, TileSet
from diapir.faults import InputError
from diapir.pipeline.bundle import open_model, write_bundle
from diapir.pipeline.predicting import net_batches
from diapir.pipeline.run import run_recipe
from diapir.pipeline.side_by_side import local_workers
from diapir.pipeline.survey_tiles import Moments, Predict, mask_source, mask_threshold, tile_predictor
from diapir.runs import read_json
from diapir.train.stop import Stopped
from diapir.train.together import make_fabric
from diapir.volume import segment as segment_module
from diapir.volume import segment_strip
from diapir.volume.greys import to_grey
from diapir.volume.line_numbers import Axis
from diapir.volume.resampling import plan_resampling
from diapir.volume.segment import one_after_another, segment
from diapir.volume.segment_on_dask import strips_by
from diapir.volume.segment_strip import SeenAs, StripJob, seen_as
from diapir.volume.store import Grid, Store, open_store, read_map
from diapir.volume.tiling import Blend, cut_tiles, plan_tiling
from fake_stores import fake_store, volume_of
from fake_training import tiny_run_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (53, 60, 40)
LIVE = np.random.default_rng(5).random(SHAPE[:2]) > 0.1
LIVE[:20, :7] = False


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds' models, and edits behind them, which surveys do without."""
    out = tmp_path_factory.mktemp("runs") / "run"
    steps = [
        {"do": "train", "name": "nets"},
        {"do": "predict", "name": "says", "of": "nets"},
        {"do": "post-process", "name": "cut", "of": "says", "edits": [{"name": "threshold", "cut": 0.45}]},
        {"do": "submit", "of": "cut"},
    ]
    run_recipe(tiny_run_recipe({"folds.held_out": [], "steps": steps}), out, data_path=None)
    return out


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Store:
    rng = np.random.default_rng(6)
    amplitude = rng.normal(size=SHAPE).astype(np.float32).cumsum(0).cumsum(2)
    amplitude[~LIVE] = 0
    return fake_store(tmp_path_factory.mktemp("stores") / "survey.zarr", {"amplitude": amplitude}, live=LIVE)


@pytest.fixture(scope="module")
def done(run: Path, survey: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    out = tmp_path_factory.mktemp("salt") / "salt.zarr"
    segment(survey.path, run, out, threads=1)
    return open_store(out)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def by_sections(run: Path, greys: NDArray[np.uint8]) -> Moments:
    """Every inline of (inlines, crosslines, samples), each cut, predicted tile by tile and blended."""
    predict = tile_predictor(open_model(run), precision="float32")
    tiling = plan_tiling((greys.shape[2], greys.shape[1]), tile=(TILE, TILE), overlap=(25, 25))
    found = np.empty((2, *greys.shape), np.float32)
    for number, section in enumerate(greys):
        mean, square = Blend.empty(tiling), Blend.empty(tiling)
        for place, tile in enumerate(cut_tiles(section.T, tiling)):
            said = predict(np.ascontiguousarray(tile)[None], np.full(1, np.nan, np.float32))
            mean.add(place, said.mean[0])
            square.add(place, said.square[0])
        found[0, number], found[1, number] = mean.section().T, square.section().T
    return Moments(*found)


def test_what_is_found_is_the_mean_of_both_directions(run: Path, survey: Store, done: Store) -> None:
    greys = to_grey(volume_of(survey, "amplitude"), limit=survey.facts["amplitude"]["limit"])
    along, across = by_sections(run, greys), by_sections(run, greys.swapaxes(0, 1))
    means = np.stack([along.mean, across.mean.swapaxes(0, 1)])
    squares = np.stack([along.square, across.square.swapaxes(0, 1)])
    mean, variance = means.mean(0), np.maximum(squares.mean(0) - means.mean(0).astype(np.float64) ** 2, 0)
    mean[~LIVE], variance[~LIVE] = 0, 0
    # Each direction is kept in halves until the other is there.
    np.testing.assert_allclose(volume_of(done, "probability").astype(np.float32), mean, atol=1e-3)
    np.testing.assert_allclose(volume_of(done, "disagreement").astype(np.float32), np.sqrt(variance), atol=2e-3)
    assert np.sqrt(variance).max() > 0.01, "the models must disagree somewhere, for this to say anything"


def test_models_are_averaged_and_their_variance_is_kept(run: Path) -> None:
    model = open_model(run)
    greys = np.random.default_rng(8).integers(0, 256, (3, TILE, TILE), dtype=np.uint8)
    said = tile_predictor(model, precision="float32")(greys, np.full(3, np.nan, np.float32))
    tiles = TileSet(("a", "b", "c"), greys, None, np.full(3, np.nan, np.float32))
    fabric, (member,) = make_fabric("float32", devices=1), model.members
    alone = np.stack(
        [next(net_batches(member.recipe, tiles, weights=run / one.file, fabric=fabric)).mask for one in member.weights]
    )
    assert len(alone) == 2
    np.testing.assert_allclose(said.mean, alone.mean(0), atol=1e-6)
    np.testing.assert_allclose(said.square, (alone.astype(np.float64) ** 2).mean(0), atol=1e-6)


def test_the_mask_is_the_probability_above_the_threshold(done: Store) -> None:
    assert done.facts["threshold"] == 0.45
    mask = volume_of(done, "mask")
    np.testing.assert_array_equal(mask, volume_of(done, "probability").astype(np.float32) > 0.45)
    assert 0 < mask.mean() < 1


def test_edits_of_single_tiles_are_left_out(run: Path) -> None:
    model = open_model(run)
    assert (mask_source(model), mask_threshold(model)) == ("says", 0.45)


def test_dead_traces_have_no_salt(done: Store) -> None:
    for name in ("probability", "disagreement", "mask"):
        assert not volume_of(done, name)[~LIVE].any()
    np.testing.assert_array_equal(read_map(done, "live"), LIVE)


def test_nothing_but_the_result_is_left(done: Store) -> None:
    maps, axes = {"live", "trace_row", "x", "y"}, {"inline", "crossline", "sample"}
    found = {path.name for path in done.path.iterdir()}
    assert found == {"probability", "disagreement", "mask", "zarr.json"} | maps | axes


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("count", [0, 2, 3, 5, 7])
def test_what_was_stopped_goes_on_to_the_same_bytes(
    run: Path, survey: Store, done: Store, tmp_path: Path, count: int
) -> None:
    out, jobs_done = tmp_path / "salt.zarr", list[StripJob]()

    def stopping(jobs: Sequence[StripJob]) -> Iterator[StripJob]:
        for job in one_after_another(jobs):
            if len(jobs_done) == count:
                raise Killed
            jobs_done.append(job)
            yield job

    def counting(jobs: Sequence[StripJob]) -> Iterator[StripJob]:
        for job in one_after_another(jobs):
            jobs_done.append(job)
            yield job

    with pytest.raises(Killed):
        segment(survey.path, run, out, threads=1, do_strips=stopping)
    with pytest.raises(InputError, match="was not finished"):
        open_store(out)
    segment(survey.path, run, out, threads=1, do_strips=counting)
    assert contents(out) == contents(done.path)
    # The one that was under way was done, and nobody had been told.
    assert len({(job.direction, job.number) for job in jobs_done}) == len(jobs_done) == 8 - 1


def test_a_strip_that_was_left_in_the_middle_is_done_again(
    run: Path, survey: Store, done: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls = tmp_path / "salt.zarr", [0]
    write_found = segment_strip._write_found

    def failing(*arguments: object, **options: object) -> None:
        calls[0] += 1
        write_found(*arguments, **options)  # type: ignore[arg-type]
        if calls[0] == 2:
            raise Killed

    monkeypatch.setattr(segment_strip, "_write_found", failing)
    with pytest.raises(Killed):
        segment(survey.path, run, out, threads=1)
    # What a killed process was writing.
    (out / "probability" / "c" / "half.partial").write_bytes(b"half")
    segment(survey.path, run, out, threads=1)
    assert contents(out) == contents(done.path)


@pytest.mark.parametrize("left", [(), (".lock",), ("ledger/",), (".lock", "ledger/", "ledger/.key.json.1.diapir.part")])
def test_a_process_that_was_killed_before_it_said_what_it_does_is_no_hindrance(
    run: Path, survey: Store, done: Store, tmp_path: Path, left: tuple[str, ...]
) -> None:
    out = tmp_path / "salt.zarr"
    out.mkdir()
    for name in left:
        (out / name).mkdir() if name.endswith("/") else (out / name).write_bytes(b"1")
    segment(survey.path, run, out, threads=1)
    assert contents(out) == contents(done.path)


def test_what_the_first_direction_found_is_missed_where_it_is_gone(run: Path, survey: Store, tmp_path: Path) -> None:
    out = tmp_path / "salt.zarr"

    def losing(jobs: Sequence[StripJob]) -> Iterator[StripJob]:
        if jobs[0].direction == "crossline":
            shutil.rmtree(out / "work" / "mean" / "c" / "1")
        yield from one_after_another(jobs)

    with pytest.raises(InputError, match=r"work/mean/c/1/0/0: expected a file of chunks"):
        segment(survey.path, run, out, threads=1, do_strips=losing)


@pytest.mark.parametrize("changed", ["survey", "model"])
def test_a_worker_that_sees_another_survey_or_model_refuses(
    run: Path, survey: Store, tmp_path: Path, changed: str
) -> None:
    """As where a path leads to one disk here and to another one there."""
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(survey.path, tmp_path / "survey.zarr")

    def elsewhere(jobs: Sequence[StripJob]) -> Iterator[StripJob]:
        if changed == "survey":
            file = tmp_path / "survey.zarr" / "zarr.json"
            file.write_text(file.read_text().replace("0" * 64, "1" * 64))
        else:
            record = tmp_path / "run" / "record.json"
            record.write_text(record.read_text() + "\n")
        yield from one_after_another(jobs)

    with pytest.raises(InputError, match="another survey or model lies here"):
        segment(tmp_path / "survey.zarr", tmp_path / "run", tmp_path / "out", threads=1, do_strips=elsewhere)


def test_what_was_begun_goes_on_where_survey_and_model_were_moved(
    run: Path, survey: Store, done: Store, tmp_path: Path
) -> None:
    out = tmp_path / "salt.zarr"

    def stopping(jobs: Sequence[StripJob]) -> Iterator[StripJob]:
        yield next(iter(one_after_another(jobs)))
        raise Stopped(15)

    with pytest.raises(Stopped):
        segment(survey.path, run, out, threads=1, do_strips=stopping)
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(survey.path, tmp_path / "survey.zarr")
    out.rename(tmp_path / "moved.zarr")
    segment(tmp_path / "survey.zarr", tmp_path / "run", tmp_path / "moved.zarr", threads=1)
    assert contents(tmp_path / "moved.zarr") == contents(done.path)


def test_what_is_done_is_not_done_again(run: Path, survey: Store, done: Store) -> None:
    before = contents(done.path)

    def never(jobs: Sequence[StripJob]) -> Iterator[StripJob]:
        raise AssertionError

    assert "done before" in segment(survey.path, run, done.path, threads=1, do_strips=never)
    assert contents(done.path) == before


@pytest.mark.parametrize("is_done", [True, False])
def test_work_with_other_options_is_refused(
    run: Path, survey: Store, done: Store, tmp_path: Path, *, is_done: bool
) -> None:
    out = tmp_path / "salt.zarr"
    if is_done:
        shutil.copytree(done.path, out)
    else:

        def stopping(jobs: Sequence[StripJob]) -> Iterator[StripJob]:
            raise Stopped(15)

        with pytest.raises(Stopped):
            segment(survey.path, run, out, threads=1, do_strips=stopping)
    before = contents(out)
    with pytest.raises(InputError, match="found one with another options"):
        segment(survey.path, run, out, threads=1, overlap=30)
    assert contents(out) == before


def test_a_folder_with_other_things_is_left_alone(run: Path, survey: Store, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError):
        segment(survey.path, run, tmp_path)
    assert contents(tmp_path) == {"letter.txt": b"dear"}
    with pytest.raises(InputError, match="expected a place outside of"):
        segment(survey.path, run, survey.path)


def test_a_survey_whose_headers_are_damaged_is_refused_before_the_work(run: Path, tmp_path: Path) -> None:
    survey = fake_store(tmp_path / "survey.zarr", {"amplitude": np.ones((3, 4, 5), np.float32)})
    (survey.path / "trace_headers").mkdir()
    (survey.path / "trace_headers" / "zarr.json").write_text("")
    with pytest.raises(InputError, match="trace_headers"):
        segment(survey.path, run, tmp_path / "salt.zarr", threads=1)
    assert not (tmp_path / "salt.zarr").exists()


def test_damaged_weights_of_a_run_are_told_before_anything_is_written(run: Path, survey: Store, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / open_model(run).members[0].weights[-1].file
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(file))):
        segment(survey.path, tmp_path / "run", tmp_path / "salt.zarr", threads=1)
    assert not (tmp_path / "salt.zarr").exists()


def test_a_place_that_may_not_be_written_to_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    for out in (tmp_path / "begun", tmp_path / "new"):
        (tmp_path / "begun").mkdir(exist_ok=True)
        with pytest.raises(PermissionError) as caught:
            segment(tmp_path / "absent.zarr", tmp_path / "absent", out)
        assert caught.value.filename == str(out if out.exists() else tmp_path)


def test_nothing_is_written_into_the_model(run: Path, survey: Store, tmp_path: Path) -> None:
    write_bundle(run, tmp_path / "model")
    before = contents(tmp_path / "model")
    with pytest.raises(InputError, match="outside of the bundle"):
        segment(survey.path, tmp_path / "model", tmp_path / "model" / "salt.zarr", threads=1)
    assert contents(tmp_path / "model") == before


def test_nothing_is_written_into_the_survey(run: Path, survey: Store) -> None:
    before = sorted(survey.path.rglob("*"))
    with pytest.raises(InputError, match="expected a place outside of"):
        segment(survey.path, run, survey.path / "salt.zarr", threads=1)
    assert sorted(survey.path.rglob("*")) == before


def test_a_full_disk_at_the_first_file_leaves_nothing_in_the_way(
    run: Path, survey: Store, done: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(segment_module, "write_json", full)
        with pytest.raises(OSError, match="No space"):
            segment(survey.path, run, tmp_path / "salt.zarr", threads=1)
    segment(survey.path, run, tmp_path / "salt.zarr", threads=1)
    assert contents(tmp_path / "salt.zarr") == contents(done.path)


def test_what_the_first_direction_found_and_is_lost_is_missed(run: Path, survey: Store, tmp_path: Path) -> None:
    out = tmp_path / "salt.zarr"

    def stopping(jobs: Sequence[StripJob]) -> Iterator[StripJob]:
        if jobs[0].direction == "crossline":
            raise Killed
        yield from one_after_another(jobs)

    with pytest.raises(Killed):
        segment(survey.path, run, out, threads=1, do_strips=stopping)
    lost = next(path for path in (out / segment_strip.MEAN / "c").rglob("*") if path.is_file())
    lost.unlink()
    with pytest.raises(InputError, match="expected a file of chunks") as caught:
        segment(survey.path, run, out, threads=1)
    assert str(lost) in str(caught.value)


def test_faults_of_options_are_told_together(run: Path, survey: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError) as told:
        segment(survey.path, run, tmp_path / "out", overlap=101, limit=-1.0, resample=0.0)
    assert [fault.where for fault in told.value.faults] == ["--overlap", "--limit", "--resample"]


def test_a_store_of_salt_is_no_survey(run: Path, done: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a survey"):
        segment(done.path, run, tmp_path / "out")


def test_an_unfit_model_is_used_only_where_that_is_wanted(
    run: Path, survey: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(run, tmp_path / "bundle")
    pale = {"limit": 100 * survey.facts["amplitude"]["limit"], "threads": 1}
    for _ in range(2):
        with pytest.raises(InputError, match="--anyway"):
            segment(survey.path, tmp_path / "bundle", tmp_path / "salt.zarr", **pale)
        assert not (tmp_path / "salt.zarr").exists()
    capsys.readouterr()
    segment(survey.path, tmp_path / "bundle", tmp_path / "salt.zarr", **pale, anyway=True)
    assert "unfit" in capsys.readouterr().err
    open_store(tmp_path / "salt.zarr")


def test_polarity_and_limit_are_those_of_the_options(run: Path, survey: Store, tmp_path: Path) -> None:
    flipped = fake_store(tmp_path / "flipped.zarr", {"amplitude": -4 * volume_of(survey, "amplitude")}, live=LIVE)
    limit = survey.facts["amplitude"]["limit"]
    segment(flipped.path, run, tmp_path / "one.zarr", threads=1, flip_polarity=True, limit=4 * limit)
    segment(survey.path, run, tmp_path / "two.zarr", threads=1)
    one, two = (open_store(tmp_path / name) for name in ("one.zarr", "two.zarr"))
    np.testing.assert_array_equal(volume_of(one, "probability"), volume_of(two, "probability"))


def test_traces_are_looked_at_as_they_were_resampled_and_found_at_their_own_samples(
    run: Path, survey: Store, tmp_path: Path
) -> None:
    segment(survey.path, run, tmp_path / "salt.zarr", threads=1, resample=2.5)
    made = plan_resampling(survey.grid, wanted=2.5)
    assert made.num_samples == 63
    greys = to_grey(made.resampled(volume_of(survey, "amplitude")), limit=survey.facts["amplitude"]["limit"])
    along, across = by_sections(run, greys), by_sections(run, greys.swapaxes(0, 1))
    means = [made.restored(along.mean), made.restored(across.mean.swapaxes(0, 1))]
    spreads = [
        made.restored(np.sqrt(np.maximum(found.square - found.mean.astype(np.float64) ** 2, 0)).astype(np.float32))
        for found in (along, across)
    ]
    spreads[1] = spreads[1].swapaxes(0, 1)
    variance = (spreads[0] ** 2 + spreads[1] ** 2) / 2 + ((means[0] - means[1]) / 2) ** 2
    mean = (means[0] + means[1]) / 2
    mean[~LIVE], variance[~LIVE] = 0, 0
    found = open_store(tmp_path / "salt.zarr")
    assert found.grid == survey.grid
    assert seen_as(found) == SeenAs(survey.facts["amplitude"]["limit"], flip_polarity=False, interval=2.5)
    np.testing.assert_allclose(volume_of(found, "probability").astype(np.float32), mean, atol=1e-3)
    np.testing.assert_allclose(volume_of(found, "disagreement").astype(np.float32), np.sqrt(variance), atol=2e-3)
    before = contents(tmp_path / "salt.zarr")
    for other in (None, 2.0):
        with pytest.raises(InputError, match="found one with another options"):
            segment(survey.path, run, tmp_path / "salt.zarr", threads=1, resample=other)
    assert contents(tmp_path / "salt.zarr") == before
    with local_workers(2, threads=1) as crew:
        segment(survey.path, run, tmp_path / "two.zarr", threads=1, resample=2.5, do_strips=strips_by(crew))
    assert contents(tmp_path / "two.zarr") == before


def test_tiles_of_resampled_traces_know_how_deep_they_are(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid(Axis(1, 1, 2), Axis(1, 1, 60), 120, 500.0, 10.0, "m")
    amplitude = np.random.default_rng(1).normal(size=grid.shape).astype(np.float32)
    survey = fake_store(tmp_path / "survey.zarr", {"amplitude": amplitude}, grid=grid)
    asked = set[float]()

    def predictor(*_: object, **__: object) -> Predict:
        def predict(greys: NDArray[np.uint8], depths_m: NDArray[np.float32]) -> Moments:
            asked.update(depths_m.tolist())
            return Moments(np.zeros(greys.shape, np.float32), np.zeros(greys.shape, np.float32))

        return predict

    monkeypatch.setattr(segment_strip, "tile_predictor", predictor)
    segment(survey.path, run, tmp_path / "salt.zarr", threads=1, resample=5.0)
    rows = plan_tiling((239, 60), tile=(TILE, TILE), overlap=(25, 25)).places
    assert sorted(asked) == sorted({500.0 + 5.0 * row for row, _ in rows})
    assert len(asked) > 1


@pytest.mark.parametrize("change", [{}, {"limit": -1}, {"limit": "1"}, {"flip_polarity": 0}, {"interval": 0}])
def test_a_store_that_does_not_say_how_it_was_looked_at_says_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    options = {"limit": 3.0, "flip_polarity": True, "interval": None} | change
    facts = {"key": {"options": options}} if change else {"key": 1}
    assert seen_as(fake_store(tmp_path / "salt.zarr", {"mask": np.zeros((1, 2, 3), np.uint8)}, **facts)) is None


@pytest.mark.parametrize("shape", [(1, 120, 30), (120, 1, 30), (3, 4, 5)])
def test_a_line_is_looked_at_one_way(run: Path, tmp_path: Path, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(7)
    survey = fake_store(tmp_path / "line.zarr", {"amplitude": rng.normal(size=shape).astype(np.float32)})
    segment(survey.path, run, tmp_path / "salt.zarr", threads=1)
    store = open_store(tmp_path / "salt.zarr")
    greys = to_grey(volume_of(survey, "amplitude"), limit=survey.facts["amplitude"]["limit"])
    is_turned = shape[0] > shape[1]
    mean = by_sections(run, greys.swapaxes(0, 1) if is_turned else greys).mean
    expected = mean.swapaxes(0, 1) if is_turned else mean
    np.testing.assert_allclose(volume_of(store, "probability").astype(np.float32), expected, atol=1e-3)
    assert store.facts["key"]["directions"] == (["crossline"] if is_turned else ["inline"])


def test_two_processes_give_the_bytes_of_one(run: Path, survey: Store, done: Store, tmp_path: Path) -> None:
    with local_workers(2, threads=1) as crew:
        segment(survey.path, run, tmp_path / "salt.zarr", threads=1, do_strips=strips_by(crew))
    assert contents(tmp_path / "salt.zarr") == contents(done.path)


def test_the_facts_say_what_the_result_depends_on(run: Path, survey: Store, done: Store) -> None:
    raw = read_json(done.path / "zarr.json")["attributes"]["diapir"]["facts"]
    assert raw["key"]["survey"] == survey.facts["digest"]
    assert raw["key"]["options"]["threads"] == 1
    assert raw["model"]["files"] == 2
    assert raw["finished"] is True
