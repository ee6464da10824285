"""Faults to order: add, show, remove."""

from typing import Any

import msgspec
from fastapi import APIRouter

from sft_local.faults import Order, Rule
from sft_local.vertex import Body, VertexHere
from sft_local.wire import ApiError

router = APIRouter()


@router.post("/faults")
def order(body: Body, vertex: VertexHere) -> list[dict[str, Any]]:
    """Adds rules: a JSON list of them, or `{"rules": […], "seed": 7}`."""
    try:
        wanted: Order | list[Rule] = msgspec.json.decode(body, type=Order | list[Rule])
    except msgspec.MsgspecError as error:
        raise ApiError("INVALID_ARGUMENT", f"Invalid faults: {error}.") from None
    vertex.faults.order(wanted if isinstance(wanted, Order) else Order(wanted))
    return show(vertex)


@router.get("/faults")
def show(vertex: VertexHere) -> list[dict[str, Any]]:
    """The rules, with how often each has happened."""
    found: list[dict[str, Any]] = msgspec.to_builtins(vertex.faults.rules)
    return found


@router.delete("/faults")
def clear(vertex: VertexHere) -> dict[str, Any]:
    """Removes every rule; tells which there were, and how often each had happened."""
    removed = show(vertex)
    vertex.faults.clear()
    return {"removed": removed}
