"""Small towers in torch, for training from scratch or from the weights of a space folder.

Each takes what its front end prepares and returns (n, dim), not normalised; `features` is the layer before the
projection, which feature distillation teaches.

- `ImageTower`: a network of timm without its classifier (RegNetX-400MF by default), then an MLP with a linear skip.
- `TextTower`: WordPiece ids → transformer layers; the mean of contextual states beside the mean of the word vectors
  themselves, a bag of words, then linear. Two layers of 256 answer in 0.2 ms.
- `SoundTower`: mono 16 kHz waveform → log-mel inside the graph → strided stages with squeeze-and-excitation.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from mmsearch.spaces.towers import quiet

_BANDS = 64
_WINDOW, _HOP, _FFT, _RATE_HZ = 400, 160, 512, 16_000


class ImageTower(nn.Module):
    """(n, 3, side, side) float32, after mean and deviation → (n, dim)."""

    def __init__(self, side: int, net: str, dim: int, hidden: int = 1024) -> None:
        super().__init__()
        import timm

        with quiet():
            self.net = timm.create_model(net, pretrained=False, num_classes=0)
        self.side, self.dim = side, dim
        self.width: int = self.net.num_features  # type: ignore[assignment]
        self.proj = nn.Sequential(nn.Linear(self.width, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.skip = nn.Linear(self.width, dim)

    def features(self, pixels: Tensor) -> Tensor:
        """Return the pooled features, (n, width)."""
        return torch.as_tensor(self.net(pixels))

    def project(self, features: Tensor) -> Tensor:
        """Return (n, dim) of pooled features."""
        return torch.as_tensor(self.proj(features) + self.skip(features))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (n, dim)."""
        return self.project(self.features(pixels))


