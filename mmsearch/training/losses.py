"""What a step of training lowers: contrast, tags, noise contrast, and distillation of a better model.

Pure functions of tensors. Embeddings are (n, dim) float32 with L2-normalised rows unless said otherwise, and every loss
is a scalar. Gradients flow into every tensor that asks for them: what a teacher says comes detached. A temperature, or
a scale (1 / temperature), is a number or a learned scalar tensor.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_ROUNDING = 1e-6
"""The cosine of a vector of tags with itself is 1 only up to this."""


def info_nce(
    queries: Tensor,
    keys: Tensor,
    temperature: float | Tensor,
    negatives: Tensor | None = None,
    positives: Tensor | None = None,
) -> Tensor:
    """Return the mean over rows of −log softmax of the positive among the keys (m, dim) and the negatives (q, dim).

    Row i's positive is key i. `positives` (n, m + q), bool or weights of 0 and above, says otherwise: then the
    log-probability is averaged over a row's positives (MCT, Yuan et al. 2021, arXiv:2104.12836), and a row without one
    does not count; where no row has one the loss is 0.
    """
    among = keys if negatives is None else torch.cat([keys, negatives])
    logits = queries @ among.T / temperature
    if positives is None:
        return F.cross_entropy(logits, torch.arange(len(queries), device=logits.device))
    weights = positives.to(logits.dtype)
    total = weights.sum(dim=1)
    counts = total > 0
    each = -(F.log_softmax(logits, dim=1) * weights).sum(dim=1) / torch.where(counts, total, 1.0)
    return each.sum() / counts.sum().clamp(min=1)


def contrast(left: Tensor, right: Tensor, temperature: float | Tensor, positives: Tensor | None = None) -> Tensor:
    """Return the mean of `info_nce` from left to right and from right to left (CLIP, arXiv:2103.00020).

    `positives` is (n, n), left by right.
    """
    across = info_nce(left, right, temperature, positives=positives)
    back = info_nce(right, left, temperature, positives=None if positives is None else positives.T)
    return (across + back) / 2


def tag_positives(left_tags: Tensor, right_tags: Tensor, threshold: float, own: bool = False) -> Tensor:
    """Return (n, m) float32, 1 where the tags (n, t) and (m, t) have a cosine of at least the threshold, otherwise 0.

    MCT's ε rule. A row without tags, all zeros, is like nothing. `own` makes row i a positive of its partner i besides,
    whatever their tags.
    """
    left, right = left_tags.float(), right_tags.float()
    alike = F.normalize(left, dim=1) @ F.normalize(right, dim=1).T >= threshold - _ROUNDING
    # A threshold of 0 or below would take those without tags in.
    tagged = left.any(dim=1)[:, None] & right.any(dim=1)[None, :]
    found = (alike & tagged).float()
    return found.fill_diagonal_(1.0) if own else found


def noise_contrastive(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    temperature: float | Tensor,
    partition: float | Tensor,
) -> Tensor:
    """Return the mean over rows of −log[e^s / (e^s + K·Z)] − Σ_K log[K·Z / (e^s⁻ + K·Z)], s = cosine / temperature.

    AVID's NCE (Morgado, Vasconcelos and Misra 2021, arXiv:2004.12943). `positives` is (n, dim), or (n, p, dim): then
    each is scored with the same negatives, and the p losses are averaged. `negatives` is (n, K, dim); Z, `partition`,
    is above 0.
    """
    if positives.dim() == 2:
        positives = positives[:, None]
    z = torch.as_tensor(partition, dtype=queries.dtype, device=queries.device)
    noise = math.log(negatives.shape[1]) + z.log()
    right = torch.einsum("nd,npd->np", queries, positives) / temperature
    wrong = torch.einsum("nd,nkd->nk", queries, negatives) / temperature
    # −log[a / (a + b)] = softplus(log b − log a): no e^s is ever computed.
    return (F.softplus(noise - right).mean(dim=1) + F.softplus(wrong - noise).sum(dim=1)).mean()


def partition(queries: Tensor, negatives: Tensor, temperature: float | Tensor) -> Tensor:
    """Return Z, the mean of e^s of queries (n, dim) and negatives (n, K, dim), detached: of a first batch, then frozen.

    Infinite in float32 where cosine / temperature passes 88.
    """
    return (torch.einsum("nd,nkd->nk", queries, negatives) / temperature).exp().mean().detach()


def cosine_distance(student: Tensor, target: Tensor) -> Tensor:
    """Return the mean over rows of 1 − cosine; rows need not be normalised, and one of zeros is at 1 from all."""
    return (1 - F.cosine_similarity(student, target, dim=1)).mean()


def distil_features(student: Tensor, target: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return `cosine_distance` of features standardised by the mean and std (dim,) of each dimension.

    Rows need not be normalised. The few dimensions of large variance that most models have would be the whole cosine
    otherwise. A dimension of std 0 tells nothing apart and does not count.
    """
    varies = std > 0
    scale = varies / torch.where(varies, std, 1.0)
    return cosine_distance((student - mean) * scale, (target - mean) * scale)


def distil_classes(embeddings: Tensor, labels: Tensor, probabilities: Tensor, scale: float | Tensor) -> Tensor:
    """Return the mean over rows of KL(probabilities ‖ softmax(scale · cosine with the labels)).

    `labels` (c, dim) are the embedded names of the classes, `probabilities` (n, c) what a teacher says, rows sum to 1.
    """
    found = F.log_softmax(scale * (embeddings @ labels.T), dim=1)
    return F.kl_div(found, probabilities, reduction="batchmean")


def cross_entropy(embeddings: Tensor, labels: Tensor, classes: Tensor, scale: float | Tensor) -> Tensor:
    """Return the mean of −log softmax(scale · cosine with the labels (c, dim)) at each row's class.

    `classes` is (n,) int64. A row of class −1 has none and does not count; where no row has one the loss is 0.
    """
    logits = scale * (embeddings @ labels.T)
    total = F.cross_entropy(logits, classes, ignore_index=-1, reduction="sum")
    return total / (classes >= 0).sum().clamp(min=1)
