"""A LoRA as PEFT saves it: `adapter_config.json` and `adapter_model.safetensors`, read without torch.

Everything in it that a GGUF adapter cannot express is refused here, by name. It knows nothing of GGUF, and no model.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgellm.errors import AdapterRefused, EngineMissing, UsageError

Matrix = "npt.NDArray[np.float32]"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_CONFIG_MAX = 16 << 20

# What training used, and what the trained numbers do not depend on any more.
_SILENT_NAMES = """
alpha_pattern auto_mapping base_model_name_or_path bias corda_config eva_config exclude_modules inference_mode
init_lora_weights layers_pattern layers_to_transform lora_alpha lora_dropout lora_ga_config loftq_config megatron_core
peft_type peft_version qalora_group_size r rank_pattern revision runtime_config target_modules task_type use_rslora
velora_config
"""
_SILENT = frozenset(_SILENT_NAMES.split())
_MEANING = {
    "use_dora": "it is a DoRA, which also changes the length of every weight; llama.cpp adds low-rank matrices only",
    "modules_to_save": "whole modules were trained beside the low-rank matrices, and an adapter cannot carry them",
    "trainable_token_indices": "rows of the embedding were trained, and an adapter cannot carry them",
    "lora_bias": "biases were trained beside the low-rank matrices, and an adapter cannot carry them",
    "layer_replication": "it was trained on a model with repeated layers, which the base file does not have",
    "alora_invocation_tokens": "it switches itself on in the middle of a text (aLoRA), which this runtime does not do",
    "fan_in_fan_out": "its matrices are stored transposed, for layers that no supported model has",
    "target_parameters": "it changes fused parameters (experts), which cannot be converted here",
    "use_qalora": "it pools its input (QALoRA), which llama.cpp does not do",
}
# Ways to begin that leave the base's own weights alone; the others (PiSSA, OLoRA, LoftQ, ...) train against changed ones.
_HARMLESS_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
_SIDE = re.compile(r"(?P<module>.+)\.lora_(?P<table>embedding_)?(?P<side>[AB])(\.default)?(\.weight)?")
_CURE = "Train again without it."


@dataclass(frozen=True, slots=True)
class Pair:
    """The two matrices of one module: what is added to its weight is scale · b @ a."""

    a: Any  # (rank, inputs); of an embedding (rank, vocabulary)
    b: Any  # (outputs, rank)
    scale: float
    embedding: bool = False

    @property
    def rank(self) -> int:
        """Width between the two matrices."""
        return int(self.a.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the weight it changes, as PyTorch counts: (outputs, inputs), of an embedding (vocabulary, width)."""
        outputs, inputs = int(self.b.shape[0]), int(self.a.shape[1])
        return (inputs, outputs) if self.embedding else (outputs, inputs)


def read(folder: Path) -> dict[str, Pair]:
    """Read a folder that PEFT saved into pairs by module, such as `model.layers.0.self_attn.q_proj`.

    Raises UsageError where there is no such folder, and AdapterRefused for what cannot be converted.
    """
    config = _config(folder)
    _check_config(folder, config)
    sides = _sides(folder)
    pairs = {}
    for module, found in sides.items():
        missing = {"A", "B"} - set(found)
        if missing:
            raise AdapterRefused(f"{folder}: {module} has no lora_{missing.pop()}: the file is not complete.")
        pairs[module] = _pair(folder, config, module, found)
    if not pairs:
        raise AdapterRefused(f"{folder / WEIGHTS} holds no low-rank matrices: there is nothing to convert.")
    return pairs


def _config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: name the one in which PEFT saved {CONFIG} and {WEIGHTS}.")
    path = folder / CONFIG
    if not path.is_file():
        near = (
            " It looks like a folder of mlx-lm, whose format is another." * (folder / "adapters.safetensors").is_file()
        )
        raise UsageError(f"{folder} holds no {CONFIG}: name a folder that PEFT saved.{near}")
    try:
        if path.stat().st_size > _CONFIG_MAX:
            raise AdapterRefused(f"{path} has {path.stat().st_size:,} bytes: that is no configuration.")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise AdapterRefused(f"{path} is not JSON: {error}.") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}.") from error
    if not isinstance(config, dict):
        raise AdapterRefused(f"{path} is not a JSON object.")
    return config


