"""Bundles predict as their runs do, to the byte; whatever is wrong with one is told in words."""

import copy
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diapir.cli import app
from diapir.data.statistics import tile_statistics
from diapir.data.synthetic import make_synthetic
from diapir.data.tiles import DataSet, write_data
from diapir.faults import InputError
from diapir.nets.weights import load_tensors, save_tensors
from diapir.pipeline import bundle_files
from diapir.pipeline.bundle import Model, open_model, write_bundle
from diapir.pipeline.bundle_files import CARD, MANIFEST, write_manifest
from diapir.pipeline.new_tiles import predict_with_run
from diapir.pipeline.rollback import plan_rollback
from diapir.pipeline.run import run_recipe
from diapir.predict.submission import write_submission
from diapir.recipe.whole import Recipe
from diapir.runs import json_digest, read_json, write_json
from fake_stores import shuffled_segy
from fake_training import TINY, tiny_run_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

STAGE = {**TINY["stages"][0], "epochs": 1, "framing": {"method": "resize", "size": 32}, "snapshot": {}}
STEPS: list[dict[str, Any]] = [
    {"do": "train", "name": "one"},
    {"do": "predict", "name": "one-says", "of": "one"},
    {"do": "train", "name": "two", "stages": [{**STAGE, "framing": {"method": "resize", "size": 24}}]},
    {"do": "predict", "name": "two-says", "of": "two"},
    {"do": "blend", "name": "both", "of": ["one-says", "two-says"], "ensemble": {"rescale": [1]}},
    {"do": "post-process", "name": "edited", "of": "both", "edits": [{"name": "threshold", "cut": "tuned"}]},
    {"do": "submit", "of": "edited"},
]
WEIGHTS = "one/fold-0/snapshot-small-best.safetensors"
NEEDED = {
    "recipe.yaml", "record.json", "both/step.json", "edited/step.json", WEIGHTS, WEIGHTS.replace("one", "two"),
    "one/fold-0/snapshots.json", "two/fold-0/snapshots.json",
}  # fmt: skip


def recipe(changes: dict[str, Any] | None = None) -> Recipe:
    base = {"stages": [STAGE], "steps": STEPS, "predict.weights": "snapshots", "average": {}}
    return tiny_run_recipe(base | (changes or {}))


@pytest.fixture(scope="module")
def data() -> DataSet:
    """What the runs make for themselves."""
    return make_synthetic(labelled=20, unlabelled=5, seed=1)[0]


