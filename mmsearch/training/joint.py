"""Towers and losses of a stage → a task for the loop.

A side is `image`, `sound` or `text`, or a tower that reads a teacher's layer (`kind = "teacher"`). The kinds of terms:

- `contrast`, between two sides: InfoNCE both ways with a learned temperature; what is of one example, or with `tags`
  of one tag, is positive (MCT). With `queue` and the stage's `momentum`, keys come from encoders that follow slowly,
  and those of earlier batches are negatives (MoCo).
- `within`, of one side: two views of a picture or a sound, or two captions of one example, are positives (MCT's
  intra-modal terms). `head` is the width of a projection of its own; 0 shares the cross-modal one.
- `instance`, between two sides: AVID's noise-contrastive estimation against memory banks; `mode` is cross, within or
  both.
- `agreement`, between two sides: CMA's within-modal terms; positives are mined from both banks every `every` steps.
- `features`, of a side: its features, through a linear layer, are the teacher's layer, standardised.
- `match`, of one side to another: cosine to what the other says, which isn't taught by it.
- `sentences`: texts have the sentence teacher's vectors.
- `classes`, of a side: cross-entropy over the tags by their texts.
- `believed`, of a side: KL to the classes that its teacher believes in, by the texts of their names.
- `kinds`, of a grown picture tower: the names of kinds that its network can tell find the pictures of `kinds.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as fn

from mmsearch.errors import UsageError
from mmsearch.training import losses
from mmsearch.training.batch import Batch, Draw, Material
from mmsearch.training.loop import evaluating
from mmsearch.training.memory import MemoryBank, Queue, follow, mine_positives
from mmsearch.training.outputs import Look, Outputs, blended
from mmsearch.training.recipe import StageRecipe, TermRecipe, TowerRecipe
from mmsearch.training.taught import Targets

_MOST_SCALE = 100.0
_NAMES_EVERY = 50
"""Steps between two embeddings of the names of tags and classes, where the text tower is trained."""
_WITHIN_NEGATIVES = 64
"""CMA's negatives within a modality."""
_KINDS_AT_ONCE, _KINDS_SEED = 256, 31
_DRAWS = 20
"""How often a batch is drawn again that has nothing for any term."""
_SAMPLE = 4096
"""Of how many rows of a teacher's layer mean and deviation are taken."""
_UNBLENDED = ("features", "match", "believed")
"""What makes sense of blended pictures; the other terms rest in such a batch."""


