"""Banks, queues and followers: what is remembered, what is drawn, and that a checkpoint brings all of it back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmsearch.training.losses import noise_contrastive
from mmsearch.training.memory import MemoryBank, Queue, draw_others, follow, mine_positives


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(*shape: int, seed: int = 0) -> Tensor:
    return nn.functional.normalize(torch.randn(*shape, generator=seeded(seed)), dim=-1)


def ids(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def saved(module: nn.Module, folder: Path) -> dict[str, Tensor]:
    """What a checkpoint on the disk brings back."""
    torch.save(module.state_dict(), folder / "state.pt")
    state: dict[str, Tensor] = torch.load(folder / "state.pt", weights_only=True)
    return state


# The bank


def test_a_bank_begins_with_unit_vectors_that_only_the_seed_decides() -> None:
    torch.manual_seed(1)
    bank = MemoryBank(1000, 16, seed=3)
    torch.manual_seed(2)
    assert torch.equal(bank.memory, MemoryBank(1000, 16, seed=3).memory)
    assert not torch.equal(bank.memory, MemoryBank(1000, 16, seed=4).memory)
    torch.testing.assert_close(bank.memory.norm(dim=1), torch.ones(1000))
    # Uniform over the sphere: the mean of 1,000 has length √(1/1000), and each dimension an equal share of variance.
    assert float(bank.memory.mean(dim=0).norm()) < 0.1
    torch.testing.assert_close(bank.memory.square().mean(dim=0), torch.full((16,), 1 / 16), rtol=0.3, atol=0)
    assert len(bank) == 1000
    assert float(bank.partition) == 0


def test_an_update_is_a_running_mean_renormalised_and_leaves_other_rows() -> None:
    bank = MemoryBank(4, 2)
    bank.memory.copy_(torch.tensor([[1.0, 0], [1, 0], [0, 1], [0.6, 0.8]]))
    bank.update(ids(2, 0), torch.tensor([[0.0, 1], [0, 1]]))
    # Row 0: halfway between (1, 0) and (0, 1); row 2 is where it was.
    torch.testing.assert_close(bank.memory, torch.tensor([[0.5**0.5, 0.5**0.5], [1, 0], [0, 1], [0.6, 0.8]]))
    bank.update(ids(1), torch.tensor([[0.0, 1]]), momentum=0.8)
    # (0.8, 0.2) / √0.68.
    torch.testing.assert_close(bank.memory[1], torch.tensor([0.8, 0.2]) / 0.68**0.5)


def test_a_row_given_twice_moves_once_towards_the_mean() -> None:
    bank = MemoryBank(3, 2)
    bank.memory.copy_(torch.tensor([[1.0, 0], [0, 1], [0, -1]]))
    bank.update(ids(1, 0, 1), torch.tensor([[1.0, 0], [0, 1], [0, 1]]))
    # Row 1: ½ (0, 1) + ½ (½, ½) = (¼, ¾).
    expected = torch.tensor([[0.5**0.5, 0.5**0.5], [0.25 / 0.625**0.5, 0.75 / 0.625**0.5], [0, -1]])
    torch.testing.assert_close(bank.memory, expected)


def test_a_batch_is_scored_against_the_memory_before_its_update() -> None:
    bank = MemoryBank(50, 8)
    embeddings = unit(4, 8, seed=1).requires_grad_()
    rows = ids(3, 1, 4, 5)
    before = bank.entries(rows)
    loss = noise_contrastive(embeddings, before, bank.negatives(rows, 10, seeded()), 0.07, 5.0)
    kept = before.clone()
    bank.update(rows, embeddings)
    assert torch.equal(before, kept)
    assert not torch.equal(bank.entries(rows), kept)
    assert not bank.memory.requires_grad
    assert torch.autograd.grad(loss, embeddings)[0].any()


def test_entries_take_ids_of_any_shape() -> None:
    bank = MemoryBank(5, 3)
    found = bank.entries(ids([4, 0], [1, 1], [2, 3]))
    assert found.shape == (3, 2, 3)
    assert torch.equal(found[1, 0], bank.memory[1])
    assert torch.equal(found[2, 1], bank.memory[3])


def test_a_bank_comes_back_from_a_checkpoint_bit_for_bit_with_its_partition(tmp_path: Path) -> None:
    bank = MemoryBank(20, 4)
    bank.update(torch.arange(7), unit(7, 4, seed=1))
    bank.partition.fill_(1234.567)
    restored = MemoryBank(20, 4, seed=9)
    restored.load_state_dict(saved(bank, tmp_path))
    assert torch.equal(restored.memory, bank.memory)
    assert torch.equal(restored.partition, torch.tensor(1234.567))


# Drawing negatives


def test_every_instance_that_is_not_excluded_is_drawn_and_equally_often() -> None:
    rows = ids(0, 3, 9, 5)
    exclude = ids([1, 2, 8], [9, 0, 4], [9, 9, -1], [-1, -1, -1])
    left = [{3, 4, 5, 6, 7, 9}, {1, 2, 5, 6, 7, 8}, set(range(9)), set(range(10)) - {5}]
    draws = draw_others(10, rows, 20_000, seeded(), exclude)
    for drawn, allowed in zip(draws, left, strict=True):
        counts = torch.bincount(drawn, minlength=10).numpy()
        assert set(np.flatnonzero(counts).tolist()) == allowed
        expected = 20_000 / len(allowed)
        chi_square = float(((counts[sorted(allowed)] - expected) ** 2 / expected).sum())
        # The 99.9th percentile with 8 degrees of freedom.
        assert chi_square < 26.1


def test_neighbours_of_an_excluded_block_are_not_drawn_more_often() -> None:
    # Drawing again and again from the next free id would favour 8 here fourfold.
    counts = torch.bincount(draw_others(10, ids(4), 30_000, seeded(1), ids([5, 6, 7]))[0], minlength=10)
    assert counts[4:8].sum() == 0
    np.testing.assert_allclose(counts[[0, 1, 2, 3, 8, 9]] / 30_000, 1 / 6, atol=0.012)


def test_rows_of_a_batch_and_draws_of_a_row_are_independent() -> None:
    draws = draw_others(1000, torch.arange(2), 5000, seeded())
    # By chance 5 of 5,000 agree, with a standard deviation of about 2.2.
    assert int((draws[0] == draws[1]).sum()) < 20
    assert int((draws[0, 1:] == draws[0, :-1]).sum()) < 20


def test_the_generator_alone_decides_what_is_drawn() -> None:
    rows, first = torch.arange(5), seeded(7)
    drawn = draw_others(100, rows, 50, first)
    torch.manual_seed(0)
    assert torch.equal(draw_others(100, rows, 50, seeded(7)), drawn)
    assert not torch.equal(draw_others(100, rows, 50, first), drawn)


def test_the_only_instance_left_is_always_drawn_and_none_left_is_an_error() -> None:
    assert draw_others(3, ids(1), 5, seeded(), ids([0])).tolist() == [[2] * 5]
    with pytest.raises(ValueError, match="of 3 instances none is left"):
        draw_others(3, ids(0, 1), 5, seeded(), ids([1, -1], [0, 2]))
    with pytest.raises(ValueError, match="of 1 instances none is left"):
        MemoryBank(1, 4).negatives(ids(0), 5, seeded())


def test_negatives_are_entries_of_the_instances_drawn() -> None:
    bank = MemoryBank(6, 6)
    bank.memory.copy_(torch.eye(6))
    exclude = ids([0, 1], [4, 5])
    found = bank.negatives(ids(2, 3), 400, seeded(5), exclude)
    assert found.shape == (2, 400, 6)
    assert torch.equal(found.argmax(dim=2), draw_others(6, ids(2, 3), 400, seeded(5), exclude))
    assert set(found[0].argmax(dim=1).tolist()) == {3, 4, 5}
    assert set(found[1].argmax(dim=1).tolist()) == {0, 1, 2}


# Mining positives


def test_positives_agree_in_both_modalities() -> None:
    angles_seen, angles_heard = torch.tensor([0.0, 10, 21, 60]).deg2rad(), torch.tensor([0.0, 80, 30, 10]).deg2rad()
    visual = torch.stack([angles_seen.cos(), angles_seen.sin()], dim=1)
    audio = torch.stack([angles_heard.cos(), angles_heard.sin()], dim=1)
    # The wider angle of 0 to 1, 2, 3 is 80, 30, 60; of 1: 80, 50, 70; of 2: 30, 50, 39; of 3: 60, 70, 39.
    assert mine_positives(visual, audio, 3).tolist() == [[2, 3, 1], [2, 3, 0], [0, 3, 1], [2, 0, 1]]
    assert mine_positives(visual, audio, 1, mode="visual").tolist() == [[1], [0], [1], [2]]
    assert mine_positives(visual, audio, 1, mode="audio").tolist() == [[3], [2], [3], [0]]


@pytest.mark.parametrize("mode", ["both", "visual", "audio"])
@pytest.mark.parametrize("chunk", [1, 7, 40, 1024])
def test_any_chunk_mines_what_a_full_matrix_does(mode: Literal["both", "visual", "audio"], chunk: int) -> None:
    visual, audio = unit(40, 8), unit(40, 8, seed=1)
    seen, heard = (visual @ visual.T).numpy(), (audio @ audio.T).numpy()
    rho = {"both": np.minimum(seen, heard), "visual": seen, "audio": heard}[mode]
    np.fill_diagonal(rho, -np.inf)
    found = mine_positives(visual, audio, 5, chunk, mode)
    assert found.dtype == torch.int64
    np.testing.assert_array_equal(found.numpy(), np.argsort(-rho, axis=1)[:, :5])


def test_an_instance_is_never_its_own_positive_however_few_there_are() -> None:
    visual, audio = unit(4, 3), unit(4, 3, seed=1)
    found = mine_positives(visual, audio, 32, chunk=3)
    assert [sorted(row) for row in found.tolist()] == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    assert mine_positives(visual[:1], audio[:1], 32).shape == (1, 0)
    assert mine_positives(visual[:0], audio[:0], 32).shape == (0, 0)


def test_mined_positives_are_never_drawn_as_negatives() -> None:
    bank = MemoryBank(30, 30)
    bank.memory.copy_(torch.eye(30))
    mined, rows = mine_positives(unit(30, 4), unit(30, 4, seed=1), 8), torch.arange(30)
    drawn = bank.negatives(rows, 2000, seeded(), mined).argmax(dim=2)
    for row in range(30):
        assert set(drawn[row].tolist()) == set(range(30)) - {row} - set(mined[row].tolist())


# The queue


def numbered(*values: int) -> tuple[Tensor, Tensor, Tensor]:
    """Keys, tags and ids from which one can tell which they are."""
    column = ids(*values)
    return column[:, None].float().repeat(1, 2), column % 3 - 1, column + 100


def held(queue: Queue) -> list[int]:
    """The numbers held, after a check that key, tag and id of each still belong together."""
    keys, tags, instances = queue.contents()
    numbers = sorted(keys[:, 0].long().tolist())
    order = keys[:, 0].argsort()
    expected = numbered(*numbers)
    assert torch.equal(keys[order], expected[0].reshape(-1, 2))
    assert torch.equal(tags[order], expected[1])
    assert torch.equal(instances[order], expected[2])
    return numbers


def test_a_queue_shows_only_what_was_pushed() -> None:
    queue = Queue(5, 2)
    assert queue.filled == 0
    assert [part.shape for part in queue.contents()] == [(0, 2), (0,), (0,)]
    queue.push(*numbered(1, 2, 3))
    assert queue.filled == 3
    assert held(queue) == [1, 2, 3]


def test_the_oldest_keys_make_room() -> None:
    queue = Queue(5, 2)
    for batch, expected in (
        ((1, 2, 3), [1, 2, 3]),
        ((4, 5, 6), [2, 3, 4, 5, 6]),
        ((7,), [3, 4, 5, 6, 7]),
        ((8, 9, 10, 11), [7, 8, 9, 10, 11]),
    ):
        queue.push(*numbered(*batch))
        assert held(queue) == expected
    assert queue.filled == 5


@pytest.mark.parametrize("before", [0, 2, 4])
def test_of_more_keys_than_it_holds_a_queue_keeps_the_newest(before: int) -> None:
    queue = Queue(4, 2)
    if before:
        queue.push(*numbered(*range(1, before + 1)))
    queue.push(*numbered(*range(10, 21)))
    assert held(queue) == [17, 18, 19, 20]
    queue.push(*numbered(21))
    assert held(queue) == [18, 19, 20, 21]


def test_a_push_leaves_what_was_read_before_it_and_holds_no_graph() -> None:
    queue = Queue(2, 2)
    queue.push(*numbered(1, 2))
    keys, _, _ = queue.contents()
    queue.push(torch.ones(1, 2, requires_grad=True) * 3, ids(-1), ids(103))
    assert keys[:, 0].tolist() == [1, 2]
    assert not queue.contents()[0].requires_grad


def test_keys_tags_and_ids_of_different_numbers_are_an_error() -> None:
    with pytest.raises(ValueError, match="2 keys with 1 tags and 2 ids"):
        Queue(4, 2).push(torch.ones(2, 2), ids(1), ids(1, 2))
    with pytest.raises(ValueError, match="at least one key, not 0"):
        Queue(0, 2)


def test_a_restored_queue_is_the_same_to_the_bit_and_goes_on_the_same(tmp_path: Path) -> None:
    queue = Queue(4, 2)
    for batch in ((1, 2, 3), (4, 5, 6)):
        queue.push(*numbered(*batch))
    restored = Queue(4, 2)
    restored.load_state_dict(saved(queue, tmp_path))
    for next_one in (None, 7):
        if next_one:
            queue.push(*numbered(next_one))
            restored.push(*numbered(next_one))
        for ours, theirs in zip(queue.contents(), restored.contents(), strict=True):
            assert torch.equal(ours, theirs)
    assert held(restored) == [4, 5, 6, 7]


# The follower


def test_a_follower_moves_its_parameters_by_the_momentum_and_copies_buffers() -> None:
    online, target = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        online.weight.copy_(torch.tensor([3.0, 5]))
        target.weight.copy_(torch.tensor([1.0, 1]))
    assert online.running_mean is not None
    assert online.num_batches_tracked is not None
    online.running_mean.copy_(torch.tensor([7.0, 8]))
    online.num_batches_tracked.fill_(42)
    follow(target, online, 0.75)
    torch.testing.assert_close(target.weight.detach(), torch.tensor([1.5, 2]))
    assert target.running_mean is not None
    assert target.running_mean.tolist() == [7, 8]
    assert target.num_batches_tracked is not None
    assert int(target.num_batches_tracked) == 42
    assert online.weight.tolist() == [3, 5]


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_a_follower_copies_at_momentum_0_and_stands_still_at_1(momentum: float) -> None:
    torch.manual_seed(0)
    online, target = nn.Linear(30, 20), nn.Linear(30, 20)
    expected = copy.deepcopy(target if momentum else online)
    follow(target, online, momentum)
    assert torch.equal(target.weight, expected.weight)
    assert torch.equal(target.bias, expected.bias)
    assert target.weight.requires_grad


def test_a_follower_of_another_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        follow(nn.Linear(2, 2), nn.Linear(2, 2, bias=False), 0.9)
