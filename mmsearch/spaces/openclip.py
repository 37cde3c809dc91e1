"""Loads open_clip checkpoints: towers, preprocessing, and the tokenizer as a `tokenizer.json`."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from mmsearch.errors import ModelError, one_line
from mmsearch.extras import command
from mmsearch.spaces.sources import Checkpoint, architecture_of
from mmsearch.spaces.spec import read_object
from mmsearch.spaces.towers import Tower, Towers, bounded_memory, quiet
from mmsearch.types import View

_log = logging.getLogger(__name__)


class _Picture(torch.nn.Module):
    def __init__(self, model: Any) -> None:  # noqa: ANN401  open_clip has no types
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) float32 → (n, dim)."""
        return torch.as_tensor(self.model.encode_image(pixels))


class _Text(torch.nn.Module):
    def __init__(self, model: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(n, t) int64 → (n, dim)."""
        return torch.as_tensor(self.model.encode_text(ids))


class _Masked(torch.nn.Module):
    """A text model of transformers that is given an additive attention mask, (n, 1, 1, t).

    The mask that transformers would build depends on its version and on the traced batch.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:  # noqa: ANN401
        dtype = next(self.model.parameters()).dtype
        hidden = (attention_mask == 0)[:, None, None, :].to(dtype) * torch.finfo(dtype).min
        return self.model(input_ids=input_ids, attention_mask=hidden)


def load_open_clip(checkpoint: Checkpoint) -> Towers:
    """Load a checkpoint on the CPU in float32. Raises `ModelError`, which names the file and the remedy.

    Checkpoints are read as safetensors, or by PyTorch's weights-only unpickler.
    """
    tagged = _tagged(checkpoint)
    if tagged.get("quick_gelu") and "quickgelu" not in checkpoint.architecture:
        # open_clip's own warning about this is silenced below.
        _log.warning(
            "%s was trained with another activation than this architecture has: %s-quickgelu/%s gives better results",
            checkpoint.name,
            checkpoint.architecture,
            checkpoint.tag,
        )
    # The size of open_clip's own architectures is known; a configuration that comes with the weights isn't trusted.
    bounded = bounded_memory(checkpoint.weights) if checkpoint.folder else nullcontext()
    with quiet(), _no_foreign_code(), bounded:
        model = _model(checkpoint, tagged)
        tokenizer = _tokenizer(checkpoint)
    transform = model.visual.preprocess_cfg
    size = transform["size"]
    tall, wide = (size, size) if isinstance(size, int) else size
    picture = {
        # Pixels are 0 to 255 here; open_clip's mean and standard deviation are for 0 to 1.
        "mean": [round(255 * value, 6) for value in transform["mean"]],
        "std": [round(255 * value, 6) for value in transform["std"]],
        "transform": {
            "size": [tall, wide],
            "resize": transform["resize_mode"],
            "interpolation": "bilinear" if transform["interpolation"] == "bilinear" else "bicubic",
            "fill": int(transform["fill_color"]),
        },
    }
    length = int(tokenizer.context_length)
    pad = getattr(getattr(tokenizer, "tokenizer", None), "pad_token_id", 0) or 0
    text = {"max_len": length, "pad_to": length, "pad_id": int(pad), "clean": _cleaning(tokenizer)}

    def tokenize(texts: Sequence[str]) -> NDArray[np.int64]:
        return np.asarray(tokenizer(list(texts)).numpy(), np.int64)

    ids = torch.from_numpy(tokenize(["a photo of a dog", "two boats"]))
    with torch.inference_mode():
        dim = int(_Text(model)(ids).shape[1])
    return Towers(
        dim=dim,
        towers={
            View.VISUAL: Tower(_Picture(model).eval(), torch.zeros(2, 3, tall, wide), picture),
            View.TEXT: Tower(_Text(model).eval(), ids, text),
        },
        tokenizer=_as_json(tokenizer),
        tokenize=tokenize,
        arrays={},
    )


def _tagged(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Return the training settings of a published checkpoint, empty for any other."""
    from open_clip.pretrained import get_pretrained_cfg

    return dict(get_pretrained_cfg(checkpoint.architecture, checkpoint.tag)) if checkpoint.tag else {}


@contextmanager
def _no_foreign_code() -> Iterator[None]:
    """Make transformers refuse a model that comes with code, instead of asking on the terminal whether to run it."""
    if importlib.util.find_spec("transformers") is None:
        yield
        return
    from transformers import dynamic_module_utils

    before = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = before


def _model(checkpoint: Checkpoint, tagged: Mapping[str, Any]) -> Any:  # noqa: ANN401
    import open_clip

    transform = open_clip.transform.merge_preprocess_dict({}, dict(tagged))
    try:
        model = open_clip.create_model(
            checkpoint.architecture,
            load_weights=False,
            pretrained_image=False,
            pretrained_text=False,
            force_preprocess_cfg=transform or None,
            **_text_beside(checkpoint),
        )
    except Exception as error:  # open_clip, transformers and timm raise errors of many types
        raise ModelError(f"{checkpoint.name} can't be built ({one_line(error, 200)}){_remedy(error)}") from error
    try:
        open_clip.load_checkpoint(model, str(checkpoint.weights), weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        raise ModelError(f"{checkpoint.weights} can't be loaded: {_fault(error)}") from error
    model.eval()
    if (text := getattr(model, "text", None)) is not None and hasattr(text, "transformer"):
        plain = getattr(text.transformer, "set_attn_implementation", None)
        if callable(plain):  # a transformers model, whose fused attention can't be traced for all batch sizes
            plain("eager")
            text.transformer = _Masked(text.transformer)
    return model


def _text_beside(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return options that make transformers read the text tower's configuration from the folder, not from the hub."""
    text = architecture_of(checkpoint).get("model_cfg", {}).get("text_cfg", {})
    folder = checkpoint.folder
    if folder is None or not text.get("hf_model_name") or Path(text["hf_model_name"]).exists():
        return {}
    try:
        known = "model_type" in read_object(folder / "config.json")
    except (OSError, ValueError):
        known = False
    return {"text_cfg": {**text, "hf_model_name": str(folder), "hf_model_pretrained": False}} if known else {}


def _fault(error: Exception) -> str:
    """Return why a checkpoint can't be loaded, and the remedy."""
    message = one_line(error, 200)
    if any(words in message for words in ("size mismatch", "Missing key", "Unexpected key", "invalid for input")):
        return f"it belongs to another model ({message}); give the checkpoint of this architecture"
    if "weights_only" in message or "WeightsUnpickler" in message or "Unsupported" in message:
        return "it holds more than weights, and is never unpickled; get it as safetensors"
    return f"it is damaged, incomplete or of another architecture ({message}); download it again"


def _remedy(error: Exception) -> str:
    message = one_line(error, 200)
    if "transformers" in message and ("install" in message or "No module" in message):
        return f"; run: {command('multilingual')}"
    if any(word in message.lower() for word in ("offline", "connect", "couldn't find", "not a local folder", "cached")):
        return "; its parts aren't on this disk, and the hub can't be reached: check the network"
    return "; choose another model, or correct its open_clip_config.json"


def _tokenizer(checkpoint: Checkpoint) -> Any:  # noqa: ANN401
    import open_clip

    try:
        return open_clip.get_tokenizer(checkpoint.architecture)
    except Exception as error:
        raise ModelError(
            f"the tokenizer of {checkpoint.name} can't be loaded ({one_line(error, 200)}){_remedy(error)}"
        ) from error


def _cleaning(tokenizer: Any) -> str:  # noqa: ANN401
    """Return the name in `front_ends.CLEANERS` of the function with which open_clip cleans a text."""
    function = getattr(tokenizer, "clean_fn", None)
    if function is None:  # SigLipTokenizer always uses the same one
        return "canonicalize"
    return str(function.__name__).removeprefix("_clean_")


def _as_json(tokenizer: Any) -> str:  # noqa: ANN401
    """Return an open_clip tokenizer as the text of a `tokenizer.json` without padding and truncation."""
    inner = getattr(tokenizer, "tokenizer", None)
    fast = _byte_pairs(tokenizer) if inner is None else getattr(inner, "backend_tokenizer", None)
    if fast is None:
        raise ModelError("its tokenizer is not one of the fast ones and can't be exported; choose another model")
    plain = Tokenizer.from_str(fast.to_str())
    plain.no_padding()
    plain.no_truncation()
    return str(plain.to_str())


def _byte_pairs(tokenizer: Any) -> Tokenizer:  # noqa: ANN401
    """Return CLIP's byte-pair encoding (open_clip's SimpleTokenizer) as a fast tokenizer."""
    merges = list(tokenizer.bpe_ranks)
    fast = Tokenizer(models.BPE(vocab=tokenizer.encoder, merges=merges, end_of_word_suffix="</w>"))
    # SimpleTokenizer's pattern. Since that ignores case, it drops U+0345, an accent whose case folding is a letter.
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}\x{345}]+"
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    fast.decoder = decoders.ByteLevel()
    special = [token for token, number in tokenizer.encoder.items() if number in set(tokenizer.all_special_ids)]
    fast.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    start, end = special[:2]
    fast.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(start, tokenizer.sot_token_id), (end, tokenizer.eot_token_id)],
    )
    return fast