class Joint(nn.Module):
    """A stage: towers, what its terms keep, and the draw of batches. The loop's `Task`."""

    def __init__(
        self,
        towers: nn.ModuleDict,
        recipes: Mapping[str, TowerRecipe],
        stage: StageRecipe,
        material: Material,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.towers, self._recipes, self._stage, self._material, self._seed = towers, recipes, stage, material, seed
        self._draw = Draw(material, stage)
        self._device = next(towers.parameters()).device.type
        self._look = Look(material, recipes, stage.train, stage.precision, self._device)
        trained = {id(towers[name]) for name in stage.train}  # two names may share a tower
        for tower in towers.values():
            tower.requires_grad_(id(tower) in trained)
            tower.train(id(tower) in trained)
        units = material.store.units
        drawn = self._draw.units.tolist()
        self._instances = np.asarray([n for n in drawn if units[n].pictures and units[n].sound >= 0], np.int64)
        self.slow, self.kept, self.scales = nn.ModuleDict(), nn.ModuleDict(), nn.ParameterDict()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for number, term in enumerate(stage.terms):
                self._make(number, term)
        self.to(self._device)
        self._outputs: Outputs | None = None

    def _make(self, number: int, term: TermRecipe) -> None:
        """Make what a term keeps between steps: its temperature, projections, queues, banks, slow encoders."""
        dim = int(cast("Any", next(iter(self.towers.values()))).dim)
        if term.kind in ("contrast", "within", "classes", "believed", "kinds"):
            self.scales[str(number)] = nn.Parameter(torch.tensor(1.0 / term.temperature).log())
        if term.kind in ("classes", "believed"):
            self.register_buffer(f"names{number}", torch.zeros(len(self._names_of(term)), dim))
        if term.kind == "features":
            layer = self._targets(term.of).layer
            self.kept[str(number)] = nn.Linear(self._tower(term.of).width, layer.shape[1])
            mean, deviation = spread(layer)
            self.register_buffer(f"mean{number}", mean)
            self.register_buffer(f"deviation{number}", deviation)
        if term.kind == "within" and term.head:
            width = self._tower(term.of).width
            self.kept[str(number)] = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, term.head))
        if term.queue and self._stage.momentum:
            for side in term.between:
                self.kept[f"{number}-{side}"] = Queue(term.queue, dim)
                if side not in self.slow:
                    self.slow[side] = deepcopy(self._tower(side)).requires_grad_(requires_grad=False)
        if term.kind in ("instance", "agreement"):
            for seed, side in enumerate(term.between):
                if f"bank-{side}" not in self.kept:
                    self.kept[f"bank-{side}"] = MemoryBank(len(self._instances), dim, 2 * self._seed + seed)
        if term.kind == "agreement":
            many = min(term.positives, (len(self._instances) - 1) // 2)  # negatives have to be left
            self.register_buffer(f"positives{number}", torch.zeros(len(self._instances), many, dtype=torch.int64))

    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]
        """Return what this stage changes; what it doesn't train comes from the stages before."""
        return {name: value for name, value in super().state_dict().items() if self._is_own(name)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # type: ignore[override]
        """Take over what `state_dict` returned. Raises `RuntimeError` where it is of another stage."""
        found = super().load_state_dict(state, strict=False)
        if missing := [name for name in found.missing_keys if self._is_own(name)] + found.unexpected_keys:
            raise RuntimeError(f"{missing[0]} is missing or too much")

    def _is_own(self, name: str) -> bool:
        return not name.startswith("towers.") or name.split(".")[1] in self._stage.train

    def _tower(self, name: str) -> Any:  # noqa: ANN401  a ModuleDict knows no more
        return self.towers[name]

    def terms(self, step: int, random: np.random.Generator) -> dict[str, Tensor]:
        """Return the losses of a step, each with its weight in it; those that a batch has nothing for are left out."""
        if step % _NAMES_EVERY == 0:
            self._embed_names()
        self._mine(step)
        for _ in range(_DRAWS):
            if found := self._terms_of(self._draw(random), random, step):
                return found
        raise UsageError(
            f"the stage {self._stage.name} draws batches from which none of its terms can learn; mend its mix"
        )

    def _terms_of(self, batch: Batch, random: np.random.Generator, step: int) -> dict[str, Tensor]:
        """Return the losses of a batch; none where it has nothing for any term."""
        again = partial(self._draw.of, batch.units, random)
        self._outputs = Outputs(self._look, self.towers, self.slow, batch, again)  # type: ignore[arg-type]
        found: dict[str, Tensor] = {}
        for number, term in enumerate(self._stage.terms):
            if batch.blend is not None and term.kind not in _UNBLENDED:
                continue
            value = getattr(self, f"_{term.kind}")(number, term, self._outputs, step)
            if value is not None:
                label = "-".join((term.kind, *term.between, *(name for name in (term.of, term.to) if name)))
                found[f"{label}-{number}" if label in found else label] = term.weight * value
        return found

    def stepped(self, step: int) -> None:
        """Update queues, banks, mined positives and the slow encoders by the batch just learnt from."""
        out = self._outputs
        if out is not None and out.batch.blend is not None:  # what was blended is nobody's, and not to be remembered
            out = None
        for number, term in enumerate(self._stage.terms if out is not None else ()):
            assert out is not None
            if term.queue and self._stage.momentum:
                for side in term.between:
                    if bool((has := out.has(side)).any()):
                        queue = cast("Queue", self.kept[f"{number}-{side}"])
                        queue.push(out.key(side), out.tags[has], out.ids[has])
            if term.kind == "instance":
                _, rows, places = self._seen(out, term)
                for side, mine in zip(term.between, places, strict=True):
                    if len(rows):
                        cast("MemoryBank", self.kept[f"bank-{side}"]).update(rows, out.embedded(side)[mine].detach())
        for side, slow in self.slow.items():
            follow(slow, self.towers[side], self._stage.momentum)

    def _scale(self, number: int) -> Tensor:
        return torch.as_tensor(self.scales[str(number)].exp().clamp(max=_MOST_SCALE))

    def _contrast(self, number: int, term: TermRecipe, out: Outputs, _step: int) -> Tensor | None:
        one, other = term.between
        both = out.has(one) & out.has(other)
        if int(both.sum()) < 2:
            return None
        ids, tags = out.ids[both], out.tags[both]
        mine, partners = both[out.has(one)], both[out.has(other)]
        left, right = out.embedded(one)[mine], out.embedded(other)[partners]
        temperature = 1.0 / self._scale(number)
        positives = alike(ids, ids, tags, tags, tagged=term.tags)
        if not (term.queue and self._stage.momentum):
            return losses.contrast(left, right, temperature, positives)
        loss = left.new_zeros(())
        for queries, side, rows in ((left, other, partners), (right, one, mine)):
            keys, queued_tags, queued_ids = cast("Queue", self.kept[f"{number}-{side}"]).contents()
            more = torch.cat([positives, alike(ids, queued_ids, tags, queued_tags, tagged=term.tags)], 1)
            loss = loss + losses.info_nce(queries, out.key(side)[rows], temperature, keys, more) / 2
        return loss

    def _within(self, number: int, term: TermRecipe, out: Outputs, _step: int) -> Tensor | None:
        both = out.has(term.of) & out.other.has(term.of)
        if int(both.sum()) < 2:
            return None
        sides = []
        for seen in (out, out.other):
            rows = both[seen.has(term.of)]
            projected = self.kept[str(number)](seen.features(term.of)) if term.head else seen.embedded(term.of)
            sides.append(fn.normalize(projected[rows].float(), dim=1))
        ids, tags = out.ids[both], out.tags[both]
        positives = alike(ids, ids, tags, tags, tagged=term.tags)
        return losses.contrast(sides[0], sides[1], 1.0 / self._scale(number), positives)

    def _seen(self, out: Outputs, term: TermRecipe) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return which units of a batch are instances, their rows in the banks, and their rows in either's outputs."""
        both = out.has(term.between[0]) & out.has(term.between[1])
        order = np.argsort(self._instances)
        units = out.batch.units[both.cpu().numpy()]
        rows = torch.from_numpy(order[np.searchsorted(self._instances, units, sorter=order)] if len(units) else units)
        return both, rows, [both[out.has(side)] for side in term.between]

    def _instance(self, _number: int, term: TermRecipe, out: Outputs, step: int) -> Tensor | None:
        _, rows, places = self._seen(out, term)
        if not len(rows):
            return None
        embedded = [out.embedded(side)[mine] for side, mine in zip(term.between, places, strict=True)]
        banks = [cast("MemoryBank", self.kept[f"bank-{side}"]) for side in term.between]
        pairs = {"cross": [(0, 1), (1, 0)], "within": [(0, 0), (1, 1)]}
        chosen = pairs.get(term.mode, [*pairs["cross"], *pairs["within"]])
        found = [self._noise(embedded[a], banks[b], rows, term, step) for a, b in chosen]
        return torch.stack(found).mean()

    def _mine(self, step: int) -> None:
        """Look in the banks for who agrees with whom, every so many steps."""
        for number, term in enumerate(self._stage.terms):
            if term.kind == "agreement" and step and step % term.every == 0:
                one, other = (cast("MemoryBank", self.kept[f"bank-{side}"]).memory for side in term.between)
                names = {"image": "visual", "sound": "audio"}
                mode = cast('Literal["both", "visual", "audio"]', names.get(term.mode, "both"))
                mined = self.get_buffer(f"positives{number}")
                mined.copy_(mine_positives(one, other, mined.shape[1], mode=mode))

    def _positives(self, between: tuple[str, ...], step: int) -> Tensor | None:
        """Return what agrees with each instance, once it was looked for: it is no negative either (CMA, section 4)."""
        for number, term in enumerate(self._stage.terms):
            if term.kind == "agreement" and term.between == between and step >= term.every:
                return self.get_buffer(f"positives{number}")
        return None

    def _noise(self, queries: Tensor, bank: MemoryBank, rows: Tensor, term: TermRecipe, step: int) -> Tensor:
        random = torch.Generator().manual_seed(self._seed * 7919 + step)
        mined = self._positives(term.between, step)
        negatives = bank.negatives(rows, term.negatives, random, exclude=None if mined is None else mined[rows])
        if not bank.partition:
            bank.partition.copy_(losses.partition(queries, negatives, term.temperature))
        return losses.noise_contrastive(queries, bank.entries(rows), negatives, term.temperature, bank.partition)

    def _agreement(self, number: int, term: TermRecipe, out: Outputs, step: int) -> Tensor | None:
        mined = cast("Tensor", getattr(self, f"positives{number}"))
        banks = [cast("MemoryBank", self.kept[f"bank-{side}"]) for side in term.between]
        if step < term.every:  # AVID alone first: banks of random vectors agree on nothing
            return None
        _, rows, places = self._seen(out, term)
        if not len(rows):
            return None
        random = torch.Generator().manual_seed(self._seed * 104_729 + step)
        found = []
        for side, mine, bank in zip(term.between, places, banks, strict=True):
            negatives = bank.negatives(rows, _WITHIN_NEGATIVES, random, exclude=mined[rows])
            positives, queries = bank.entries(mined[rows]), out.embedded(side)[mine]
            found.append(losses.noise_contrastive(queries, positives, negatives, term.temperature, bank.partition))
        return torch.stack(found).mean()

    def _features(self, number: int, term: TermRecipe, out: Outputs, _step: int) -> Tensor | None:
        if not bool(out.has(term.of).any()):
            return None
        student = self.kept[str(number)](out.features(term.of)).float()
        target = self._blended(self._look.layer(term.of, out.batch), term.of, out)
        mean, deviation = getattr(self, f"mean{number}"), getattr(self, f"deviation{number}")
        return losses.distil_features(student, target, mean, deviation)

    def _match(self, _number: int, term: TermRecipe, out: Outputs, _step: int) -> Tensor | None:
        both = out.has(term.of) & out.has(term.to)
        apart = self._look.side(term.of) != self._look.side(term.to)
        if not bool(both.any()) or (apart and out.batch.blend is not None):
            return None
        said = self._blended(out.embedded(term.to).detach(), term.of, out)
        return losses.cosine_distance(out.embedded(term.of)[both[out.has(term.of)]], said[both[out.has(term.to)]])

    def _blended(self, values: Tensor, side: str, out: Outputs) -> Tensor:
        return blended(values, out.batch, self._look.side(side))

    def _sentences(self, _number: int, _term: TermRecipe, out: Outputs, _step: int) -> Tensor | None:
        sentences = self._material.sentences
        if sentences is None or not bool(out.has("text").any()):
            return None
        taught = torch.from_numpy(sentences[out.batch.texts[out.batch.has("text")]]).to(self._device)
        known = taught.any(dim=1)
        return losses.cosine_distance(out.embedded("text")[known], taught[known]) if bool(known.any()) else None

    def _classes(self, number: int, term: TermRecipe, out: Outputs, _step: int) -> Tensor | None:
        has = out.has(term.of)
        classes = out.tags[has]
        if not bool((classes >= 0).any()):
            return None
        return losses.cross_entropy(
            out.embedded(term.of), self.get_buffer(f"names{number}"), classes, self._scale(number)
        )

    def _believed(self, number: int, term: TermRecipe, out: Outputs, _step: int) -> Tensor | None:
        if not bool(out.has(term.of).any()):
            return None
        side = self._look.side(term.of)
        names = self.get_buffer(f"names{number}")
        probabilities = self._blended(self._look.believed(side, out.batch), term.of, out)
        return losses.distil_classes(out.embedded(term.of), names, probabilities, self._scale(number))

    def _kinds(self, number: int, term: TermRecipe, _out: Outputs, step: int) -> Tensor | None:
        kinds = self._material.kinds
        if kinds is None:
            return None
        random = np.random.default_rng([self._seed, _KINDS_SEED, step])
        chosen = random.choice(len(kinds.names), min(_KINDS_AT_ONCE, len(kinds.names)), replace=False)
        texts = [int(random.choice(kinds.names[kind])) for kind in chosen.tolist()]
        said = np.asarray(self._material.frozen["text"][texts], np.float32)
        sides = []
        for name, rows in ((term.of, kinds.draw(chosen, random)), ("text", said)):
            tower = self._tower(name)
            with torch.set_grad_enabled(torch.is_grad_enabled() and name in self._stage.train):
                features = tower.features(torch.from_numpy(rows).to(self._device))
                sides.append(self._look.project(tower, features))
        ids = torch.arange(len(chosen), device=self._device)
        nobody = torch.full_like(ids, -1)
        positives = alike(ids, ids, nobody, nobody, tagged=False)
        return losses.contrast(sides[0], sides[1], 1.0 / self._scale(number), positives)

    def _names_of(self, term: TermRecipe) -> Sequence[str]:
        """Return the names of a term's classes."""
        return self._material.examples.tags if term.kind == "classes" else self._targets(term.of).names

    def _targets(self, name: str) -> Targets:
        return self._material.targets[self._look.side(name)]

    def _embed_names(self) -> None:
        """Embed the names of classes anew, without a gradient; a checkpoint holds them for a run that is resumed."""
        tower = self._tower("text") if "text" in self.towers else None
        for number, term in enumerate(self._stage.terms):
            if term.kind in ("classes", "believed") and tower is not None:
                with evaluating(tower), torch.no_grad():
                    tokens = (one.to(self._device) for one in self._material.tokenised(self._names_of(term)))
                    self.get_buffer(f"names{number}").copy_(fn.normalize(tower(*tokens).float(), dim=1))


def alike(left: Tensor, right: Tensor, left_tags: Tensor, right_tags: Tensor, *, tagged: bool) -> Tensor:
    """Return which of (n,) and (m,) ids are of one example, or where `tagged` have one tag: (n, m) bool."""
    same = left[:, None] == right[None]
    if tagged:
        same |= (left_tags[:, None] == right_tags[None]) & (left_tags >= 0)[:, None]
    return same


def spread(layer: NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Return mean and deviation (width,) of a teacher's layer, over a sample of its rows."""
    sample = np.asarray(layer[:: max(1, len(layer) // _SAMPLE)], np.float32)
    return torch.from_numpy(sample.mean(0)), torch.from_numpy(sample.std(0))
