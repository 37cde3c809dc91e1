"""Small open_clip checkpoints with random weights, one of each family of tokenizers, as a `local-dir:` holds one."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CLIP = "clip"
SIGLIP = "siglip"
XLM_R = "xlm-r"
FAMILIES = (CLIP, SIGLIP, XLM_R)
CORPUS = (
    "a red car stands in front of an old house",
    "two dogs run along the beach at night",
    "Ein Mann fährt mit dem Fahrrad über die Brücke",
    "une femme en robe bleue mange une pomme près du château",
    "malý kluk si hraje s míčem na zelené trávě",
    "雪の中の猫 и красная лодка на реке",
)
_VISION = {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}


def make_clip(folder: Path, family: str = CLIP, *, seed: int = 0) -> Path:
    """Write a checkpoint of two small towers into the folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {CLIP: _clip, SIGLIP: _siglip, XLM_R: _xlm_r}[family](folder)
    return write_checkpoint(folder, config, seed=seed)


def write_checkpoint(folder: Path, config: Mapping[str, Any], *, seed: int = 0) -> Path:
    """Write the configuration and random weights of a model of open_clip, full size or small."""
    folder.mkdir(parents=True, exist_ok=True)
    transform: dict[str, Any] = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}
    if "timm_model_name" in config["vision_cfg"]:  # SigLIP's own
        transform = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": transform}))
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
        logging.disable(logging.NOTSET)
    state = {name: _spread(name, tensor).contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


def _spread(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return weights with which different inputs have different vectors: as they are drawn, all look much alike."""
    if name.endswith(("token_embedding.weight", "word_embeddings.weight", "conv1.weight", "patch_embed.proj.weight")):
        scaled: torch.Tensor = tensor * (8.0 / (tensor.std() * tensor[0].numel() ** 0.5))
        return scaled
    if name.startswith("text.transformer.resblocks") and "attn" in name and tensor.ndim == 2:
        return tensor * 4  # SigLIP reads off a text at its padding, where only attention tells of the words
    return tensor


def _clip(_folder: Path) -> dict[str, Any]:
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    return {"embed_dim": 48, "vision_cfg": _VISION, "text_cfg": text}


def _siglip(folder: Path) -> dict[str, Any]:
    """Return SigLIP 2's configuration in small: a timm tower with attention pooling, a text tower read at its end."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(
        CORPUS * 4, trainers.BpeTrainer(vocab_size=500, special_tokens=special[:4], show_progress=False)
    )
    fields = json.loads(tokenizer.to_str())
    size = len(fields["model"]["vocab"])
    fields["model"]["vocab"] |= {byte: size + place for place, byte in enumerate(special[4:])}
    tokenizer = Tokenizer.from_str(json.dumps(fields))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    _save(tokenizer, folder, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>")
    return {
        "embed_dim": 192,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 224,
            "timm_model_name": "vit_tiny_patch16_224",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": 64,
            "vocab_size": tokenizer.get_vocab_size(),
            "hf_tokenizer_name": "timm/ViT-B-16-SigLIP2-256",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "width": 192,
            "heads": 3,
            "layers": 2,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh"},
        },
    }


def _xlm_r(folder: Path) -> dict[str, Any]:
    """Return a configuration with a small XLM-RoBERTa of transformers as its text tower."""
    from transformers import XLMRobertaConfig

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        CORPUS * 4,
        trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "cls_token": "<s>", "sep_token": "</s>", "eos_token": "</s>"}
    _save(tokenizer, folder, **names, pad_token="<pad>", unk_token="<unk>", mask_token="<mask>")
    XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=90,
        pad_token_id=1,
    ).save_pretrained(folder / "text")
    return {
        "embed_dim": 48,
        "vision_cfg": _VISION,
        "text_cfg": {
            "hf_model_name": str(folder / "text"),
            "hf_tokenizer_name": "xlm-roberta-base",
            "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "mlp",
        },
    }


def _save(tokenizer: Tokenizer, folder: Path, **special: str) -> None:
    from transformers import PreTrainedTokenizerFast

    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
