"""Loads CLAP, a joint space of texts and sounds (Wu et al., arXiv:2211.06687), from a transformers checkpoint."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmsearch.errors import ModelError, one_line
from mmsearch.extras import needed_for
from mmsearch.spaces.mel import LogMel
from mmsearch.spaces.sources import CLAP, NAMES
from mmsearch.spaces.spec import read_object
from mmsearch.spaces.towers import Tower, Towers, bounded_memory
from mmsearch.types import View

MAX_IDS = 77
"""The length to which CLAP's texts are padded or cut, special tokens included, as in its training."""
_BANK = "mel"
_COMPUTED = ("position_ids", "token_type_ids", "relative_position_index", "num_batches_tracked")
"""Endings of the names of weights that a checkpoint may lack: buffers that follow from the configuration."""
_AGAIN = "download the model again"


class _TextTower(nn.Module):
    """Maps (n, t) int64 ids, padded, to (n, dim) projections.

    The parts of the text model are called one by one, because the attention mask that transformers builds depends on
    its version and on the traced batch.
    """

    def __init__(self, model: Any, pad_id: int) -> None:  # noqa: ANN401  transformers is an extra
        super().__init__()
        self.text_model = model.text_model
        self.projection = model.text_projection
        self.pad_id = pad_id

    def forward(self, ids: Tensor) -> Tensor:
        """(n, t) int64 → (n, dim)."""
        embedded = self.text_model.embeddings(input_ids=ids, token_type_ids=torch.zeros_like(ids))
        hidden = (ids == self.pad_id)[:, None, None, :].to(embedded.dtype) * torch.finfo(embedded.dtype).min
        states = self.text_model.encoder(embedded, attention_mask=hidden).last_hidden_state
        projected: Tensor = self.projection(self.text_model.pooler(states))
        return projected


class _SoundTower(nn.Module):
    """Maps (n, frames, bands) float32 log-mel to (n, dim) projections.

    For a checkpoint with fusion, no sound is marked as long. In its training, sounds of at most 10 s weren't either,
    whereas transformers marks a random one of each batch.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401  transformers is an extra
        super().__init__()
        self.encoder = model.audio_model.audio_encoder
        self.projection = model.audio_projection
        self.encoder.enable_fusion = self.encoder.patch_embed.enable_fusion = False
        # Blocks adapt their window sizes to the input when they run; under a trace, they would store tensors. Setting
        # the sizes here keeps them plain numbers.
        for stage, resolution in zip(self.encoder.layers, self.encoder.input_resolutions, strict=True):
            for block in stage.blocks:
                block.set_shift_and_window_size(resolution)

    def forward(self, mel: Tensor) -> Tensor:
        """(n, frames, bands) float32 → (n, dim)."""
        projected: Tensor = self.projection(self.encoder(mel[:, None], always_partition=True).pooler_output)
        return projected


def load_clap(folder: Path) -> Towers:
    """Return the towers of the CLAP checkpoint in a folder, on the CPU, in float32.

    The folder must have config.json, model.safetensors or pytorch_model.bin, preprocessor_config.json and the
    tokenizer's files. Only tensors are unpickled, and no code from the folder runs. Raises `ModelError`, which names
    the file at fault.
    """
    config = _read_config(folder)
    weights = _find_weights(folder)
    with bounded_memory(weights):
        model = _make_model(config, weights)
    tokenizer = _load_tokenizer(folder, vocabulary=config.text_config.vocab_size)
    tokenize = _tokenize_with(tokenizer)
    sound, bank = _sound_tower(folder, model, config.audio_config)
    text = Tower(
        module=_TextTower(model, tokenizer.pad_token_id).eval(),
        example=torch.from_numpy(tokenize(["a dog barks", "the sound of rain on a tin roof"])),
        spec={"max_len": MAX_IDS, "pad_to": MAX_IDS, "pad_id": tokenizer.pad_token_id, "clean": "none"},
    )
    return Towers(
        dim=int(config.projection_dim),
        towers={View.TEXT: text, View.AUDIO: sound},
        tokenizer=_without_padding(tokenizer),
        tokenize=tokenize,
        arrays={_BANK: bank},
    )


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Silence a library while it reads a file. Raises `ModelError`, which names the file, for its errors."""
    with _quiet():
        try:
            yield
        except (ModelError, MemoryError):
            raise
        except Exception as error:  # transformers passes on the errors of many file readers
            reason = one_line(error) or type(error).__name__
            raise ModelError(f"{file} can't be loaded ({reason}); {_AGAIN}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the warnings of transformers and torch off the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging = _transformers().utils.logging
        level = logging.get_verbosity()
        logging.set_verbosity(logging.CRITICAL)
        try:
            yield
        finally:
            logging.set_verbosity(level)


def _transformers() -> Any:  # noqa: ANN401  transformers is an extra
    with needed_for("CLAP"):
        import transformers
    return transformers


def _read_config(folder: Path) -> Any:  # noqa: ANN401
    file = folder / "config.json"
    with _reading(file):
        fields = read_object(file)
        kind = fields.get("model_type")
        if kind != "clap":
            raise ModelError(f"{file} describes {kind or 'no model'}, not a CLAP; give the folder of a CLAP checkpoint")
        config = _transformers().ClapConfig.from_dict(fields)
        config._attn_implementation = "eager"  # others can't be exported, or export a mask for one batch size only
    return config


def _find_weights(folder: Path) -> Path:
    for name in NAMES[CLAP]:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"{folder} holds neither {' nor '.join(NAMES[CLAP])}; {_AGAIN}")


