"""Whether a submission is accepted, and as what. Pure; takes less than a millisecond."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from msgspec import UNSET

from llorch.errors import Draining, InvalidRequest, QueueFull
from llorch.wire.codec import FieldProblem, encode, invalid
from llorch.wire.conversation import image_problems, images_of
from llorch.wire.embedding import kind_of, unable
from llorch.wire.images import MAX_IMAGES
from llorch.wire.pools import Model
from llorch.wire.tasks import SubmitTask

MIN_RETRY_AFTER_S = 1
MAX_RETRY_AFTER_S = 3_600
TEMPLATE_BYTES_PER_MESSAGE = 64
"""Allowed for what a chat template puts around a message, when a prompt is judged by its bytes alone."""

TEMPLATE_FACTOR = 4
"""Allowed for how much longer a template writes tools and calls of them than they are as JSON."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """What admission must know of the queue."""

    waiting: int
    capacity: int
    finished_per_s: float
    draining: bool


@dataclass(frozen=True, slots=True)
class Fit:
    """What is certain about a prompt and a context before anything counts its tokens."""

    least_tokens: int
    certainly_fits: bool


def admit(task: SubmitTask, queue: QueueState, model: Model | None, *, sees: bool = False) -> Fit:
    """Refuse what cannot be served; tell what is still to be checked.

    Args:
        task: The submission, each field already checked on its own.
        queue: The queue now.
        model: What a pool knows of the model's file; None when no pool has told yet. A context, or a longest token, of
            0 is not known, and refuses nothing.
        sees: Whether its workers read pictures.

    Raises:
        Draining: The orchestrator is shutting down.
        QueueFull: With a `Retry-After` from the rate at which jobs are finished.
        InvalidRequest: The model was not made for that, or reads no pictures, more tokens asked for than the context
            has, or a prompt that cannot fit it.
    """
    if queue.draining:
        raise Draining("the orchestrator is shutting down; submit again when it is back", retry_after_s=5)
    if 0 <= queue.capacity <= queue.waiting:
        raise QueueFull(
            f"the queue is full: {queue.waiting} of {queue.capacity} places are taken; try again later",
            details={"waiting": queue.waiting, "capacity": queue.capacity},
            retry_after_s=retry_after_s(queue),
        )
    images = images_of(task.messages)
    if images and not sees:
        raise invalid(image_problems(task.messages, "the model has no projector, and reads text alone"))
    if len(images) > MAX_IMAGES:
        raise invalid([FieldProblem("messages", f"{len(images)} pictures are more than {MAX_IMAGES}")])
    if model is None:
        return Fit(0, certainly_fits=False)
    if problems := [*unable(task, model.capabilities), *_long_inputs(task, model.context_length)]:
        raise invalid(problems)
    if kind_of(task) != "text-gen":
        return Fit(0, certainly_fits=True)  # as far as bytes tell: a word that the model does not know is one token
    context = model.context_length
    if context and task.max_tokens is not UNSET and task.max_tokens > context:
        raise invalid([FieldProblem("max_tokens", f"{task.max_tokens} is more than the model's context of {context}")])
    text_bytes, overhead = prompt_bytes(task)
    least = -(-text_bytes // model.max_token_bytes) if model.max_token_bytes else 0
    if least >= context > 0:
        raise too_long(least, context, exact=False)
    fits = text_bytes + overhead < context and not images
    return Fit(least, certainly_fits=fits)


def _long_inputs(task: SubmitTask, context: int) -> list[FieldProblem]:
    if task.input is UNSET or task.truncate or not context:
        return []
    sizes = [len(each) if isinstance(each, list) else 0 for each in task.input]
    problem = "tokens are more than the context of"
    return [
        FieldProblem(f"input[{n}]", f"{size} {problem} {context}") for n, size in enumerate(sizes) if size > context
    ]


def too_long(tokens: int, context: int, *, exact: bool) -> InvalidRequest:
    """Build the refusal of a prompt that does not fit."""
    amount = f"{tokens}" if exact else f"at least {tokens}"
    problem = f"the prompt is {amount} tokens long, the context of the model is {context}, and one must be left"
    return InvalidRequest(
        f"the request is not valid: {problem}",
        details={
            "fields": [{"field": "prompt", "problem": problem}],
            "prompt_tokens": tokens,
            "context_length": context,
            **({} if exact else {"exact": False}),
        },
    )


def retry_after_s(queue: QueueState) -> int:
    """Estimate when a place will be free: after a tenth of the queue, at the measured rate."""
    if queue.finished_per_s <= 0:
        return 10 * MIN_RETRY_AFTER_S
    wait = queue.waiting / 10 / queue.finished_per_s
    return max(MIN_RETRY_AFTER_S, min(MAX_RETRY_AFTER_S, round(wait)))


def prompt_bytes(task: SubmitTask) -> tuple[int, int]:
    """Return the bytes of the text, and an upper bound for what is put around it."""
    if task.messages is UNSET:
        return (0 if task.prompt is UNSET else len(task.prompt.encode())), 2
    text = sum(len(message.text.encode()) for message in task.messages)
    calls = [message.tool_calls for message in task.messages if message.tool_calls is not UNSET]
    told = len(encode([calls, task.tools or []])) if calls or task.tools else 0
    return text, TEMPLATE_BYTES_PER_MESSAGE * (len(task.messages) + 1) + TEMPLATE_FACTOR * told


def prompt_sha256(task: SubmitTask) -> str:
    """Return the hash that stays when the prompt is gone: of the text, or of what there is else as compact JSON."""
    if task.prompt is not UNSET:
        text = task.prompt.encode()
    else:
        text = encode(next(each for each in (task.messages, task.input, task.rerank) if each is not UNSET))
    return hashlib.sha256(text).hexdigest()
