import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from diapir.faults import InputError
from diapir.recipe.files import check_recipe, read_recipe, write_recipe
from diapir.recipe.nets import ResidualEncoder, TimmEncoder, UNet
from diapir.recipe.tiles import Framing
from diapir.recipe.whole import Recipe
from fake_training import TINY, tiny_recipe

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))
LEAST = "name: a\nstages: [{name: s, epochs: 1}]\n"


def read(folder: Path, text: str, *changes: str) -> Recipe:
    path = folder / "r.yaml"
    path.write_text(text)
    return read_recipe(path, changes=changes)


def faults(folder: Path, text: str, *changes: str) -> list[str]:
    with pytest.raises(InputError) as error:
        read(folder, text, *changes)
    return [str(fault).removeprefix(f"{folder / 'r.yaml'}").removeprefix(": ") for fault in error.value.faults]


def places(raw: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every mapping in plain values."""
    if isinstance(raw, dict):
        yield before
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ():
        yield from places(value, (*before, key))


def at(raw: Any, place: Sequence[Any]) -> Any:
    for part in place:
        raw = raw[part]
    return raw


ABSENT: dict[str, Any] = {
    "data.synthetic": {},
    "stages.0.augment": {},
    "stages.0.snapshot": {},
    "stages.1.snapshot": {},
    "semi": {"kind": "co-training"},
}
WHOLE: dict[str, Any] = yaml.safe_load(write_recipe(tiny_recipe(ABSENT)))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_the_recipes_of_the_project_are_valid(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    assert recipe.about


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_written_recipe_is_the_same_recipe(path: Path, tmp_path: Path) -> None:
    recipe = read_recipe(path)
    assert read(tmp_path, write_recipe(recipe)) == recipe


def test_a_recipe_with_every_section_comes_back(tmp_path: Path) -> None:
    recipe = check_recipe(WHOLE, source="")
    assert read(tmp_path, write_recipe(recipe)) == recipe
    assert read(tmp_path, write_recipe(recipe)).digest == recipe.digest


# Unknown keys, wrong types.


# The names in `models` are the user's own.
@pytest.mark.parametrize(
    "place",
    [place for place in places(WHOLE) if place != ("models",)],
    ids=lambda place: ".".join(map(str, place)) or "top",
)
def test_an_unknown_key_is_named_at_every_depth(place: tuple[Any, ...]) -> None:
    raw = copy.deepcopy(WHOLE)
    at(raw, place)["zyzzyva"] = [1, 2]
    with pytest.raises(InputError) as error:
        check_recipe(raw, source="r")
    (fault,) = error.value.faults
    assert fault.where == "r: " + ".".join(map(str, (*place, "zyzzyva")))
    assert fault.what.startswith("unknown key (value [1, 2]); known here: ")
    known = fault.what.partition("known here: ")[2].split(", ")
    assert set(at(WHOLE, place)) <= set(known)


@pytest.mark.parametrize("place", list(places(WHOLE)), ids=lambda place: ".".join(map(str, place)) or "top")
def test_a_misspelt_key_is_told_the_nearest(place: tuple[Any, ...]) -> None:
    raw = copy.deepcopy(WHOLE)
    section = at(raw, place)
    for key in [key for key in section if key != "kind"]:
        misspelt = dict(section) | {f"{key}s": section[key]}
        del misspelt[key]
        changed = copy.deepcopy(WHOLE)
        if place:
            at(changed, place[:-1])[place[-1]] = misspelt
        with pytest.raises(InputError) as error:
            check_recipe(changed if place else misspelt, source="r")
        assert f"did you mean '{key}'?" in str(error.value)
        missing = [fault for fault in error.value.faults if "missing" in fault.what]
        assert len(error.value.faults) == 1 + len(missing), "a misspelt key is one fault, and missing if it is needed"


@given(data=st.data())
def test_a_wrong_type_is_told_with_path_and_value(data: st.DataObject) -> None:
    raw = copy.deepcopy(WHOLE)
    place = data.draw(st.sampled_from([place for place in places(WHOLE) if place]))
    wrong = data.draw(st.sampled_from([3, "some text", True]))
    at(raw, place[:-1])[place[-1]] = wrong
    with pytest.raises(InputError) as error:
        check_recipe(raw, source="r")
    (fault,) = error.value.faults
    assert fault.where == "r: " + ".".join(map(str, place))
    assert fault.what == f"expected a mapping of settings, found {wrong!r}"


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ("net: {kind: resnet}", "net: expected the key 'kind' with one of 'unet', 'bes', 'phalanx', "),
        (
            "net: {encoder: {name: resnet18}}",
            "net.encoder: expected the key 'kind' with one of 'timm', 'residual', found",
        ),
        ("models: {small: 3}", "models.small: expected a mapping of settings, found 3"),
        ("models: 3", "models: expected a mapping of settings, found 3"),
        ("steps: [{name: t}]", "steps.0: expected the key 'do' with one of 'train', 'predict', 'pseudo-label', "),
        (
            "steps: [{do: blend, name: b, of: [a, c], ensemble: {blend: {weights: score}}}]",
            "steps.0.ensemble.blend: expected the key 'name' with one of 'mean', 'weighted', ",
        ),
        (
            "steps: [{do: post-process, name: b, of: a, edits: [{name: fill}]}]",
            "steps.0.edits.0: expected the key 'name' with one of 'threshold', 'small_salt', ",
        ),
    ],
)
def test_what_may_stand_there_is_told(tmp_path: Path, settings: str, fault: str) -> None:
    (told,) = faults(tmp_path, f"{LEAST}{settings}\n")
    assert told.startswith(fault)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("seed: true", "seed: input should be a valid integer, found True"),
        ("seed: off", "seed: input should be a valid integer, found False"),
        ("seed: 1.5", "seed: input should be a valid integer, found 1.5"),
        ("seed: '3'", "seed: input should be a valid integer, found '3'"),
        ("seed: null", "seed: input should be a valid integer, found None"),
        ("seed: -1", "seed: input should be greater than or equal to 0, found -1"),
        ("folds: {count: 2147483648}", "folds.count: input should be less than or equal to 1000, found 2147483648"),
        ("net: {kind: laurans, depth: 30}", "net.depth: input should be less than or equal to 10, found 30"),
        (
            "net: {kind: laurans, filters: 99999999999999999999}",
            "net.filters: input should be less than or equal to 1000000, found 99999999999999999999",
        ),
        ("about: 3", "about: input should be a valid string, found 3"),
        ("average: {decay: .nan}", "average.decay: input should be a finite number, found nan"),
        ("average: {decay: -.inf}", "average.decay: input should be a finite number, found -inf"),
        ("average: {decay: 1.0}", "average.decay: input should be less than 1, found 1.0"),
        ("average: {decay: no}", "average.decay: input should be a valid number, found False"),
        ("input: {channels: image}", "input.channels: expected a list, found 'image'"),
        ("input: {channels: []}", "input.channels: list should have at least 1 item, found []"),
        (
            "predict: {threshold: 3}",
            "predict.threshold: input should be 'tuned' or input should be less than 1, found 3",
        ),
        ("net: {encoder: resnet34}", "net.encoder: expected a mapping of settings, found 'resnet34'"),
        (
            "net: {encoder: {name: resnet34}}",
            "net.encoder: expected the key 'kind' with one of 'timm', 'residual', found {'name': 'resnet34'}",
        ),
        (
            "net: {encoder: {kind: resnet}}",
            "net.encoder: expected the key 'kind' with one of 'timm', 'residual', found {'kind': 'resnet'}",
        ),
        ("1: 2", "1: unknown key, found 1"),
    ],
)
def test_a_wrong_value_is_told(tmp_path: Path, line: str, fault: str) -> None:
    assert faults(tmp_path, f"{LEAST}{line}\n") == [fault]


def test_a_choice_names_what_there_is(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, f"{LEAST}input: {{channels: [image, rows]}}")
    assert fault.startswith("input.channels.1: input should be 'image', 'row_ramp', 'column_ramp', ")
    assert fault.endswith("or 'depth', found 'rows'")


@pytest.mark.parametrize("kind", ["timm", "residual"])
def test_the_paths_of_an_encoder_are_those_of_the_file(tmp_path: Path, kind: str) -> None:
    encoder = f"{{kind: {kind}, stem: upside, residual: 3, timm: 4}}"
    told = faults(tmp_path, f"{LEAST}net: {{encoder: {encoder}, residual: 5}}")
    assert sorted(fault.partition(": ")[0] for fault in told) == [
        "net.encoder.residual", "net.encoder.stem", "net.encoder.timm", "net.residual",
    ]  # fmt: skip


def test_a_huge_value_is_shown_in_part(tmp_path: Path) -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for name, before in zip("bcdefghijk", "abcdefghij", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    told = faults(tmp_path, bomb)
    assert len(told) == 2 + 11
    assert max(map(len, told)) < 400


# Impossible combinations.

STEM = "with net.encoder.stem 'stride'"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("framing: {method: native, size: 64}", "framing: method 'native' takes no size, found 64: set size to null"),
        ("framing: {method: resize, size: null}", "framing: method 'resize' needs a size"),
        ("framing: {method: pad, size: 100}", "framing: size 100: padding with border 'reflect' needs 101 to 301"),
        ("framing: {method: pad, size: 302}", "framing: size 302: padding with border 'reflect' needs 101 to 301"),
        ("folds: {scheme: groups}", "folds: scheme 'groups' and a file in 'groups' go together: give both or neither"),
        ("folds: {groups: a.csv}", "folds: scheme 'groups' and a file in 'groups' go together: give both or neither"),
        ("folds: {count: 3, held_out: [3, 1]}", "folds: held_out [3]: there are folds 0 to 2"),
        ("folds: {held_out: [1, 1]}", "folds: held_out [1, 1]: a fold is named twice"),
        ("predict: {views: [flip, flip]}", "predict.views: ['flip', 'flip'] names a view twice"),
        (
            "net: {encoder: {kind: residual, widths: [8, 8]}}",
            "net.encoder: 2 widths and 4 blocks: give one of each per stage",
        ),
        (
            "net: {encoder: {kind: residual}}",
            f"net.decoder.widths: 5 given, and 4 net.encoder.widths {STEM} and net.decoder.subpixel false need 4",
        ),
        (
            "net: {encoder: {kind: residual, stem: none}, decoder: {widths: [8, 8, 8], subpixel: true}}",
            "net.decoder.subpixel: true needs a first map of half size, and net.encoder.stem 'none' keeps it full",
        ),
        (
            "net: {has_salt_head: true}",
            "net.has_salt_head: true, but 0 is the weight of stages.0.loss.has_salt, so the head would never learn",
        ),
    ],
)
def test_an_impossible_combination_is_told(tmp_path: Path, line: str, fault: str) -> None:
    assert faults(tmp_path, f"{LEAST}{line}\n") == [fault]


SIDED = "net: {kind: rozhkov}\n"
LEARNS = "loss: {bce: 1.0, has_salt: 0.1, side: 0.1}"


def test_heads_that_no_stage_weighs_are_told(tmp_path: Path) -> None:
    weight = "stages.0.loss.has_salt"
    assert faults(tmp_path, f"{LEAST}{SIDED}") == [
        f"net.kind: 'rozhkov' has such a head, but 0 is the weight of {weight}, so the head would never learn",
        "net.kind: 'rozhkov' has side heads, but 0 is the weight of stages.0.loss.side, so they would never learn",
    ]
    stages = f"stages: [{{name: s, epochs: 1, {LEARNS}}}, {{name: t, epochs: 1}}]\n"
    assert read(tmp_path, f"name: a\n{SIDED}{stages}").net.num_sides == 1


def test_heads_may_have_learned_in_the_step_that_weights_come_from(tmp_path: Path) -> None:
    text = f"""
name: a
{SIDED}
stages: [{{name: s, epochs: 1}}]
steps:
- {{do: train, name: first, stages: [{{name: s, epochs: 1, {LEARNS}}}]}}
- {{do: train, name: second, start_from: first}}
- {{do: train, name: third, start_from: second}}
- {{do: predict, name: says, of: third}}
- {{do: submit, of: says}}
"""
    assert len(read(tmp_path, text).all_steps) == 5
    told = faults(tmp_path, text.replace("second, start_from: first", "second"))
    assert len(told) == 2
    assert all("would never learn" in fault for fault in told)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ("framing: {size: 112}", "framing.size: net.kind 'phalanx' needs multiples of 32, found 112"),
        (
            "framing: {method: native, size: null}",
            "framing.method: 'native' keeps tiles of 101x101, and net.kind 'phalanx' needs multiples of 32, found 101",
        ),
        (
            "stages: [{name: s, epochs: 1, framing: {method: resize, size: 48}}, {name: t, epochs: 1}]",
            "stages.0.framing.size: net.kind 'phalanx' needs multiples of 32, found 48",
        ),
    ],
)
def test_sides_that_a_net_cannot_take_are_told(tmp_path: Path, settings: str, fault: str) -> None:
    stages = "" if "stages" in settings else "stages: [{name: s, epochs: 1}]\n"
    net = "net: {kind: phalanx, version: v4}\n"
    assert faults(tmp_path, f"name: a\n{net}{stages}{settings}\n") == [fault]


def test_a_framing_that_every_stage_replaces_does_not_matter(tmp_path: Path) -> None:
    text = "name: a\nnet: {kind: phalanx, version: v4}\nframing: {size: 112}\n"
    assert read(tmp_path, f"{text}stages: [{{name: s, epochs: 1, framing: {{size: 128}}}}]\n").framing.size == 112


def test_a_depth_that_tiles_are_too_small_for_is_told(tmp_path: Path) -> None:
    text = f"{LEAST}framing: {{method: native, size: null}}\nnet: {{kind: laurans, depth: 7}}\n"
    told = "framing.method: 'native' keeps tiles of 101x101, and net.kind 'laurans' with net.depth 7 needs 128 or more"
    assert faults(tmp_path, text) == [f"{told}, found 101"]


GATED = """
name: a
stages: [{name: s, epochs: 1, loss: {bce: 1.0, has_salt: 0.1}}]
net: {has_salt_head: true}
models:
  silent: {stages: [{name: s, epochs: 1}]}
steps:
- {do: train, name: one}
- {do: predict, name: one-says, of: one}
- {do: train, name: two, model: silent}
- {do: predict, name: two-says, of: two}
- {do: blend, name: both, of: [one-says, two-says]}
- {do: post-process, name: gated, of: one-says, edits: [{name: has_salt_gate}]}
- {do: submit, of: gated}
"""


def test_a_has_salt_gate_needs_that_head_in_every_net_behind_it(tmp_path: Path) -> None:
    assert read(tmp_path, GATED).all_steps[-2].name == "gated"
    told = "'has_salt_gate' needs a has-salt head in every net behind it, and models.silent.net."
    for source in ("two-says", "both"):
        text = GATED.replace("gated, of: one-says", f"gated, of: {source}")
        assert faults(tmp_path, text) == [f"steps.5.edits: {told}has_salt_head is false"]
        assert read(tmp_path, text.replace("gate}]}", "gate}], off: [has_salt_gate]}")).name == "a"
    other = GATED.replace("silent: {", "silent: {net: {kind: vanilla}, ").replace(
        "gated, of: one-says", "gated, of: both"
    )
    assert faults(tmp_path, other) == [f"steps.5.edits: {told}kind is 'vanilla'"]


def test_a_rate_cannot_rise_and_fall_for_longer_than_its_stage(tmp_path: Path) -> None:
    schedule = "{name: flat_cosine, warmup: 0.6, fall: 0.5}"
    text = f"name: a\nstages:\n- {{name: s, epochs: 1, schedule: {schedule}}}\n"
    fault = "stages.0.schedule: warmup 0.6 and fall 0.5 are more than the whole stage together"
    assert faults(tmp_path, text) == [fault]
    assert read(tmp_path, text.replace("0.6", "0.5")).stages[0].schedule.warmup == 0.5


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ("schedule: {name: noam}", "stages.0.schedule: name 'noam' needs a warmup, found 0.0"),
        (
            "schedule: {lowest_lr: 0.1}, optimiser: {lr: 0.05}",
            "stages.0: schedule.lowest_lr 0.1 is above optimiser.lr 0.05",
        ),
        ("cycles: 2147483647", "stages.0.cycles: input should be less than or equal to 100, found 2147483647"),
        ("cycles: 2, snapshot: {cycles: 3}", "stages.0: snapshot.cycles 3: the stage has only 2 of them"),
        ("start_from: best", "stages.0.start_from: 'best', but the first stage has no weights before it"),
    ],
)
def test_a_stage_that_cannot_be_trained_is_told(tmp_path: Path, settings: str, fault: str) -> None:
    assert faults(tmp_path, f"name: a\nstages: [{{name: s, epochs: 1, {settings}}}]\n") == [fault]


def test_the_first_stages_later_cycles_have_something_before_them(tmp_path: Path) -> None:
    text = "name: a\nstages: [{name: s, epochs: 1, cycles: 2, start_from: best, keep_state: true}]\n"
    assert read(tmp_path, text).stages[0].cycle_names == ("s-1", "s-2")


def test_no_two_cycles_are_called_alike(tmp_path: Path) -> None:
    text = "name: a\nstages: [{name: s, epochs: 1, cycles: 2}, {name: s-2, epochs: 1}]\n"
    assert faults(tmp_path, text) == ["stages: 's-2' is what two of them are called"]


def test_snapshots_that_nobody_takes_cannot_predict(tmp_path: Path) -> None:
    told = "predict.weights: 'snapshots', but there are none: give one of stages.0.snapshot, or average.method"
    assert faults(tmp_path, f"{LEAST}predict: {{weights: snapshots}}\n") == [told]
    for source in ("stages.0.snapshot={}", "average.method=halving"):
        assert read(tmp_path, f"{LEAST}predict: {{weights: snapshots}}\n", source).predict.weights == "snapshots"


def test_combinations_of_stages_are_told_together(tmp_path: Path) -> None:
    text = """
name: a
stages:
- {name: s, epochs: 1, keep_state: true, loss: {bce: 0.0}}
- {name: s, epochs: 1, keep_state: true, loss: {dice: 1.0, has_salt: 0.5}, optimiser: {name: sgd}}
"""
    assert faults(tmp_path, text) == [
        "stages.0.loss: every weight is zero: give at least one of bce, dice, focal, lovasz, symmetric_lovasz",
        "stages: 's' is what two of them are called",
        "stages.0.keep_state: true, but the first stage has no state before it",
        "stages.1.loss.has_salt: 0.5 needs net.has_salt_head: true, found false",
        "stages.1.keep_state: true, but stages.1.optimiser.name 'sgd' follows stages.0.optimiser.name 'adamw'",
    ]


def test_faults_of_every_kind_are_told_together(tmp_path: Path) -> None:
    text = """
naem: a
stages:
- {name: one, epochs: a lot, loss: {has_salt: 1.0, bce: 1.0}}
- 5
- {name: two, epochs: 2, keep_state: true, optimiser: {name: sgd, lr: fast}, augment: {flop: 0.5}}
net: {encoder: {kind: residual, widths: [4, x, 8], blocks: [1, 1, 1]}, decoder: {widths: [4, 4, 4]}}
folds: {count: 3, held_out: [7]}
predict: {views: [flip, flip]}
"""
    told = faults(tmp_path, text, "stages.9.epochs=3", "average.decay=2", "nonsense")
    assert sorted(told) == sorted(
        [
            "--set stages.9.epochs=3: expected an index from 0 to 2, found '9'",
            "--set nonsense: expected KEY=VALUE, such as stages.0.epochs=3",
            "average.decay: input should be less than 1, found 2",
            "naem: unknown key (value 'a'); did you mean 'name'?",
            "name: this key is needed, and missing",
            "stages.0.epochs: input should be a valid integer, found 'a lot'",
            "stages.0.loss.has_salt: 1.0 needs net.has_salt_head: true, found false",
            "stages.1: expected a mapping of settings, found 5",
            "stages.2.optimiser.lr: input should be a valid number, found 'fast'",
            "stages.2.augment.flop: unknown key (value 0.5); did you mean 'flip'?",
            "net.encoder.widths.1: input should be a valid integer, found 'x'",
            "folds: held_out [7]: there are folds 0 to 2",
            "predict.views: ['flip', 'flip'] names a view twice",
        ]
    )


@pytest.mark.parametrize(
    "line",
    [
        "framing: {method: naitve, size: null}",  # no size is right for native
        "framing: {methd: native, size: null}",
        "net: {encoder: {kind: residual, width: [4, 4, 4, 4, 4, 4], blocks: [1, 1, 1, 1, 1, 1]}}",
        "net: {encoder: {kind: resdual}}",
        "folds: {count: many, held_out: [7]}",
        "folds: {counts: 9, held_out: [7]}",
    ],
)
def test_a_combination_with_an_unsound_setting_is_not_told(tmp_path: Path, line: str) -> None:
    assert len(faults(tmp_path, f"{LEAST}{line}\n")) == 1


# The file.


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "expected a mapping of settings, found None"),
        ("# nothing\n", "expected a mapping of settings, found None"),
        ("- 1\n- 2", "expected a mapping of settings, found [1, 2]"),
        ("just text", "expected a mapping of settings, found 'just text'"),
        ("a: b: c", ":1: not YAML: mapping values are not allowed here"),
        ("name: a\nnet: {encoder: [", ":2: not YAML: "),
        ("name: a\nname: b", ":2: not YAML: the key 'name' is given twice"),
        ("net:\n  decoder:\n    dropout: 0.1\n    dropout: 0.2", ":4: not YAML: the key 'dropout' is given twice"),
        ("name: !!python/object/apply:os.system [ls]", ":1: not YAML: could not determine a constructor"),
        ("about: 2020-99-99", "not YAML: month must be in 1..12"),
        ("a: &a [*a]", "not YAML"),
        ("[" * 5000, "not YAML: "),
        ("name: \x07", "not YAML: unacceptable character"),
    ],
)  # fmt: skip
def test_what_is_no_yaml_mapping_is_told_with_its_line(tmp_path: Path, text: str, fault: str) -> None:
    (told, *_) = faults(tmp_path, text)
    assert fault in told
    assert "\n" not in told


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(InputError, match="not YAML"):
        read_recipe(tmp_path / "r.yaml")


def test_a_byte_order_mark_and_crlf_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"\xef\xbb\xbf" + LEAST.replace("\n", "\r\n").encode())
    assert read_recipe(tmp_path / "r.yaml").name == "a"


@pytest.mark.parametrize(
    ("text", "value"), [("3e-4", 3e-4), ("3.0e-4", 3e-4), ("1E+1", 10.0), ("1.5e3", 1500.0), (".5e1", 5.0), ("2", 2.0)]
)
def test_a_number_is_read_as_people_write_it(tmp_path: Path, text: str, value: float) -> None:
    recipe = read(tmp_path, f"name: a\nstages: [{{name: s, epochs: 1, optimiser: {{lr: {text}}}}}]")
    assert recipe.stages[0].optimiser.lr == value


def test_stages_may_share_what_a_merge_key_brings(tmp_path: Path) -> None:
    text = """
name: a
stages:
- &first {name: one, epochs: 3, optimiser: {lr: 0.5}}
- {<<: *first, name: two}
"""
    one, two = read(tmp_path, text).stages
    assert (two.name, two.epochs, two.optimiser) == ("two", one.epochs, one.optimiser)
    changed = read(tmp_path, text, "stages.1.optimiser.lr=0.25").stages
    assert [stage.optimiser.lr for stage in changed] == [0.5, 0.25], "an alias is not changed with its copy"


# Changes on the command line.


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("seed=7", lambda recipe: recipe.seed == 7),
        ("about=a = b", lambda recipe: recipe.about == "a = b"),
        ("stages.0.epochs=9", lambda recipe: recipe.stages[0].epochs == 9),
        ("stages.0.optimiser.lr=3e-4", lambda recipe: recipe.stages[0].optimiser.lr == 3e-4),
        ("net.decoder.dropout=0.5", lambda recipe: recipe.net.decoder.dropout == 0.5),
        ("folds.held_out=[1, 2]", lambda recipe: recipe.folds.held_out == (1, 2)),
        ("framing={method: native, size: null}", lambda recipe: recipe.framing == Framing(method="native", size=None)),
        ("stages.0.framing.size=256", lambda recipe: recipe.stages[0].framing == Framing(size=256)),
        ("data.synthetic.labelled=5", lambda recipe: recipe.data.synthetic.labelled == 5),
    ],
)
def test_a_change_is_made_where_it_says(tmp_path: Path, change: str, found: Any) -> None:
    text = f"{LEAST[:-3]}, framing: null}}]\ndata: {{synthetic: null}}\n"
    assert found(read(tmp_path, text, change))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("x", "expected KEY=VALUE, such as stages.0.epochs=3"),
        ("=3", "expected KEY=VALUE, such as stages.0.epochs=3"),
        ("stages.1.epochs=3", "expected an index from 0 to 0, found '1'"),
        ("stages.-1.epochs=3", "expected an index from 0 to 0, found '-1'"),
        ("stages.one=3", "expected an index from 0 to 0, found 'one'"),
        ("name.first=3", "nothing lies below 'a', so it has no 'first'"),
        ("seed={", "the value '{' is not YAML"),
        ("seed=2020-99-99", "the value '2020-99-99' is not YAML"),
    ],
)
def test_a_change_that_cannot_be_made_is_told(tmp_path: Path, change: str, fault: str) -> None:
    assert faults(tmp_path, LEAST, change) == [f"--set {change}: {fault}"]


def test_a_change_of_absurd_length_is_told_in_short(tmp_path: Path) -> None:
    for change in (f"stages.{'9' * 5000}.epochs=3", f"seed={'9' * 5000}"):
        (fault,) = faults(tmp_path, LEAST, change)
        assert fault.startswith(f"--set {change[:60]}...: ")
        assert len(fault) < 200


def test_a_key_of_another_kind_of_encoder_is_told_as_such(tmp_path: Path) -> None:
    assert faults(tmp_path, LEAST, "net.encoder={kind: timm, squeeze: 4}") == [
        "net.encoder.squeeze: unknown key here (value 4); it belongs to another kind"
    ]


def test_an_unknown_key_in_a_change_is_told_like_one_in_the_file(tmp_path: Path) -> None:
    assert faults(tmp_path, LEAST, "net.decoder.dropuot=0.5") == [
        "net.decoder.dropuot: unknown key (value 0.5); did you mean 'dropout'?"
    ]


# The digest.


def test_the_digest_leaves_name_and_about_out() -> None:
    assert tiny_recipe({"name": "other", "about": "words"}).digest == tiny_recipe().digest


def leaves(raw: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(each, dict) for each in value)):
            yield from leaves(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def changed(value: Any) -> list[Any]:
    """Values of the same kind, of which at least one is allowed for some setting."""
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1, max(value - 1, 1)]
        case float():
            return [value * 0.5 + 0.01, value + 1.0]
        case list():
            return [value[:-1], [*value, 1], value[::-1], ["image"], ["plain"], [{"crop": 0.1}]]
        case None:
            return [128, 1, 1e-9, "groups.csv", {}]
        case _:
            return ["other", *SPELLINGS]


SPELLINGS = [
    *[
        "float32",
        "sgd",
        "cosine",
        "edge",
        "relu",
        "scse",
        "none",
        "best",
        "random",
        "auto",
        "constant",
        "unit",
        "plain",
        "zero",
        "all",
        "last",
        "epoch",
        "convolutions",
        "halving",
        "mean",
        "frame",
    ],
    0.5,
]
# These go with others: a change of one alone is refused.
TIED = {
    "folds.groups", "net.encoder.kind", "net.encoder.widths", "net.encoder.blocks", "net.encoder.stem",
    "net.decoder.widths", "net.decoder.subpixel", "net.has_salt_head", "stages.0.keep_state", "stages.1.augment",
    "augment.changes", "net.kind", "semi.kind", "stages.0.start_from", "stages.0.loss.side", "stages.1.loss.side",
    "steps",
}  # fmt: skip


@pytest.mark.parametrize(
    "place", [place for place, _ in leaves(WHOLE) if place not in {"name", "about", *TIED} and "framing" not in place]
)
def test_the_digest_changes_with_every_setting(place: str) -> None:
    digest = check_recipe(WHOLE, source="").digest
    others = set()
    for value in changed(at(WHOLE, [int(part) if part.isdecimal() else part for part in place.split(".")])):
        raw = copy.deepcopy(WHOLE)
        *parents, last = place.split(".")
        at(raw, [int(part) if part.isdecimal() else part for part in parents])[last] = value
        try:
            others.add(check_recipe(raw, source="").digest)
        except InputError:
            continue
    assert others - {digest}, "none of the changes was allowed"


@pytest.mark.parametrize(
    "changes",
    [
        {"net": {"kind": "vanilla", "depth": 2}},
        {"net": {"kind": "place-28"}},
        {"stages.0.loss.side": 0.2},
        {
            "steps": [
                {"do": "train", "name": "a"},
                {"do": "predict", "name": "b", "of": "a"},
                {"do": "submit", "of": "b"},
            ]
        },
        {"models": {"other": {}}},
    ],
    ids=["net", "another net", "side", "steps", "models"],
)
def test_the_digest_changes_with_what_goes_with_others(changes: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"stages.0.loss.has_salt": 0.0, "stages.1.loss.has_salt": 0.0, "net.has_salt_head": False}
    if "stages.0.loss.side" in changes:
        plain = {"net": {"kind": "rozhkov"}, "stages.0.loss.side": 0.1, "stages.0.framing.size": 32}
    assert tiny_recipe(plain | changes).digest != tiny_recipe(plain).digest


def test_defaults_spelled_out_are_the_same_recipe(tmp_path: Path) -> None:
    least = read(tmp_path, LEAST)
    spelled = read(tmp_path, write_recipe(least))
    assert spelled.digest == least.digest
    assert isinstance(spelled.net, UNet)
    assert isinstance(spelled.net.encoder, TimmEncoder)


def test_a_recipe_does_not_change() -> None:
    recipe = tiny_recipe()
    assert isinstance(recipe.net, UNet)
    assert isinstance(recipe.net.encoder, ResidualEncoder)
    with pytest.raises(ValueError, match="frozen"):
        recipe.net.encoder.stem = "none"
    assert recipe == tiny_recipe()
    assert TINY["net"]["encoder"]["kind"] == "residual"
