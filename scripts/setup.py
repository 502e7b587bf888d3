"""Makes .venv from uv.lock with nothing but python3 and a package index; `make setup` runs it.

It finds uv, or brings a private one to .tools/, and lets uv install what uv.lock names. It does nothing when nothing
changed. Written for Python 3.8 and later, so that a machine with an old python3 gets an answer and no traceback.
"""

from __future__ import annotations

import argparse
import configparser
import hashlib
import html.parser
import io
import json
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

UV_VERSION = "0.13.8"
OLDEST_UV = (0, 5)
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TOOLS = ROOT / ".tools"
STAMP = VENV / ".diapir-setup.json"
# On Linux torch comes with CUDA's libraries: 5.8 GB installed in November 2026; elsewhere about 1.2 GB.
NEEDED_GB = 6.5 if sys.platform == "linux" else 2.0
FETCH_TIMEOUT_S = 60
JSON_INDEX = "application/vnd.pypi.simple.v1+json"


class SetupError(Exception):
    """A reason why the set-up cannot go on, with what to do about it."""


def main() -> int:
    """Set up, or say in a few lines why not; the exit status."""
    parser = argparse.ArgumentParser(description="Make .venv from uv.lock.")
    parser.add_argument("--group", action="append", default=[], help="a dependency group beside dev, such as bench")
    parser.add_argument("--extra", action="append", default=[], help="what a feature needs: onnx, mlflow, tensorboard")
    asked = parser.parse_args()
    wanted = [f"--group={group}" for group in asked.group] + [f"--extra={extra}" for extra in asked.extra]
    started_s = time.monotonic()
    try:
        if _is_current(wanted):
            _say(".venv is up to date")
            return 0
        if not _has_torch():
            _say(f"making .venv (first time: downloads about {NEEDED_GB / 2:.0f} GB, minutes on a fast line)")
            _check_space(ROOT)
        uv = _find_uv()
        if not _has_torch():
            _check_cache_space(uv)
        _sync(uv, wanted)
    except SetupError as error:
        print(f"setup: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("setup: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    _say(f"ready in {time.monotonic() - started_s:.0f} s")
    return 0


def _is_current(wanted: list[str]) -> bool:
    """Whether an earlier set-up finished with these very files and at least these groups and extras."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
        return stamp["made_from"] == _made_from() and set(wanted) <= set(stamp["wanted"]) and _venv_python() is not None
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _made_from() -> str:
    """What .venv depends on: the lock, the project file, and the place, which scripts in .venv/bin name."""
    total = hashlib.sha256(str(ROOT).encode())
    for name in ("uv.lock", "pyproject.toml"):
        total.update((ROOT / name).read_bytes())
    return total.hexdigest()


def _sync(uv: Path, wanted: list[str]) -> None:
    """Let uv install exactly what uv.lock names."""
    stamp = {"made_from": _made_from(), "wanted": wanted}
    if STAMP.exists():
        STAMP.unlink()
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    environment["UV_PROJECT_ENVIRONMENT"] = str(VENV)
    environment.setdefault("UV_HTTP_TIMEOUT", "120")
    if _has_certificates():
        # Left alone, uv trusts its own list, and fails behind a company's proxy that git and pip get through.
        environment.setdefault("UV_SYSTEM_CERTS", "true")
        environment.setdefault("UV_NATIVE_TLS", "true")  # the same for a uv of before 2026
    # --inexact leaves what a developer added by hand, and the groups of an earlier call.
    command = [str(uv), "sync", "--frozen", "--inexact", *_python_arguments(), *wanted]
    _say("installing what uv.lock names")
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0:
        raise SetupError(
            "uv could not install the packages; its own words are above.\n"
            "  no network or a proxy: set HTTPS_PROXY; behind a company's certificate: set SSL_CERT_FILE\n"
            f"  no Python {_versions()}: install one, or name one with UV_PYTHON=/path/to/python3\n"
            "  no wheel for this machine: torch needs glibc 2.28 or newer, or macOS 14 on Apple silicon\n"
            f"  no space: {NEEDED_GB:g} GB are needed, here and where uv keeps its cache (UV_CACHE_DIR moves it)\n"
            "  then run the same command again; what was downloaded is kept"
        )
    STAMP.write_text(json.dumps(stamp), encoding="utf-8")


def _has_certificates() -> bool:
    """Whether the machine has its own list of trusted certificates."""
    paths = ssl.get_default_verify_paths()
    return sys.platform == "darwin" or bool(paths.cafile or (paths.capath and any(Path(paths.capath).iterdir())))


def _python_arguments() -> list[str]:
    """Which Python uv takes: .venv's own, the user's choice, this one, or any that fits, in this order."""
    if _venv_python() is not None or os.environ.get("UV_PYTHON"):
        return []
    if OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        return ["--python", sys.executable]
    _say(f"python3 is {platform.python_version()}, diapir needs {_versions()}: uv looks for one, or downloads it")
    return []


def _venv_python() -> Path | None:
    """The Python of .venv, where there is one that fits and its home still exists."""
    python = VENV / "bin" / "python"
    names = [f"python3.{minor}" for minor in range(OLDEST_PYTHON[1], NEWEST_PYTHON[1] + 1)]
    fits = any((VENV / "lib" / name).is_dir() for name in names)
    return python if fits and python.exists() else None


def _versions() -> str:
    return "{}.{} to {}.{}".format(*OLDEST_PYTHON, *NEWEST_PYTHON)


def _has_torch() -> bool:
    return any(VENV.glob("lib/python3.*/site-packages/torch/__init__.py"))


def _check_space(folder: Path) -> None:
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < NEEDED_GB and not os.environ.get("DIAPIR_SKIP_SPACE_CHECK"):
        raise SetupError(
            f"{folder}: expected {NEEDED_GB:g} GB of free space for torch and its libraries, found {free_gb:.1f} GB.\n"
            "  make room, clone on a larger disk, or move uv's cache with UV_CACHE_DIR; where that cache holds the\n"
            "  packages already, set DIAPIR_SKIP_SPACE_CHECK=1"
        )


def _check_cache_space(uv: Path) -> None:
    """uv links files from its cache into .venv where both are on one disk; otherwise each needs the space."""
    answer = subprocess.run([str(uv), "cache", "dir"], cwd=ROOT, stdout=subprocess.PIPE, check=False)
    cache = Path(answer.stdout.decode().strip() or ROOT)
    while not cache.exists():
        cache = cache.parent
    if cache.stat().st_dev != ROOT.stat().st_dev:
        _check_space(cache)


def _find_uv() -> Path:
    """A uv that can read our lock: the one on PATH, or the private one, fetched where it is missing."""
    private = TOOLS / f"uv-{UV_VERSION}"
    on_path = shutil.which("uv")
    for candidate in ([Path(on_path)] if on_path else []) + [private]:
        if (_uv_version(candidate) or (0,)) >= OLDEST_UV:
            return candidate
    _say(f"fetching uv {UV_VERSION} into .tools/")
    TOOLS.mkdir(exist_ok=True)
    failures = []
    for name, route in (("pip", _uv_by_pip), ("venv", _uv_by_venv), ("download", _uv_by_download)):
        with tempfile.TemporaryDirectory(dir=TOOLS, prefix=".part-") as part:
            try:
                found = route(Path(part))
                if _uv_version(found) is None:
                    raise SetupError(f"{found.name} does not run on this machine")
            except (SetupError, OSError, ValueError, zipfile.BadZipFile) as error:
                failures.append(f"  by {name}: {error}")
                continue
            found.replace(private)
            return private
    raise SetupError(
        f"cannot get uv {UV_VERSION}, which installs everything else. Tried:\n"
        + "\n".join(failures)
        + "\n  check the network (HTTPS_PROXY, SSL_CERT_FILE, PIP_INDEX_URL are heeded), or put any uv of at least "
        "{}.{} on PATH; then run the same command again".format(*OLDEST_UV)
    )


def _uv_version(uv: Path) -> tuple[int, ...] | None:
    """(major, minor) of a uv; None where it is absent or does not run."""
    try:
        answer = subprocess.run([str(uv), "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return None
    found = re.match(rb"uv (\d+)\.(\d+)", answer.stdout)
    return tuple(int(part) for part in found.groups()) if found and answer.returncode == 0 else None


def _uv_by_pip(folder: Path) -> Path:
    """uv from the machine's pip; --target works where the system's Python refuses other installs."""
    _run([sys.executable, "-m", "pip", "install", *_PIP_OPTIONS, "--target", str(folder), f"uv=={UV_VERSION}"])
    return folder / "bin" / "uv"


def _uv_by_venv(folder: Path) -> Path:
    """uv from the pip that a new virtual environment brings along."""
    _run([sys.executable, "-m", "venv", str(folder)])
    _run([str(folder / "bin" / "python"), "-m", "pip", "install", *_PIP_OPTIONS, f"uv=={UV_VERSION}"])
    return folder / "bin" / "uv"


# Wheels only: the source of uv needs a Rust compiler.
_PIP_OPTIONS = ["--quiet", "--disable-pip-version-check", "--retries", "2", "--no-deps", "--only-binary", ":all:"]


def _run(command: list[str]) -> None:
    answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if answer.returncode != 0:
        lines = answer.stdout.decode(errors="replace").strip().splitlines() or ["no output"]
        raise SetupError(lines[-1])


def _uv_by_download(folder: Path) -> Path:
    """uv out of its wheel, fetched from the package index with the standard library alone, and checked."""
    page_url = f"{_index_url().rstrip('/')}/uv/"
    page, page_url = _fetch(page_url, accept=f"{JSON_INDEX}, text/html;q=0.5")
    url, digest = _choose_wheel(_read_index(page, page_url))
    wheel, _ = _fetch(url, accept="*/*")
    if hashlib.sha256(wheel).hexdigest() != digest:
        raise SetupError(f"{url}: expected SHA-256 {digest}, found another; nothing was installed")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        content = archive.read(f"uv-{UV_VERSION}.data/scripts/uv")
    path = folder / "uv"
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def _index_url() -> str:
    """The package index: uv's and pip's variables first, then pip's files, then PyPI."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if os.environ.get(name):
            return os.environ[name]
    home = Path(os.environ.get("HOME") or "/")
    files = [home / ".config/pip/pip.conf", home / ".pip/pip.conf", Path("/etc/pip.conf")]
    if os.environ.get("PIP_CONFIG_FILE"):
        files.insert(0, Path(os.environ["PIP_CONFIG_FILE"]))
    for file in files:
        settings = configparser.RawConfigParser(strict=False)
        try:
            settings.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        if settings.get("global", "index-url", fallback=""):
            return settings.get("global", "index-url")
    return "https://pypi.org/simple"


def _fetch(url: str, *, accept: str) -> tuple[bytes, str]:
    """The bytes behind a URL, and the URL where they were found at last."""
    request = urllib.request.Request(url, headers={"Accept": accept, "User-Agent": "diapir-setup"})
    try:
        with urllib.request.urlopen(request, timeout=FETCH_TIMEOUT_S) as answer:
            return answer.read(), answer.geturl()
    except OSError as error:
        raise SetupError(f"{url}: {error}") from None


def _read_index(page: bytes, page_url: str) -> dict[str, tuple[str, str]]:
    """File name -> (URL, SHA-256) of an index page, in either of the two forms that PEP 503 and PEP 691 define."""
    if page.lstrip().startswith(b"{"):
        files = json.loads(page)["files"]
        found = [(file["url"], file["hashes"].get("sha256", "")) for file in files]
    else:
        reader = _LinkReader()
        reader.feed(page.decode(errors="replace"))
        parts = [link.partition("#sha256=") for link in reader.links]
        found = [(url, digest) for url, _, digest in parts]
    absolute = [(urllib.parse.urljoin(page_url, url), digest) for url, digest in found]
    return {urllib.parse.unquote(url.rpartition("/")[2].partition("?")[0]): (url, digest) for url, digest in absolute}


class _LinkReader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]


def _choose_wheel(files: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """The (URL, SHA-256) of the wheel of uv for this machine."""
    machine = {"amd64": "x86_64", "AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    if sys.platform == "darwin":
        wanted = [f"macosx_.*_{'arm64' if machine == 'aarch64' else machine}"]
    else:
        # The build against musl is static and runs everywhere; the other is quicker where it runs.
        wanted = [f"manylinux.*_{machine}", f"musllinux.*_{machine}"]
        if platform.libc_ver()[0] != "glibc":
            wanted.reverse()
    for tag in wanted:
        for name, (url, digest) in files.items():
            if re.fullmatch(rf"uv-{re.escape(UV_VERSION)}-py3-none-.*{tag}\.whl", name) and digest:
                return url, digest
    raise SetupError(f"the index has no checked wheel of uv {UV_VERSION} for {sys.platform} {platform.machine()}")


def _say(text: str) -> None:
    print(f"setup: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
