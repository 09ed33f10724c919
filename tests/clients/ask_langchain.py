"""Asks a running llorch with LangChain's chat model, in an environment of its own; prints what it got as one object."""

from __future__ import annotations

import json
import os
import sys
from functools import reduce
from operator import add

import openai
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

url, model, scribe = sys.argv[1:]
asked = HumanMessage("Write a haiku about rain")


class Place(BaseModel):
    """What LangChain makes a schema of, and puts the answer into."""

    city: str = Field(max_length=9)
    days: int = Field(ge=1, le=9)


@tool
def get_weather(city: str, days: int) -> str:
    """Tell the weather."""
    return f"rain in {city} for {days} days"


def chat(name: str, key: str = os.environ["LLORCH_API_TOKEN"], **fields: object) -> ChatOpenAI:
    """Return LangChain's model of that name."""
    return ChatOpenAI(model=name, base_url=f"{url}/v1", api_key=key, max_retries=0, **fields)


def refused(made: ChatOpenAI) -> list[object] | None:
    """Return which of OpenAI's errors the model's call ends with: LangChain's own are kinds of them."""
    try:
        made.invoke([asked])
    except openai.APIStatusError as error:
        kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__.partition(".")[0] == "openai"]
        return [kinds[0], error.status_code]
    return None


def fits_not(made: ChatOpenAI, *, streamed: bool) -> bool:
    """Tell whether LangChain knows the refusal of a prompt that is too long for what it is."""
    long = [HumanMessage("x " * 700)]
    try:
        list(made.stream(long)) if streamed else made.invoke(long)
    except ContextOverflowError:
        return True
    return False


unloaded = fits_not(chat(model), streamed=True)
cold = chat(model, temperature=0)
whole = cold.invoke([asked])
streamed = reduce(add, cold.stream([asked], stream_usage=True))
wanting = chat(scribe).bind_tools([get_weather])
called = reduce(add, wanting.stream([asked]))
answers = [ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]) for call in called.tool_calls]
again = wanting.invoke([asked, called, *answers])
place = chat(model).with_structured_output(Place, method="json_schema").invoke([asked])
forced = chat(model).bind_tools([Place], tool_choice="Place", strict=True).invoke([asked])
print(
    json.dumps(
        {
            "whole": whole.text,
            "streamed": streamed.text,
            "usage": [whole.usage_metadata["total_tokens"], streamed.usage_metadata["total_tokens"]],
            "calls": [[call["name"], call["args"]] for call in called.tool_calls],
            "answers": [answer.content for answer in answers],
            "again": [call["name"] for call in again.tool_calls],
            "place": place.model_dump(),
            "forced": [[call["name"], sorted(call["args"])] for call in forced.tool_calls],
            "unknown": refused(chat("haik")),
            "hot": refused(chat(model, temperature=3)),
            "long": [unloaded, *(fits_not(chat(model), streamed=each) for each in (False, True))],
            "stranger": refused(chat(model, key="wrong")),
        }
    )
)
