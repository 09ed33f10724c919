"""Embeddings and scores: from a job's inputs to its token events, one each, some inputs at a time. Knows no HTTP.

Strategy: everything is counted before anything is computed, so that what does not fit is refused as a whole, and an
attempt that takes over counts what an earlier one has read too. Then the engine gets the inputs in groups: small enough
that a cancellation does not wait long, large enough that the way there does not count.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from msgspec import UNSET

from llorch import errors
from llorch.wire.codec import FieldProblem, invalid
from llorch.wire.embedding import score_line, unable, vector_line
from llorch.wire.events import StopReason
from llorch.wire.workers import Execute
from roles.worker.backend import Embedding, Engine, ModelFacts, Prompt
from roles.worker.inference.generation import Tally
from roles.worker.inference.job import Job, Piece

GROUP_INPUTS = 16
GROUP_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Work:
    """What a job has to do: how many tokens each of its inputs is, and what makes the lines of some of them."""

    sizes: Sequence[int]
    compute: Callable[[slice], Awaitable[list[str]]]

    @property
    def count(self) -> int:
        """Tokens of all inputs."""
        return sum(self.sizes)


def check_able(request: Execute, model: ModelFacts) -> None:
    """Refuse what the model was not made for.

    Raises:
        InvalidRequest: The model cannot do it.
    """
    if problems := unable(request, model.can):
        raise invalid(problems)


async def planned(engine: Engine, model: ModelFacts, request: Execute) -> Work:
    """Return what a job with inputs has to do.

    Raises:
        InvalidRequest: An input has no room in the context and is not to be cut, or has tokens that the model lacks.
    """
    assert isinstance(engine, Embedding)
    if request.rerank is not UNSET:
        query, documents = request.rerank.query, list(request.rerank.documents)
        sizes = [await engine.pair_size(query, document) for document in documents]
        for index, size in enumerate(sizes):
            if request.truncate and size > model.context_length:
                documents[index], sizes[index] = await _cut(engine, query, documents[index], model.context_length)
        _check_sizes("rerank.documents", sizes, model.context_length)

        async def score(part: slice) -> list[str]:
            return [score_line(found) for found in await engine.rank(query, documents[part])]

        return Work(sizes, score)
    assert request.input is not UNSET
    inputs = [await _tokens(engine, index, given, model) for index, given in enumerate(request.input)]
    if request.truncate and any(len(tokens) > model.context_length for tokens in inputs):
        end = (await engine.tokenize(Prompt()))[-1:]
        inputs = [fitting(tokens, model.context_length, end) for tokens in inputs]
    sizes = [len(tokens) for tokens in inputs]
    _check_sizes("input", sizes, model.context_length)

    async def embed(part: slice) -> list[str]:
        return [vector_line(vector) for vector in await engine.embed(inputs[part])]

    return Work(sizes, embed)


async def write_lines(job: Job, work: Work, tally: Tally, *, first: int) -> StopReason:
    """Write one event for each input of *job* from number *first* on; return why it is over.

    A reader who does not keep up is waited for: what has not been computed yet takes no memory.
    """
    for part in groups(work.sizes, first):
        lines = await work.compute(part)
        if len(lines) != part.stop - part.start:
            raise errors.EngineFailed("the engine did not answer for each input")
        if tally.first_token_s is None:
            tally.first_token_s = time.monotonic()
        job.add([Piece(line, [], "") for line in lines])
        await job.room()
    return "eos"


def groups(sizes: Sequence[int], first: int) -> Iterator[slice]:
    """Yield which inputs are given to the engine at once, from number *first* on."""
    start, tokens = first, 0
    for index in range(first, len(sizes)):
        if index > start and (index - start == GROUP_INPUTS or tokens + sizes[index] > GROUP_TOKENS):
            yield slice(start, index)
            start, tokens = index, 0
        tokens += sizes[index]
    if start < len(sizes):
        yield slice(start, len(sizes))


def fitting(tokens: list[int], limit: int, end: Sequence[int]) -> list[int]:
    """Return the beginning of *tokens* that has at most *limit*, with what ends every text still at its end."""
    if len(tokens) <= limit:
        return tokens
    kept = list(end) if end and tokens[-len(end) :] == list(end) else []
    return tokens[: limit - len(kept)] + kept


async def _tokens(engine: Engine, index: int, given: str | list[int], model: ModelFacts) -> list[int]:
    if isinstance(given, str):
        return await engine.tokenize(Prompt(text=given))
    if max(given) >= model.vocab_size:
        raise invalid([FieldProblem(f"input[{index}]", f"the model has only {model.vocab_size} tokens")])
    return given


async def _cut(engine: Embedding, query: str, document: str, limit: int) -> tuple[str, int]:
    """Return the longest beginning of a document that fits, and how many tokens it is behind the query.

    Where the query alone does not fit, that is the empty one, which is too long too.
    """
    fits, too_long = 0, len(document)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if await engine.pair_size(query, document[:middle]) <= limit:
            fits = middle
        else:
            too_long = middle
    return document[:fits], await engine.pair_size(query, document[:fits])


def _check_sizes(field: str, sizes: Sequence[int], limit: int) -> None:
    problems = [
        FieldProblem(f"{field}[{index}]", f"it has {size} tokens; the context holds {limit}: shorten or truncate it")
        for index, size in enumerate(sizes)
        if size > limit
    ]
    if problems:
        raise invalid(problems)
