from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.recipe.training import Optimiser
from diapir.train.checkpoint import NAME, PREVIOUS, Parts, Progress, load_checkpoint, restore, save_checkpoint
from diapir.train.optimisers import build_optimiser

SHOWN: dict[str, dict[str, Any]] = {
    "sgd": {},
    "sgd without momentum": {"name": "sgd", "momentum": 0.0},
    "adam": {},
    "adamw": {},
    "adamw on convolutions": {"name": "adamw", "decay_on": "convolutions"},
    "rmsprop": {},
    "rmsprop without momentum": {"name": "rmsprop", "momentum": 0.0},
}


def fresh_parts(name: str = "adamw", *, seed: int = 0) -> Parts:
    """A net in the memory layout of training, its average, and an optimiser."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Conv2d(4, 3, 3))
    net = net.to(memory_format=torch.channels_last)
    average = nn.Sequential(nn.Conv2d(2, 4, 3))
    section = Optimiser.model_validate({"name": name, "lr": 0.01} | SHOWN[name])
    rng = torch.Generator().manual_seed(seed)
    return Parts(net=net, average=average, optimiser=build_optimiser(section, net.parameters()), rng=rng)


def take_steps(parts: Parts, count: int) -> None:
    for _ in range(count):
        inputs = torch.rand(4, 2, 8, 8, generator=parts.rng).contiguous(memory_format=torch.channels_last)
        parts.optimiser.zero_grad()
        (parts.net(inputs) ** 2).mean().backward()
        parts.optimiser.step()


def save(folder: Path, parts: Parts, *, step: int = 1, order: Iterable[int] = (2, 0, 1)) -> None:
    progress = Progress(cycle=1, step=step, loss_sum=0.1 + 0.2, best_score=None, history=[{"loss": 1 / 3}])
    save_checkpoint(folder, parts, progress=progress, order=torch.tensor([*order]), identity="mine")


def load(folder: Path, *, identity: str = "mine") -> tuple[Progress, dict[str, Tensor], list[str]]:
    warnings: list[str] = []
    loaded = load_checkpoint(folder, identity=identity, warn=warnings.append)
    assert loaded is not None
    return *loaded, warnings


@pytest.mark.parametrize("name", SHOWN)
def test_training_goes_on_as_if_it_had_not_stopped(tmp_path: Path, name: str) -> None:
    parts = fresh_parts(name)
    take_steps(parts, 3)
    save(tmp_path, parts)
    take_steps(parts, 3)
    other = fresh_parts(name, seed=1)
    restore(other, load(tmp_path)[1])
    take_steps(other, 3)
    for kept, expected in zip(other.net.state_dict().values(), parts.net.state_dict().values(), strict=True):
        assert torch.equal(kept, expected)


def test_all_that_is_saved_comes_back(tmp_path: Path) -> None:
    parts = fresh_parts()
    take_steps(parts, 1)
    save(tmp_path, parts, order=[5, 3, 4])
    drawn = torch.rand(3, generator=parts.rng), torch.rand(3)
    other = fresh_parts(seed=1)
    progress, tensors, warnings = load(tmp_path)
    order = restore(other, tensors)
    assert warnings == []
    assert progress == Progress(cycle=1, step=1, loss_sum=0.1 + 0.2, best_score=None, history=[{"loss": 1 / 3}])
    assert order.tolist() == [5, 3, 4]
    assert torch.equal(torch.rand(3, generator=other.rng), drawn[0])
    assert torch.equal(torch.rand(3), drawn[1])
    assert parts.average is not None
    assert other.average is not None
    assert torch.equal(next(other.average.parameters()), next(parts.average.parameters()))


def test_a_folder_without_a_checkpoint_gives_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, identity="mine", warn=print) is None


def test_the_newest_comes_first_and_the_one_before_is_kept(tmp_path: Path) -> None:
    parts = fresh_parts()
    for step in (1, 2, 3):
        save(tmp_path, parts, step=step)
    assert load(tmp_path)[0].step == 3
    (tmp_path / NAME).unlink()
    assert load(tmp_path)[0].step == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [PREVIOUS]


def test_a_death_between_the_two_renames_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = fresh_parts()
    save(tmp_path, parts, step=1)
    rename = Path.replace

    def die(self: Path, target: Path) -> Path:
        if self.name == f"{NAME}.new":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, parts, step=2)
    monkeypatch.undo()
    assert load(tmp_path)[0].step == 2
    (tmp_path / f"{NAME}.new").unlink()
    assert load(tmp_path)[0].step == 1


@pytest.mark.parametrize("damage", ["cut", "flipped in a weight", "flipped in the facts", "emptied", "other"])
def test_a_damaged_file_is_passed_over_and_put_aside(tmp_path: Path, damage: str) -> None:
    parts = fresh_parts()
    save(tmp_path, parts, step=1)
    save(tmp_path, parts, step=2)
    content = (tmp_path / NAME).read_bytes()
    broken = {
        "cut": content[:-100],
        "flipped in a weight": content[:-1] + bytes([content[-1] ^ 1]),
        "flipped in the facts": content.replace(b'"step\\": 2', b'"step\\": 3').replace(
            b'step\\\\\\": 2', b'step\\\\\\": 3'
        ),
        "emptied": b"",
        "other": b"not safetensors at all",
    }[damage]
    assert broken != content
    (tmp_path / NAME).write_bytes(broken)
    progress, _, warnings = load(tmp_path)
    assert progress.step == 1
    assert len(warnings) == 1
    assert NAME in warnings[0]
    assert PREVIOUS in warnings[0]
    # The next save keeps the good one as the previous, not the damaged one.
    save(tmp_path, parts, step=5)
    (tmp_path / NAME).write_bytes(b"damaged again")
    assert load(tmp_path)[0].step == 1


def test_only_damaged_files_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"damaged")
    with pytest.raises(InputError, match="no checkpoint can be read"):
        load(tmp_path)


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    save(tmp_path, fresh_parts())
    with pytest.raises(InputError, match="another recipe, data set or fold"):
        load(tmp_path, identity="other")


def test_a_state_without_an_average_has_none(tmp_path: Path) -> None:
    parts = replace(fresh_parts(), average=None)
    save(tmp_path, parts)
    assert not any(name.startswith("average.") for name in load(tmp_path)[1])
