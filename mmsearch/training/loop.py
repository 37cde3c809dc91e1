"""The training loop: optimise a task step by step, log, and resume a killed run as if it had never stopped.

All randomness of a step is a function of the seed and the step's number, so that none of it has to be saved: a
checkpoint is the task (weights, queues, banks), the optimizer and a number, and a resumed run gives the same bits on
the CPU, with the same number of threads.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mmsearch.errors import TrainingError, UsageError, one_line
from mmsearch.files import write_whole

_SEED_STRIDE = 1_000_003
"""Between the seeds of two runs, so that their steps share none."""
_CLIP = 5.0
"""The largest norm of a gradient: a single bad batch must not undo hours."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast: a linear warm-up to `lr`, then half a cosine down to `final` of it."""

    steps: int
    lr: float
    warmup: int = 0
    final: float = 0.0
    weight_decay: float = 0.01
    seed: int = 0
    checkpoint_s: float = 120.0
    """Seconds between checkpoints."""
    log_every: int = 20

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        left = 0.5 * (1.0 + math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))
        return self.lr * (self.final + (1.0 - self.final) * left)


class Task(Protocol):
    """What is trained; in practice a `torch.nn.Module` whose state is all that a checkpoint has to hold."""

    def terms(self, step: int, random: np.random.Generator) -> Mapping[str, Tensor]:
        """Return the losses of a step, each with its weight in it; their sum is minimised."""
        ...

    def stepped(self, step: int) -> None:
        """Bring up to date what follows the weights: momentum encoders, memory banks, mined positives."""
        ...

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Return what is optimised; what doesn't require a gradient stays as it is."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return weights and memories."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> object:
        """Take over weights and memories."""
        ...


Watch = Callable[[int, Mapping[str, float]], bool]
"""Is told step and mean losses every `log_every` steps; answers True to end the training early."""


def train(
    task: Task, schedule: Schedule, folder: Path, name: str = "", watch: Watch | None = None, identity: str = ""
) -> int:
    """Train a task and return the number of steps made; what `folder` holds of a killed run is gone on with.

    `identity` says what is trained on what: a checkpoint of another one is refused.

    Writes `<name>.checkpoint`, `<name>.jsonl` (a line every `log_every` steps: step, lr, losses, seconds) and, where
    TensorBoard is installed, its events. Raises `UsageError` for a checkpoint of something else, and for losses that
    are no longer finite, whose step is not in the checkpoint.
    """
    named = name or "train"
    weights = [weight for weight in task.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(_groups(weights, schedule.weight_decay), lr=schedule.lr)
    file = folder / f"{named}.checkpoint"
    start = _resume(file, task, optimizer, identity) if file.is_file() else 0
    log = _Log(folder, named, start)
    saved = time.monotonic()
    step = start
    ended = False
    while step < schedule.steps and not ended:
        log.add(_step(task, optimizer, weights, schedule, step))
        step += 1
        if step % schedule.log_every == 0 or step == schedule.steps:
            ended = log.write(step, schedule.lr_at(step - 1), watch)
        if time.monotonic() - saved > schedule.checkpoint_s or step == schedule.steps or ended:
            _save(file, task, optimizer, schedule.steps if ended else step, identity)
            saved = time.monotonic()
    log.close()
    return step


def _step(
    task: Task,
    optimizer: torch.optim.Optimizer,
    weights: list[torch.nn.Parameter],
    schedule: Schedule,
    step: int,
) -> dict[str, float]:
    """Make one step and return its losses."""
    torch.manual_seed(schedule.seed * _SEED_STRIDE + step)
    random = np.random.default_rng([schedule.seed, step])
    for group in optimizer.param_groups:
        group["lr"] = schedule.lr_at(step)
    terms = task.terms(step, random)
    loss = torch.stack(list(terms.values())).sum()
    if not torch.isfinite(loss):
        said = ", ".join(f"{name} {float(term.detach()):.3g}" for name, term in terms.items())
        raise TrainingError(f"the losses are no longer finite at step {step} ({said}); lower lr in the recipe")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(weights, _CLIP)
    optimizer.step()
    with torch.no_grad():
        task.stepped(step)
    return {name: float(term.detach()) for name, term in terms.items()}


def _groups(weights: list[torch.nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return the optimizer's groups: matrices decay; biases, scales and norms don't."""
    matrices = [weight for weight in weights if weight.ndim > 1]
    rest = [weight for weight in weights if weight.ndim <= 1]
    return [
        {"params": group, "weight_decay": decay} for group, decay in ((matrices, weight_decay), (rest, 0.0)) if group
    ]


def _save(file: Path, task: Task, optimizer: torch.optim.Optimizer, step: int, identity: str) -> None:
    content = io.BytesIO()
    torch.save(
        {"identity": identity, "step": step, "task": task.state_dict(), "optimizer": optimizer.state_dict()}, content
    )
    write_whole(file, content.getvalue())


def _resume(file: Path, task: Task, optimizer: torch.optim.Optimizer, identity: str) -> int:
    """Take over a checkpoint and return its step."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        if state["identity"] != identity:
            raise ValueError("its recipe or its media have changed")
        task.load_state_dict(state["task"])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])
    except Exception as error:
        reason = one_line(error)
        raise UsageError(
            f"{file} is of another recipe or damaged ({reason}); delete it to begin anew, or choose another --out"
        ) from error


class _Log:
    """Mean losses since the last line, as JSON lines and for TensorBoard."""

    def __init__(self, folder: Path, name: str, start: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"{name}.jsonl"
        lines = self._file.read_text("utf-8").splitlines() if self._file.is_file() else []
        # What a killed run logged after its last checkpoint is done again.
        kept = [line for line in lines if _logged_step(line) <= start]
        write_whole(self._file, "".join(f"{line}\n" for line in kept).encode())
        self._board = _board(folder / name)
        self._losses: list[dict[str, float]] = []
        self._since = time.monotonic()

    def add(self, losses: dict[str, float]) -> None:
        self._losses.append(losses)

    def write(self, step: int, lr: float, watch: Watch | None) -> bool:
        """Write a line, tell the watch, and return whether it wants an end."""
        names = sorted({name for losses in self._losses for name in losses})
        means = {name: float(np.mean([losses[name] for losses in self._losses if name in losses])) for name in names}
        seconds = time.monotonic() - self._since
        with self._file.open("a", encoding="utf-8") as opened:
            opened.write(json.dumps({"step": step, "lr": lr, **means, "seconds": round(seconds, 3)}) + "\n")
        if self._board is not None:
            for name, value in means.items():
                self._board.add_scalar(name, value, step)
        self._losses, self._since = [], time.monotonic()
        return watch is not None and watch(step, means)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def _logged_step(line: str) -> float:
    """Return the step of a line; one that a killed run left half counts as later than all."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _board(folder: Path) -> Any:  # noqa: ANN401  an optional package without types
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Put a module into evaluation, without gradients, and back into what it was."""
    was = module.training
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        module.train(was)