class _Layer(nn.Module):
    """A pre-norm transformer layer, in operations that every exporter knows."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.o = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.f1, self.f2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, states: Tensor, hidden: Tensor) -> Tensor:
        n, t, width = states.shape
        qkv = self.qkv(self.n1(states)).reshape(n, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = qkv[0] @ qkv[1].transpose(2, 3) / math.sqrt(width // self.heads) + hidden
        mixed = (scores.softmax(-1) @ qkv[2]).transpose(1, 2).reshape(n, t, width)
        states = states + self.drop(self.o(mixed))
        return torch.as_tensor(states + self.drop(self.f2(fn.gelu(self.f1(self.n2(states))))))


class TextTower(nn.Module):
    """(n, t) int64 WordPiece ids, and which of them count → (n, dim)."""

    def __init__(
        self,
        vocabulary: int,
        dim: int,
        width: int = 256,
        layers: int = 2,
        heads: int = 4,
        hidden: int = 512,
        longest: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.width, self.dim = 2 * width, dim
        self.words = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.words.weight, std=0.05)
        self.pos = nn.Parameter(torch.randn(longest, width) * 0.02)
        self.layers = nn.ModuleList(_Layer(width, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(2 * width, dim)

    def features(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the mean of the contextual states beside that of the words, (n, 2 · width)."""
        words = self.words(ids)
        states = words + self.pos[: ids.shape[1]]
        counts = mask.to(words.dtype).unsqueeze(-1)
        hidden = (1.0 - counts.squeeze(-1))[:, None, None, :] * -1e4
        for layer in self.layers:
            states = layer(states, hidden)
        many = counts.sum(1).clamp(min=1.0)
        contextual = (self.norm(states) * counts).sum(1) / many
        return torch.cat([contextual, (words * counts).sum(1) / many], -1)

    def project(self, features: Tensor) -> Tensor:
        """Return (n, dim) of features."""
        return torch.as_tensor(self.out(features))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return (n, dim)."""
        return self.project(self.features(ids, mask))


class _LogMel(nn.Module):
    """Waveform (n, samples) → (n, 1, frames, bands): 25 ms Hann windows every 10 ms, 64 mel bands of 60 to 7,800 Hz.

    Convolutions do it, so that the exported tower takes the waveform itself.
    """

    B: Tensor
    M: Tensor

    def __init__(self) -> None:
        super().__init__()
        import librosa  # its first call compiles for seconds

        window = np.hanning(_WINDOW + 1)[:-1]
        times, bins = np.arange(_WINDOW), np.arange(_FFT // 2 + 1)
        angle = 2.0 * np.pi * bins[:, None] * times[None] / _FFT
        basis = np.concatenate([np.cos(angle) * window, -np.sin(angle) * window])
        filters = librosa.filters.mel(
            sr=_RATE_HZ, n_fft=_FFT, n_mels=_BANDS, fmin=60.0, fmax=7800.0, htk=True, norm=None
        )
        self.register_buffer("B", torch.tensor(basis[:, None], dtype=torch.float32), persistent=False)
        self.register_buffer("M", torch.tensor(filters[:, :, None], dtype=torch.float32), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        spectrum = fn.conv1d(wave.unsqueeze(1), self.B, stride=_HOP)
        half = _FFT // 2 + 1
        power = spectrum[:, :half] ** 2 + spectrum[:, half:] ** 2
        return ((torch.log(fn.conv1d(power, self.M) + 1e-4) + 3.0) / 3.0).transpose(1, 2).unsqueeze(1)


class _Stage(nn.Module):
    """Halve time and frequency, then a residual with squeeze-and-excitation."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(into, out, 3, 2, 1, bias=False)
        self.an = nn.BatchNorm2d(out)
        self.b = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(out, max(4, out // 4), 1),
            nn.ReLU(),
            nn.Conv2d(max(4, out // 4), out, 1),
            nn.Sigmoid(),
        )

    def forward(self, states: Tensor) -> Tensor:
        states = fn.relu(self.an(self.a(states)))
        inner = self.bn(self.b(states))
        return fn.relu(states + inner * self.se(inner))


class SoundTower(nn.Module):
    """(n, samples) float32 in [-1, 1], mono 16 kHz, at least a second → (n, dim)."""

    def __init__(self, dim: int, widths: tuple[int, ...] = (24, 32, 64, 128, 256), pooled: int = 768) -> None:
        super().__init__()
        self.mel = _LogMel()
        self.net = nn.Sequential(*(_Stage(a, b) for a, b in zip((1, *widths[:-1]), widths, strict=True)))
        self.pre, self.pren = nn.Conv2d(widths[-1], pooled, 1, bias=False), nn.BatchNorm2d(pooled)
        self.width, self.dim = pooled, dim
        self.proj = nn.Sequential(nn.Dropout(0.1), nn.Linear(pooled, 512), nn.GELU(), nn.Linear(512, dim))

    def features(self, wave: Tensor) -> Tensor:
        """Return the pooled features, (n, width)."""
        with torch.autocast(wave.device.type, enabled=False):  # a logarithm of powers wants all of float32
            mel = self.mel(wave)
        return fn.relu(self.pren(self.pre(self.net(mel)))).mean((2, 3))

    def project(self, features: Tensor) -> Tensor:
        """Return (n, dim) of pooled features."""
        return torch.as_tensor(self.proj(features))

    def forward(self, wave: Tensor) -> Tensor:
        """Return (n, dim)."""
        return self.project(self.features(wave))


class TeacherTower(nn.Module):
    """A teacher's inner layer (n, into) → (n, dim): an MLP with a linear skip, one for each fold of the examples.

    Each head learns from all folds but its own, so that what a head says of its own fold was never learnt from the
    captions there: a student that learns it doesn't learn what others know by heart.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, into: int, dim: int, hidden: int, folds: int, dropout: float) -> None:
        super().__init__()
        self.width = self.dim = dim
        self.register_buffer("mean", torch.zeros(into))
        self.register_buffer("deviation", torch.ones(into))
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(into, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim))
            for _ in range(folds)
        )
        self.skips = nn.ModuleList(nn.Linear(into, dim) for _ in range(folds))

    def features(self, layer: Tensor, folds: Tensor) -> Tensor:
        """Return (n, dim), by the heads that may: in training one of those that learn from a row, else its own.

        A fold of −1 has the mean of all.
        """
        values = (layer - self.mean) / self.deviation
        said = torch.stack(
            [
                fn.normalize(head(values) + skip(values), dim=1)
                for head, skip in zip(self.heads, self.skips, strict=True)
            ]
        )
        many = len(self.heads)
        if many == 1:
            return said[0]
        own = folds.remainder(many)
        if self.training:
            own = (own + torch.randint(1, many, own.shape, device=own.device)).remainder(many)
        picked = said[own, torch.arange(len(own), device=own.device)]
        return torch.where((folds < 0)[:, None], said.mean(0), picked)

    def project(self, features: Tensor) -> Tensor:
        """Return them as they are."""
        return features
