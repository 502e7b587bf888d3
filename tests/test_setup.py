"""What scripts/setup.py decides before it installs anything."""

import ast
import hashlib
import io
import json
import platform
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

# pytest and mypy both know scripts/ by pyproject.toml.
import setup as setup_script

SOURCE = Path(setup_script.__file__)
WHEEL = f"uv-{setup_script.UV_VERSION}-py3-none-"
TAGS = {
    ("linux", "x86_64", "glibc"): "manylinux_2_17_x86_64.manylinux2014_x86_64",
    ("linux", "aarch64", "glibc"): "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
    ("linux", "x86_64", ""): "musllinux_1_1_x86_64",
    ("darwin", "arm64", ""): "macosx_11_0_arm64",
    ("darwin", "x86_64", ""): "macosx_10_12_x86_64",
}


def test_an_old_python_can_read_it_far_enough_to_be_told_why() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 8))
    assert "main" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_both_forms_of_an_index_page_say_the_same() -> None:
    plain = '<html><a href="../../files/uv-1.whl#sha256=aa">uv</a><a href="https://b.example/uv%2B2.whl">x</a></html>'
    files: list[dict[str, Any]] = [
        {"url": "../../files/uv-1.whl", "hashes": {"sha256": "aa"}},
        {"url": "https://b.example/uv%2B2.whl", "hashes": {}},
    ]
    page_url = "https://a.example/simple/uv/"
    expected = {
        "uv-1.whl": ("https://a.example/files/uv-1.whl", "aa"),
        "uv+2.whl": ("https://b.example/uv%2B2.whl", ""),
    }
    assert setup_script._read_index(plain.encode(), page_url) == expected
    assert setup_script._read_index(json.dumps({"files": files}).encode(), page_url) == expected


@pytest.mark.parametrize("machine", TAGS, ids=" ".join)
def test_every_machine_gets_its_own_wheel(machine: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    system, processor, libc = machine
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: processor)
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, ""))
    files = {f"{WHEEL}{tag}.whl": (tag, "digest") for tag in TAGS.values()}
    files |= {f"uv-0.0.1-py3-none-{tag}.whl": ("old", "digest") for tag in TAGS.values()}
    assert setup_script._choose_wheel(files) == (TAGS[machine], "digest")


def test_a_wheel_without_a_digest_is_refused() -> None:
    files = {f"{WHEEL}{tag}.whl": (tag, "") for tag in TAGS.values()}
    with pytest.raises(setup_script.SetupError, match="no checked wheel"):
        setup_script._choose_wheel(files)


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_download_is_used_only_with_the_digest_that_the_index_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_whole: bool
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"uv-{setup_script.UV_VERSION}.data/scripts/uv", "the program")
    digest = hashlib.sha256(packed.getvalue() if is_whole else b"").hexdigest()
    index = "".join(f'<a href="{WHEEL}{tag}.whl#sha256={digest}">' for tag in TAGS.values())
    monkeypatch.setattr(
        setup_script,
        "_fetch",
        lambda url, accept: (index.encode() if url.endswith("/") else packed.getvalue(), url),
    )
    if is_whole:
        assert setup_script._uv_by_download(tmp_path).read_text() == "the program"
    else:
        with pytest.raises(setup_script.SetupError, match="SHA-256"):
            setup_script._uv_by_download(tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_too_little_space_is_told_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIAPIR_SKIP_SPACE_CHECK", raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 8, 1_000_000_000))
    with pytest.raises(setup_script.SetupError, match=r"found 1\.0 GB"):
        setup_script._check_space(Path())


def test_an_environment_is_current_until_what_it_was_made_from_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, folder in (("ROOT", ""), ("VENV", ".venv"), ("STAMP", ".venv/stamp")):
        monkeypatch.setattr(setup_script, name, tmp_path / folder)
    (tmp_path / ".venv/lib/python3.11").mkdir(parents=True)
    (tmp_path / ".venv/bin").mkdir()
    for name in ("uv.lock", "pyproject.toml", ".venv/bin/python"):
        (tmp_path / name).write_text("")
    assert not setup_script._is_current([])
    stamp = {"made_from": setup_script._made_from(), "wanted": ["--group=bench", "--extra=onnx"]}
    (tmp_path / ".venv/stamp").write_text(json.dumps(stamp))
    assert setup_script._is_current([])
    assert setup_script._is_current(["--extra=onnx"])
    assert setup_script._is_current(["--group=bench", "--extra=onnx"])
    assert not setup_script._is_current(["--extra=bench"])
    (tmp_path / "uv.lock").write_text("changed")
    assert not setup_script._is_current([])
