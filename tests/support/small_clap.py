"""A tiny CLAP checkpoint with random weights, as transformers saves one."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

DIM = 24
RATE_HZ = 48_000
CORPUS = [
    "a dog barks in the distance while rain falls on a tin roof",
    "the sound of a violin, played slowly; someone coughs!",
    "Kinder lachen und spielen im Garten",
    "an engine starts, revs twice and stalls",
    "déjà vu: the café's door bell rings 3 times",
    "birds are singing and the wind blows through the trees",
]
_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def make_clap(folder: Path, *, fused: bool = False, pickled: bool = False) -> Path:
    """Write a checkpoint of two small towers into the folder and return it; `pickled` as pytorch_model.bin."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    folder.mkdir(parents=True, exist_ok=True)
    truncation = "fusion" if fused else "rand_trunc"
    vocabulary = make_tokenizer(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a bank of 64 bands leaves the lowest empty, says transformers
        extractor = ClapFeatureExtractor(frequency_min=50, truncation=truncation)
        extractor.save_pretrained(folder)
        config = ClapConfig(**_config(vocabulary, fused=fused))
        model = ClapModel(config)
        model.train(False)
    config.save_pretrained(folder)
    settle(model, extractor, vocabulary)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if pickled:
        torch.save(state, folder / "pytorch_model.bin")
    else:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _config(vocabulary: int, *, fused: bool) -> dict[str, Any]:
    # Four stages as the real ones have: the last is one window wide, the others shift their windows.
    audio = {
        "depths": [2, 2, 1, 2],
        "num_attention_heads": [1, 2, 2, 4],
        "patch_embeds_hidden_size": 8,
        "hidden_size": 64,
        "enable_fusion": fused,
        "fusion_type": None,
    }
    text = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 90,
    }
    return {"text_config": text, "audio_config": audio, "projection_dim": DIM}


def make_tokenizer(folder: Path) -> int:
    """Write a byte-level BPE tokenizer with RoBERTa's special tokens; returns the size of its vocabulary."""
    from tokenizers import ByteLevelBPETokenizer

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        CORPUS * 4, vocab_size=400, min_frequency=2, special_tokens=_SPECIALS, show_progress=False
    )
    trained.save_model(str(folder))
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), _SPECIALS, strict=True))
    told = {**names, "cls_token": "<s>", "sep_token": "</s>", "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps({**told, "tokenizer_class": "RobertaTokenizer"}))
    return int(trained.get_vocab_size())


@torch.no_grad()
def settle(model: Any, extractor: Any, vocabulary: int) -> None:  # noqa: ANN401  transformers' types are of no use here
    """Give the model random weights under which different inputs have really different embeddings.

    Every layer keeps the variance of what goes in, and the projections take away what all inputs have in common.
    """
    draw = torch.Generator().manual_seed(7)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2:
            gain = 1.0 if "embeddings" in name else 1.5 * weight[0].numel() ** -0.5
            weight.copy_(gain * torch.randn(weight.shape, generator=draw))
        elif not name.startswith("logit") and "norm" not in name.lower():
            weight.copy_(0.1 * torch.randn(weight.shape, generator=draw))
    norm = model.audio_model.audio_encoder.batch_norm
    norm.running_mean.copy_(torch.linspace(-20, -60, len(norm.running_mean)))
    norm.running_var.fill_(400.0)
    sounds = extractor(sample_sounds(), sampling_rate=RATE_HZ, return_tensors="pt")
    sounds["is_longer"] = torch.zeros(len(sounds["input_features"]), 1, dtype=torch.bool)
    heard = model.audio_model(**sounds).pooler_output
    read = model.text_model(torch.randint(5, vocabulary, (16, 20), generator=draw)).pooler_output
    for features, projection in ((heard, model.audio_projection), (read, model.text_projection)):
        mean, spread = features.mean(dim=0), features.std(dim=0).clamp_min(1e-4)
        projection.linear1.weight.div_(spread)
        projection.linear1.bias.copy_(-projection.linear1.weight @ mean)


def sample_sounds() -> list[NDArray[np.float32]]:
    """Return noises, tones, clicks and their mixtures, of 0.1 to 10 s at 48 kHz, in [-1, 1]."""
    draw = np.random.default_rng(5)
    found = []
    for i, seconds in enumerate((0.1, 0.7, 1.5, 3.0, 4.0, 7.3, 10.0, 10.0)):
        at = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
        tone = 0.4 * np.sin(2 * np.pi * 110 * 2**i * at) * (1 + np.sin(2 * np.pi * (i + 1) * at)) / 2
        clicks = 0.5 * (draw.random(len(at)) < 10**-4 * i)
        noise = 10.0 ** -(1 + i % 4) * draw.standard_normal(len(at))
        found.append(np.clip(tone * (i % 2) + clicks + noise, -1, 1).astype(np.float32))
    return found
