"""Nets as ONNX: said in words where the packages are absent, and held against torch where they are there."""

import importlib.util
from pathlib import Path

import pytest
import torch

from diapir.faults import InputError
from diapir.nets.build import build_model
from diapir.nets.framing import Frame, InputSpec
from diapir.pipeline.bundle import open_model, write_bundle
from diapir.pipeline.onnx_files import LARGEST_DIFFERENCE, PACKAGES, Probability, onnx_name, random_input
from diapir.pipeline.run import run_recipe
from fake_training import tiny_run_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def test_absent_packages_are_named_before_the_run_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError) as error:
        write_bundle(tmp_path / "absent", tmp_path / "out", with_onnx=True)
    assert [fault.what.split()[0] for fault in error.value.faults] == list(PACKAGES)
    assert all("setup.py --extra onnx" in fault.what for fault in error.value.faults)


def test_what_is_exported_gives_the_probabilities_of_the_heads() -> None:
    torch.manual_seed(0)
    net = build_model(tiny_run_recipe(), in_channels=2).eval()
    spec = InputSpec(("image", "row_ramp"), ((0.4, 0.2),), depth_low_m=0.0, depth_high_m=1000.0)
    tiles = random_input(Frame("resize", 32), spec, count=3, seed=1)
    with torch.no_grad():
        mask, has_salt = Probability(net)(tiles)
        outputs = net(tiles)
    assert tiles.shape == (3, 2, 32, 32)
    torch.testing.assert_close(mask, torch.sigmoid(outputs.mask))
    torch.testing.assert_close(has_salt, torch.sigmoid(outputs.has_salt))


@pytest.mark.skipif(bool(MISSING), reason=f"needs the extra onnx: {', '.join(MISSING)} not installed")
def test_exported_nets_lie_beside_their_weights_and_agree_with_torch(tmp_path: Path) -> None:
    run_recipe(tiny_run_recipe({"stages.0.epochs": 1, "stages.1.epochs": 1}), tmp_path / "run", data_path=None)
    write_bundle(tmp_path / "run", tmp_path / "bundle", with_onnx=True)
    model = open_model(tmp_path / "bundle")
    assert model.manifest is not None
    (entry,) = model.manifest["onnx"]
    assert entry["file"] == onnx_name(model.members[0].weights[0].file)
    assert (tmp_path / "bundle" / entry["file"]).is_file()
    assert entry["largest_difference"] <= LARGEST_DIFFERENCE
