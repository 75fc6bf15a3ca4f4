"""The grade of an episode in the shop: is the cart, and are the orders, as the task asks, and nothing else changed?

Read from the database in this process, never over HTTP and never from a page, so no text that a model writes can claim it. The
goal is the whole state, which is why an order too many, or one placed and cancelled again, fails. The audit log, played again
on a fresh shop, must give the same state; if not, somebody wrote past the shop's rules and the grade is an error.
`parts` say how far an episode came, for diagnosis; the score is 1 or 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posttrain.core.types import Grade
from posttrain.environments.web.store import Refused, Store

CHANGES = ("add", "change", "checkout", "cancel")


def judge(store: Store, world: Mapping[str, Any]) -> Grade:
    state, goal = store.state(), {"cart": world["goal"]["cart"], "orders": world["goal"]["orders"]}
    if replayed(store, world) != state:
        return Grade.error("the shop's state does not follow from its audit log")
    done = state == goal
    actions = [action for action, _ in store.log()]
    parts = {
        "changed something": float(any(action in CHANGES for action in actions)),
        "cart as asked": float(state["cart"] == goal["cart"]),
        "orders as asked": float(state["orders"] == goal["orders"]),
    }
    wrong = [what for what in ("cart", "orders") if state[what] != goal[what]]
    explanation = "done as asked" if done else f"the {' and the '.join(wrong)} {'are' if 'orders' in wrong else 'is'} not as asked"
    return Grade(float(done), passed=done, answer=told(state), explanation=explanation, parts=parts)


def replayed(store: Store, world: Mapping[str, Any]) -> dict[str, Any] | None:
    """The state that the log's changes give on a fresh shop, None if they break its rules."""
    fresh = Store(world)
    try:
        for action, detail in store.log():
            match action:
                case "add":
                    fresh.add(detail["product"], detail["quantity"])
                case "change":
                    fresh.change(detail["product"], detail["quantity"])
                case "checkout":
                    fresh.checkout(detail["name"], detail["city"], detail["delivery"])
                case "cancel":
                    fresh.cancel(detail["order"])
        return fresh.state()
    except Refused:
        return None
    finally:
        fresh.close()


def told(state: Mapping[str, Any]) -> str:
    """The state in a line, as a record of what was reached."""
    cart = [f"{quantity} of product {product}" for product, quantity in state["cart"]]
    orders = [
        f"{one['status']}: {', '.join(f'{quantity} of product {product}' for product, quantity in one['lines'])}"
        f" for {one['name']} in {one['city']}, {one['delivery']}"
        for one in state["orders"]
    ]
    return "; ".join([*(["in the cart: " + ", ".join(cart)] if cart else []), *orders]) or "an empty cart and no orders"