def _make_model(config: Any, weights: Path) -> Any:  # noqa: ANN401
    with _reading(weights.parent / "config.json"):
        model = _transformers().ClapModel(config).eval()
        if model.audio_model.audio_encoder.patch_embed.proj.in_channels != 1:
            raise ValueError("a sound tower of several channels is not supported")
    with _reading(weights):
        if weights.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(weights)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
        missing = [name for name in model.load_state_dict(state, strict=False)[0] if not name.endswith(_COMPUTED)]
        if missing:
            raise ValueError(f"{len(missing)} weights are missing, such as {missing[0]}")
    return model


def _load_tokenizer(folder: Path, vocabulary: int) -> Any:  # noqa: ANN401
    file = folder / "tokenizer.json"
    # Without these files, transformers silently uses a vocabulary of five special tokens.
    if not file.is_file() and not all((folder / name).is_file() for name in ("vocab.json", "merges.txt")):
        raise ModelError(f"{folder} holds neither tokenizer.json nor vocab.json and merges.txt; {_AGAIN}")
    with _reading(file if file.is_file() else folder / "vocab.json"):
        auto = _transformers().AutoTokenizer  # without trust_remote_code it would ask on the terminal
        tokenizer = auto.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, use_fast=True)
        if not tokenizer.is_fast or tokenizer.pad_token_id is None:
            raise ValueError("it has no fast tokenizer with a padding token")
        if len(tokenizer) > vocabulary:
            raise ValueError(f"it has {len(tokenizer)} tokens, the text tower only {vocabulary}")
    return tokenizer


def _tokenize_with(tokenizer: Any) -> Callable[[Sequence[str]], NDArray[np.int64]]:  # noqa: ANN401
    def tokenize(texts: Sequence[str]) -> NDArray[np.int64]:
        """Return (n, 77) int64 ids, padded as by the model's own processor."""
        rows = [
            tokenizer(text, padding="max_length", max_length=MAX_IDS, truncation=True)["input_ids"] for text in texts
        ]
        return np.asarray(rows, dtype=np.int64).reshape(-1, MAX_IDS)

    return tokenize


def _without_padding(tokenizer: Any) -> str:  # noqa: ANN401
    """Return the tokenizer as a `tokenizer.json`, which may differ from the one in the checkpoint."""
    fields = json.loads(tokenizer.backend_tokenizer.to_str())
    return json.dumps({**fields, "padding": None, "truncation": None}, ensure_ascii=False)


def _sound_tower(folder: Path, model: Any, config: Any) -> tuple[Tower, NDArray[np.float32]]:  # noqa: ANN401
    """Return the sound tower and the filter bank, (n_fft // 2 + 1, bands), of its front end."""
    with _reading(folder / "preprocessor_config.json"):
        extractor = _transformers().ClapFeatureExtractor.from_pretrained(str(folder), local_files_only=True)
        front_end = LogMel(
            sample_rate_hz=int(extractor.sampling_rate),
            filters=Path(f"{_BANK}.npy"),
            n_fft=int(extractor.fft_window_size),
            hop=int(extractor.hop_length),
            max_samples=int(extractor.nb_max_samples),
            bands=int(extractor.feature_size),
            padding=str(extractor.padding),
        )
        longest = config.spec_size * (config.spec_size // config.num_mel_bins)
        if front_end.bands != config.num_mel_bins or front_end.frames > longest:
            shape = f"{front_end.frames} by {front_end.bands}"
            raise ValueError(f"it makes {shape}, the sound tower takes at most {longest} by {config.num_mel_bins}")
        fused = extractor.truncation == "fusion"
        bank = np.asarray(extractor.mel_filters if fused else extractor.mel_filters_slaney, dtype=np.float32)
    mel = {key: value for key, value in asdict(front_end).items() if key != "sample_rate_hz"}
    tower = Tower(
        module=_SoundTower(model).eval(),
        example=torch.rand(2, front_end.frames, front_end.bands, generator=torch.Generator().manual_seed(0)) * 60 - 80,
        spec={
            "sample_rate": front_end.sample_rate_hz,
            "min_samples": 0,
            "max_samples": front_end.max_samples,
            "mel": {**mel, "filters": front_end.filters.name},
        },
    )
    return tower, bank
