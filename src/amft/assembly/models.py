"""From what a user calls a model to its directory; an adapter and its base as one model."""

from __future__ import annotations

from pathlib import Path

from ..disk import whole_directory
from ..errors import ModelError, RunError
from ..runs import RunDirectory

_NANO = Path(__file__).parents[1] / "models" / "nano_base"


def model_directory(model: str, allow_download: bool = False) -> str:
    """The directory of a model: the shipped `nano`, a directory, a run's, or (only when allowed) a hub name as it is.

    Raises:
        ModelError: it is not a directory with a `config.json`, and may not be fetched.
    """
    path = _NANO if model == "nano" else Path(model).expanduser()
    trained = trained_model(path)
    if trained is not None:
        return trained
    if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        return str(path)
    if model == "nano":
        raise ModelError(f"model: the shipped nano base is missing from this installation ({_NANO})")
    if path.exists():
        raise ModelError(f"model: {model} is not a model directory (no config.json in it)")
    if allow_download:
        return model
    raise ModelError(
        f"model: no directory {model}, and hub names are fetched only for a recipe with allow_download: true"
    )


def trained_model(path: Path) -> str | None:
    """The model a run ended with, if `path` is one: its newest checkpoint, or the best with `checkpoint.keep_best`."""
    if not (path / "checkpoints").is_dir():
        return None
    from ..checkpoints.checkpoint_retention import final_checkpoint

    return str(final_checkpoint(RunDirectory.open(path)) / "model")


def final_model(source: str) -> Path:
    """The directory `model` of a finished run, with its card; or a model directory as it is.

    Raises:
        RunError: the run is not over.
        ModelError: it is no model directory.
    """
    path = Path(source)
    if not (path / "checkpoints").is_dir() and not (path / "model").is_dir():
        return Path(model_directory(source))
    if not (path / "model").is_dir():
        raise RunError(f"{source}: the run is not over, so it has no final model yet; go on with --resume")
    return path / "model"


def merge_adapter(source: str, output: str) -> None:
    """Write the model of an adapter, or of a run with `lora`, as one ordinary model directory.

    Raises:
        ModelError: there is no adapter in `source`.
        RunError: `output` is there already, or cannot be written.
    """
    path = Path(trained_model(Path(source)) or model_directory(source))
    if not (path / "adapter_config.json").is_file():
        raise ModelError(f"{source}: no adapter in it (no adapter_config.json), so there is nothing to merge")
    if Path(output).exists():
        raise RunError(f"{output}: exists already; choose another directory")
    from ..models.load import load_model, load_pictures, load_tokenizer
    from ..models.lora import base_of, merge_into_base

    merged, pictures = merge_into_base(load_model(base_of(path)), path), load_pictures(str(path))
    with whole_directory(Path(output)) as made:
        merged.save_pretrained(made)
        if pictures is None:
            load_tokenizer(str(path)).save_pretrained(made)
        else:
            pictures.save(made)