@pytest.fixture(scope="module")
def path(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "set"
    write_data(data, out)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    run_recipe(recipe(), out, data_path=None)
    return out


@pytest.fixture(scope="module")
def bundled(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    out = tmp_path_factory.mktemp("bundles") / "bundle"
    write_bundle(run, out)
    return out


@pytest.fixture
def bundle(bundled: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundled, tmp_path / "bundle")


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def submission(folder: Path, path: Path, out: Path) -> bytes:
    tiles, masks = predict_with_run(folder, path)
    write_submission(out, tiles.ids, masks)
    return out.read_bytes()


def signed(bundle: Path, changes: dict[str, Any] | None = None, *, names: set[str] | None = None) -> None:
    """Make the manifest fit whatever was done to the files, as a forger would."""
    old = read_json(bundle / MANIFEST)
    facts = {key: value for key, value in old.items() if key not in ("format", "version", "files", "digest")}
    write_manifest(bundle, facts | (changes or {}), names=set(old["files"]) if names is None else names)


def refusal(bundle: Path) -> str:
    with pytest.raises(InputError) as error:
        open_model(bundle)
    return str(error.value)


# What goes well.


def test_run_and_bundle_give_the_same_submission_to_the_byte(
    run: Path, bundled: Path, path: Path, tmp_path: Path
) -> None:
    again = submission(bundled, path, tmp_path / "again.csv")
    assert again == submission(run, path, tmp_path / "run.csv") == (run / "submission.csv").read_bytes()


def test_a_bundle_holds_what_predicting_needs_and_nothing_else(bundled: Path) -> None:
    assert set(content(bundled)) == NEEDED | {MANIFEST, CARD}


def test_members_that_a_blend_does_not_use_are_left_out(run: Path, path: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(run, tmp_path / "run")
    note = read_json(alone / "both" / "step.json")
    note["figures"] |= {"members": [1]}
    write_json(alone / "both" / "step.json", note)
    write_bundle(alone, tmp_path / "bundle")
    assert set(content(tmp_path / "bundle")) == {
        name for name in NEEDED if not name.startswith("one/")
    } | {MANIFEST, CARD}  # fmt: skip
    shutil.rmtree(alone / "one")
    again = submission(tmp_path / "bundle", path, tmp_path / "again.csv")
    assert again == submission(alone, path, tmp_path / "run.csv")


def test_bundles_of_one_run_and_of_its_bundle_are_the_same_bytes(
    run: Path, bundled: Path, path: Path, tmp_path: Path
) -> None:
    write_bundle(run, tmp_path / "again", data_path=path)
    write_bundle(bundled, tmp_path / "of-bundle")
    write_bundle(bundled, tmp_path / "with-data", data_path=path)
    assert content(tmp_path / "again") == content(bundled)
    assert content(tmp_path / "of-bundle") == content(bundled)
    assert content(tmp_path / "with-data") == content(bundled)


def test_a_bundle_says_what_it_is(run: Path, bundled: Path, data: DataSet) -> None:
    model = open_model(bundled)
    record = read_json(run / "record.json")
    assert model.threshold == record["threshold"]
    assert model.statistics == tile_statistics(data.labelled.images, depths_m=data.labelled.depths_m)
    assert [member.step for member in model.members] == ["one-says", "two-says"]
    assert [member.frame.size for member in model.members] == [32, 24]
    assert model.manifest is not None
    for stored, member in zip(model.manifest["members"], model.members, strict=True):
        assert stored["has_salt_head"] is True
        assert stored["views"] == ["plain", "flip"]
        (weights,) = stored["weights"]
        assert weights["share"] == 1
        assert weights["input"] == load_tensors(bundled / weights["file"])[1]["spec"]
        assert weights["input"]["channels"] == list(member.recipe.input.channels)
    assert open_model(run).manifest is None


def test_the_card_tells_a_person_score_interval_source_and_licence(run: Path, bundled: Path, tmp_path: Path) -> None:
    record, card = read_json(run / "record.json"), (bundled / CARD).read_text()
    low, high = record["interval_95"]
    for told in (f"{record['score']:.4f}", f"{low:.4f} to {high:.4f}", record["score_kind"], "source: synthetic"):
        assert told in card
    assert "Not stated" in card
    write_bundle(bundled, tmp_path / "free", licence="CC BY 4.0")
    write_bundle(tmp_path / "free", tmp_path / "still-free")
    card = (tmp_path / "still-free" / CARD).read_text()
    assert "CC BY 4.0" in card
    assert "Not stated" not in card


# What cannot be bundled, and leaves nothing behind.


def test_an_unfinished_run_is_refused(run: Path, tmp_path: Path) -> None:
    half = shutil.copytree(run, tmp_path / "half")
    (half / "record.json").unlink()
    with pytest.raises(InputError, match=r"expected the folder of a finished run or a bundle, found no record\.json"):
        write_bundle(half, tmp_path / "out")
    with pytest.raises(InputError, match="expected the folder of a finished run or a bundle"):
        write_bundle(tmp_path / "absent", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"half"}


def test_a_run_with_damaged_parts_is_refused(run: Path, tmp_path: Path) -> None:
    bad = shutil.copytree(run, tmp_path / "bad")
    weights = bytearray((bad / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (bad / WEIGHTS).write_bytes(weights)
    with pytest.raises(InputError, match=r"snapshot-small-best\.safetensors: .*damaged"):
        write_bundle(bad, tmp_path / "out")
    (bad / WEIGHTS).unlink()
    (bad / WEIGHTS.replace("one", "two")).unlink()
    with pytest.raises(InputError) as error:
        write_bundle(bad, tmp_path / "out")
    assert len(error.value.faults) == 2, "both are told"
    assert {path.name for path in tmp_path.iterdir()} == {"bad"}


def test_other_data_than_the_runs_are_refused(run: Path, bundled: Path, tmp_path: Path) -> None:
    write_data(make_synthetic(labelled=20, unlabelled=5, seed=2)[0], tmp_path / "others")
    for source in (run, bundled):
        with pytest.raises(InputError, match=r"others: these are not the data that .* was trained on"):
            write_bundle(source, tmp_path / "out", data_path=tmp_path / "others")
    assert not (tmp_path / "out").exists()


def test_a_run_that_made_no_data_of_its_own_needs_them_named(run: Path, path: Path, tmp_path: Path) -> None:
    fed = shutil.copytree(run, tmp_path / "fed")
    run_recipe(recipe({"data": {}}), fed, data_path=path, update=True)
    with pytest.raises(InputError, match=r"--data: .*name a data set"):
        write_bundle(fed, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert write_bundle(fed, tmp_path / "out", data_path=path).statistics == open_model(tmp_path / "out").statistics


def test_nothing_is_written_over_or_into(run: Path, bundle: Path) -> None:
    before = content(bundle)
    with pytest.raises(InputError, match="expected a new or empty folder"):
        write_bundle(run, bundle)
    with pytest.raises(InputError, match="expected a place outside of the bundle"):
        write_bundle(bundle, bundle / "inner")
    assert content(bundle) == before


def test_no_command_writes_into_a_bundle(bundle: Path, path: Path, tmp_path: Path) -> None:
    before = content(bundle)
    for words in (
        ["data", "check", path, "--out", bundle / "check"],
        ["data", "mosaics", path, "--out", bundle / "mosaics"],
        ["results", tmp_path, "--out", bundle / "results.md"],
        ["report", bundle, "--out", bundle / "report.html"],
        ["survey", "info", shuffled_segy(tmp_path), "--out", bundle / "info"],
    ):
        with pytest.raises(InputError, match="expected a place outside of the bundle"):
            app([str(word) for word in words], standalone_mode=False)
    assert content(bundle) == before


def test_nobody_trains_in_a_bundle(bundle: Path) -> None:
    before = content(bundle)
    for update in (False, True):
        with pytest.raises(InputError, match="it is a bundle, which can only predict"):
            run_recipe(recipe(), bundle, data_path=None, resume=True, update=update)
    with pytest.raises(InputError, match="it is a bundle, which can only predict"):
        plan_rollback(bundle, "round-1", data_path=None)
    assert content(bundle) == before


def test_a_full_disk_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*places: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(places[0]), None, str(places[1]))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_bundle(run, tmp_path / "out")
    assert caught.value.filename == str(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# What is wrong with a bundle.


def test_a_flipped_bit_anywhere_is_found_and_the_file_named(bundle: Path) -> None:
    rng = np.random.default_rng(0)
    for name, whole in content(bundle).items():
        for place in (0, len(whole) - 1, *rng.integers(0, len(whole), 20 if name == MANIFEST else 2)):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(8))
            (bundle / name).write_bytes(damaged)
            assert f"{bundle / name}" in refusal(bundle)
        (bundle / name).write_bytes(whole[:-1])
        assert f"{bundle / name}" in refusal(bundle)
        (bundle / name).write_bytes(whole)
    assert open_model(bundle).manifest is not None


def test_all_missing_files_are_named(bundle: Path) -> None:
    for name, whole in content(bundle).items():
        (bundle / name).unlink()
        assert f"{bundle / name}: expected this file" in refusal(bundle)
        (bundle / name).write_bytes(whole)
    (bundle / WEIGHTS).unlink()
    (bundle / CARD).unlink()
    assert len(refusal(bundle).splitlines()) == 2


@pytest.mark.parametrize("name", ["extra.pkl", ".hidden", "one/fold-0/weights-last.safetensors", "folds.csv"])
def test_what_does_not_belong_is_named(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes(b"x")
    assert f"{bundle / name}: it is not part of the bundle" in refusal(bundle)
    signed(bundle, names={*read_json(bundle / MANIFEST)["files"], name})
    assert f"{bundle / name}: no step of the recipe needs it" in refusal(bundle)
    (bundle / name).unlink()
    (bundle / name).mkdir()
    assert f"{bundle / name}: " in refusal(bundle)


def test_links_and_pipes_are_not_followed(bundle: Path, tmp_path: Path) -> None:
    (bundle / WEIGHTS).rename(tmp_path / "elsewhere")
    (bundle / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    assert refusal(bundle).splitlines() == [
        f"{bundle / WEIGHTS}: expected a file of its own, found a link; use another copy of the bundle"
    ]
    (bundle / WEIGHTS).unlink()
    os.mkfifo(bundle / WEIGHTS)
    assert f"{bundle / WEIGHTS}: " in refusal(bundle)
    (bundle / "one").rename(tmp_path / "one")
    (bundle / "one").symlink_to(tmp_path / "one")
    assert f"{bundle / 'one'}: expected a file of its own, found a link" in refusal(bundle)
    (bundle / MANIFEST).rename(tmp_path / MANIFEST)
    (bundle / MANIFEST).symlink_to(tmp_path / MANIFEST)
    assert "found a link" in refusal(bundle)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "one/../../outside", "one//x", "./x", "", ".", "a\\b", "a\nb", MANIFEST]
)
def test_a_path_that_leads_outside_is_refused(bundle: Path, name: str) -> None:
    (bundle.parent / "outside").write_bytes(b"x")
    manifest = {key: value for key, value in read_json(bundle / MANIFEST).items() if key != "digest"}
    manifest["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    write_json(bundle / MANIFEST, manifest | {"digest": json_digest(manifest)})
    assert "expected a name below the bundle's folder" in refusal(bundle)


def test_a_list_of_snapshots_cannot_lead_outside(bundle: Path) -> None:
    for file in ("../../../outside.safetensors", "/outside.safetensors"):
        write_json(bundle / "one/fold-0/snapshots.json", [{"file": file, "weight": 1.0}])
        signed(bundle)
        assert "snapshots.json: expected a list of snapshots" in refusal(bundle)


def test_a_foreign_pickle_in_place_of_weights_is_never_loaded(bundle: Path) -> None:
    torch.save({"net": torch.zeros(3)}, bundle / WEIGHTS)
    assert f"{bundle / WEIGHTS}: expected" in refusal(bundle)
    signed(bundle)
    assert f"{bundle / WEIGHTS}: expected a whole .safetensors file" in refusal(bundle)


def lie_about_length(bundle: Path) -> None:
    whole = (bundle / WEIGHTS).read_bytes()
    (bundle / WEIGHTS).write_bytes((2**62).to_bytes(8, "little") + whole[8:])


def lie_about_shape(bundle: Path) -> None:
    tensors, facts = load_tensors(bundle / WEIGHTS)
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 4)
    save_tensors(bundle / WEIGHTS, tensors | {name: tensors[name][:1]}, facts)


def lie_about_channels(bundle: Path) -> None:
    tensors, facts = load_tensors(bundle / WEIGHTS)
    save_tensors(bundle / WEIGHTS, tensors, facts | {"spec": facts["spec"] | {"channels": ["depth", "image"]}})


def lie_about_levels(bundle: Path) -> None:
    tensors, facts = load_tensors(bundle / WEIGHTS)
    save_tensors(bundle / WEIGHTS, tensors, facts | {"spec": facts["spec"] | {"levels": [[0.5, 0.0]]}})


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        (lie_about_length, "expected a whole .safetensors file"),
        (lie_about_shape, "1 of its tensors do not fit the recipe's net"),
        (lie_about_channels, "expected the recipe's channels"),
        (lie_about_levels, "the scaling of their input is not known"),
    ],
)
def test_weights_whose_header_lies_are_named(bundle: Path, lie: Callable[[Path], None], told: str) -> None:
    lie(bundle)
    signed(bundle)
    assert f"{bundle / WEIGHTS}: " in refusal(bundle)
    assert told in refusal(bundle)


def test_a_manifest_that_says_other_things_than_the_files_is_refused(bundle: Path, bundled: Path) -> None:
    true = read_json(bundled / MANIFEST)
    members = copy.deepcopy(true["members"])
    members[0]["frame"]["size"] = 64
    scores = true["scores"] | {"score": 0.99}
    for key, lie in (
        ("name", "other"), ("members", members), ("members", None), ("threshold", 0.3), ("scores", scores),
        ("recipe_digest", "0"), ("data_digest", "0"), ("training_data", {}), ("training_data", None), ("licence", 3),
        ("onnx", 3), ("onnx", [{"file": "x.onnx"}]), ("onnx", ["x"]), ("novel", 1),
    ):  # fmt: skip
        signed(bundle, {key: lie})
        assert str(bundle / MANIFEST) in refusal(bundle)
        assert key in refusal(bundle)
        shutil.copy(bundled / MANIFEST, bundle / MANIFEST)
    open_model(bundle)


def test_a_manifest_that_is_none_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (bundle / MANIFEST).read_text()
    doubled = whole.replace("{", '{"name": "other",', 1)
    for text in ("", "[]", "{}", "[" * 100_000, "1" * 10_000, doubled, whole + " ", json.dumps(json.loads(whole))):
        (bundle / MANIFEST).write_text(text)
        assert str(bundle / MANIFEST) in refusal(bundle)
    monkeypatch.setattr(bundle_files, "VERSION", 2)
    (bundle / MANIFEST).write_text(whole)
    signed(bundle)
    monkeypatch.undo()
    assert "it is of version 2, and this diapir reads 1: use a later diapir" in refusal(bundle)


def test_forged_files_give_faults_or_masks_and_never_a_traceback(bundle: Path, bundled: Path, path: Path) -> None:
    rng = np.random.default_rng(1)
    junk: list[Any] = [None, -1, 10**30, 1e308, float("nan"), "x", [], {}, [[]], {"members": [7]}, True]
    refused = 0
    for name in ("record.json", "both/step.json", "edited/step.json", "one/fold-0/snapshots.json"):
        for _ in range(6 if name.endswith("step.json") else 25):
            raw = read_json(bundled / name)
            replace_one(raw, junk[rng.integers(len(junk))], rng=rng)
            write_json(bundle / name, raw)
            signed(bundle)
            try:
                predict_or_open(bundle, path, whole=name.endswith("step.json"))
            except InputError:
                refused += 1
        shutil.copy(bundled / name, bundle / name)
    assert refused > 10


def predict_or_open(bundle: Path, path: Path, *, whole: bool) -> Model | None:
    if not whole:
        return open_model(bundle)
    predict_with_run(bundle, path)
    return None


def replace_one(raw: Any, value: Any, *, rng: np.random.Generator) -> None:
    """Put a value in place of another, somewhere."""
    while True:
        keys = list(raw) if isinstance(raw, dict) else list(range(len(raw)))
        key = keys[rng.integers(len(keys))]
        below = raw[key]
        if not isinstance(below, dict | list) or not below or rng.random() < 0.3:
            raw[key] = value
            return
        raw = below
