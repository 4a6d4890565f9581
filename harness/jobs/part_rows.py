"""Which samples a part of a block has: a shard, or a round of samples."""

from typing import TYPE_CHECKING

from harness.errors import UserError

if TYPE_CHECKING:  # a plan needs no stage, nor the modules that make one
    from harness.engine.stage import Stage

FIRST_ROUND = 20  # samples


class NoSamplesLeft(Exception):
    """A round would begin after the last sample."""


def rows_of_shard(stage: "Stage", number: int, count: int) -> range:
    """The samples of one of ``count`` shards of a stage; UserError where there are fewer batches than shards.

    A shard begins at a multiple of the samples that are scored together, so that every pass of the model has the
    samples that it has in the whole stage. Where there are fewer such multiples than shards, it begins at a multiple of
    those that are explained together.
    """
    at_once = stage.chunk_size
    if -(-stage.count // at_once) < count:
        at_once = stage.protocol.explain_batch
    check_shards(count, stage.count, stage.protocol.explain_batch)
    batches = -(-stage.count // at_once)
    first, last = (each * batches // count * at_once for each in (number, number + 1))
    return range(first, min(last, stage.count))


def check_shards(count: int, samples: int, explain_batch: int) -> None:
    """UserError if so many samples cannot be cut into ``count`` shards: there are fewer batches than shards."""
    batches = -(-samples // explain_batch)
    if batches < count:
        raise UserError(
            f"runtime.shards is {count}, expected at most {batches}: there are {samples} samples, of which "
            f"{explain_batch} are explained together (protocol.explain_batch)"
        )


def rows_of_round(stage: "Stage", number: int) -> range:
    """The samples of a round: the first has ``FIRST_ROUND``, and every other one as many as all before it together.

    NoSamplesLeft if there are none.
    """
    at_once = stage.protocol.explain_batch
    first = round_end(number - 1, at_once) if number else 0
    if first >= stage.count:
        raise NoSamplesLeft
    return range(first, min(round_end(number, at_once), stage.count))


def round_end(number: int, explain_batch: int) -> int:
    """The number of samples of all rounds up to this one, if there are so many: a multiple of ``explain_batch``."""
    return -(-FIRST_ROUND * 2**number // explain_batch) * explain_batch