def _check_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse every setting that changes what the matrices mean; unknown ones too, once they are switched on."""
    if config.get("peft_type") != "LORA":
        raise AdapterRefused(f"{folder}: peft_type is {config.get('peft_type')!r}; only 'LORA' can be converted.")
    if config.get("bias", "none") != "none":
        raise AdapterRefused(f"{folder}: bias is {config['bias']!r}, and an adapter cannot carry biases. {_CURE}")
    start = config.get("init_lora_weights")
    if start not in _HARMLESS_STARTS:
        raise AdapterRefused(
            f"{folder}: init_lora_weights is {start!r}, which changed the base's own weights before training. Save it "
            "again with PEFT's path_initial_model_for_weight_conversion."
        )
    for key, value in config.items():
        if value and key not in _SILENT:
            meaning = _MEANING.get(key, f"it is set to {str(value)[:80]}, and what that means is not known here")
            raise AdapterRefused(f"{folder}: {key}: {meaning}. {_CURE}")
    for key in ("alpha_pattern", "rank_pattern"):
        if not isinstance(config.get(key) or {}, dict):
            raise AdapterRefused(f"{folder}: {key} is not an object.")


def _sides(folder: Path) -> dict[str, dict[str, tuple[Any, bool]]]:
    """Read the tensors, by module and side, with a mark on embeddings."""
    sides: dict[str, dict[str, tuple[Any, bool]]] = {}
    for name, array in _tensors(folder):
        if ".base_layer." in name:  # PEFT saves a copy of embeddings that it resized
            raise AdapterRefused(
                f"{folder}: {name} is a layer of the base itself, as PEFT saves it when tokens were added; "
                "an adapter cannot carry them."
            )
        match = _SIDE.fullmatch(name)
        if not match:
            hint = (
                "a DoRA's lengths" if "magnitude" in name else "a bias" if name.endswith("bias") else "a whole tensor"
            )
            raise AdapterRefused(f"{folder}: {name} is not a lora_A or a lora_B but {hint}. {_CURE}")
        module = match["module"].removeprefix("base_model.model.")
        if match["side"] in sides.setdefault(module, {}):
            raise AdapterRefused(f"{folder}: {module} has two lora_{match['side']}.")
        sides[module][match["side"]] = (array, bool(match["table"]))
    return sides


def _tensors(folder: Path) -> list[tuple[str, Any]]:
    try:
        import safetensors
    except ImportError as error:
        raise EngineMissing("converting adapters needs two small libraries: pip install 'edgellm[adapter]'.") from error
    path = folder / WEIGHTS
    if not path.is_file():
        old = f" Its {WEIGHTS.replace('safetensors', 'bin')} is a pickle, which can run code: save it again with a recent PEFT."
        cure = old if (folder / "adapter_model.bin").is_file() else ""
        raise UsageError(f"{folder} holds no {WEIGHTS}.{cure}")
    try:
        library: Any = safetensors  # its stub leaves this function untyped
        found = library.deserialize(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}.") from error
    except Exception as error:  # whatever the library finds wrong with the bytes
        raise AdapterRefused(f"{path} is not a whole safetensors file ({error}). Save or copy it again.") from error
    return [(name, _array(path, name, spec)) for name, spec in found]


def _array(path: Path, name: str, spec: Mapping[str, Any]) -> Any:
    """Read one tensor as float32; numpy has no bfloat16, whose bits are the upper half of a float32."""
    import numpy as np

    kinds: dict[str, Any] = {
        "F32": np.dtype("<f4"),
        "F16": np.dtype("<f2"),
        "BF16": np.dtype("<u2"),
        "F64": np.dtype("<f8"),
    }
    kind = spec["dtype"]
    if kind not in kinds:
        raise AdapterRefused(f"{path}: {name} is {kind}; F32, F16 and BF16 can be converted.")
    raw = np.frombuffer(spec["data"], kinds[kind]).reshape(spec["shape"])
    array = (raw.astype(np.uint32) << 16).view(np.float32) if kind == "BF16" else raw.astype(np.float32)
    if not np.isfinite(array).all():
        raise AdapterRefused(f"{path}: {name} holds numbers that are not finite: the training went wrong.")
    return array


def _pair(folder: Path, config: Mapping[str, Any], module: str, found: Mapping[str, tuple[Any, bool]]) -> Pair:
    (a, table), (b, _) = found["A"], found["B"]
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1] or not a.size or not b.size:
        shapes = f"lora_A is {_by(a.shape)} and lora_B {_by(b.shape)}"
        raise AdapterRefused(f"{folder}: {module}: {shapes}; they must be rank x inputs and outputs x rank.")
    return Pair(a, b, _scale(folder, config, module, a.shape[0]), table)


def _scale(folder: Path, config: Mapping[str, Any], module: str, rank: int) -> float:
    """Return alpha / rank, or alpha / sqrt(rank) with rsLoRA: peft, LoraLayer.update_layer."""
    patterns = config.get("alpha_pattern") or {}
    alpha = next((value for key, value in patterns.items() if _names(key, module)), config.get("lora_alpha", 8))
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha) or alpha == 0:
        raise AdapterRefused(
            f"{folder}: lora_alpha of {module} is {alpha!r}; it must be a number that is not 0, for 0 changes nothing."
        )
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _names(key: str, module: str) -> bool:
    """Say whether a pattern names a module: peft, get_pattern_key. A pattern that is no regular expression is a name."""
    try:
        return re.match(rf"(.*\.)?({key})$", module) is not None
    except re.error:
        return module == key


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{length:,}" for length in shape) or "a single number"
