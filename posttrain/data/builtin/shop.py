"""Errands in a small web shop: order a product, find the one that fits, change the cart, cancel an order.

Options: kinds, products (how many the shop sells). A task carries its whole world in `metadata.shop`: the products, what lies in
the cart and which orders there are when the episode begins, and the state that must be reached (environments/web plays it). The
product an errand is about decides the split: no product of the test split is asked for in training, though it may stand in the
shop beside others. There is no answer in words: whether the errand was done is read from the shop's database.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from posttrain.data.builtin.problems import Option, Picked, Problem, TaskSet

COLOURS = ("black", "blue", "brown", "green", "grey", "orange", "purple", "red", "white", "yellow")
SERIES = (
    *("Alder", "Birch", "Cedar", "Dune", "Ember", "Fjord", "Grove", "Harbor", "Iris", "Juniper", "Kelp"),
    *("Lark", "Maple", "North", "Olive", "Pine", "Quartz", "Reef"),
)
CATEGORIES = ("backpack", "blanket", "chair", "clock", "lamp", "mug", "scarf", "teapot")
PEOPLE = ("Ada Park", "Ben Ruiz", "Chloe Meyer", "Dev Shah", "Eva Lind", "Finn Okoro", "Gia Rossi", "Hana Sato")
CITIES = ("Bergen", "Dublin", "Ghent", "Lisbon", "Malmo", "Porto", "Riga", "Turin")
BUYER = {"name": "Sam Hill", "city": "Leeds", "delivery": "standard"}
"""What the checkout page proposes, and so what an errand that says nothing of it leaves as it is."""

KINDS = ("order", "quantity", "find", "deliver", "cart", "remove", "cancel")
OPTIONS = {"kinds": Option(KINDS, KINDS), "products": Option((6, 12, 24, 48, 96), (12, 24))}

TASK = "{errand}\nUse the shop's pages. When it is done, say so in one sentence."

Product = dict[str, Any]
State = dict[str, Any]
"""`cart`: [product id, quantity] pairs in order of id; `orders`: each with lines, name, city, delivery and status."""

Errand = tuple[str, Product, State, State]
"""The sentence, the product it is about, the state at the start and the state to reach."""


def problem(stream: random.Random, picked: Picked) -> Problem:
    kind, count = stream.choice(picked["kinds"]), stream.choice(picked["products"])
    products = catalogue(stream, count)
    errand, product, start, goal = ERRANDS[kind](stream, products)
    names = ", ".join(f"{item['name']} {item['price']}" for item in products)
    return Problem(
        key=f"{errand} in {names}; {start}",
        question=TASK.format(errand=errand),
        answer=told(products, goal),
        steps="",
        slices={"kind": kind, "products": str(count)},
        metadata={"shop": {"products": products, "buyer": BUYER, **start, "goal": goal}},
        family=product["name"],
    )


def catalogue(stream: random.Random, count: int) -> list[Product]:
    """Different products with different prices: some share a category and a colour, so that the whole name must be read."""
    names: dict[str, tuple[str, str]] = {}
    while len(names) < count:
        colour, category = stream.choice(COLOURS), stream.choice(CATEGORIES)
        for _ in range(stream.choice((1, 1, 2))):
            names[f"{colour} {stream.choice(SERIES)} {category}"] = (category, colour)
    prices = stream.sample(range(5_00, 120_00, 5), count)
    return [
        {
            "id": number,
            "name": name,
            "category": category,
            "colour": colour,
            "price": price,
            "stock": stream.randint(5, 30),
        }
        for number, ((name, (category, colour)), price) in enumerate(zip(list(names.items())[:count], prices, strict=True), 1)
    ]


def state(cart: dict[int, int] | None = None, orders: list[dict[str, Any]] | None = None) -> State:
    return {"cart": [[product, quantity] for product, quantity in sorted((cart or {}).items())], "orders": orders or []}


def placed(product: Product, quantity: int = 1, status: str = "placed", **buyer: str) -> dict[str, Any]:
    return {"lines": [[product["id"], quantity]], **BUYER, **buyer, "status": status}


def order(stream: random.Random, products: list[Product]) -> Errand:
    product = stream.choice(products)
    return f"Order the {product['name']}.", product, state(), state(orders=[placed(product)])


def quantity(stream: random.Random, products: list[Product]) -> Errand:
    product, count = stream.choice(products), stream.randint(2, 5)
    return f"Order {count} pieces of the {product['name']}.", product, state(), state(orders=[placed(product, count)])


def find(stream: random.Random, products: list[Product]) -> Errand:
    """The cheapest or dearest of a category or colour; prices differ, so there is one."""
    by = stream.choice(("category", "colour"))
    value = stream.choice(products)[by]
    fitting = sorted((item for item in products if item[by] == value), key=lambda item: int(item["price"]))
    word, product = stream.choice((("cheapest", fitting[0]), ("most expensive", fitting[-1])))
    what = f"{value}" if by == "category" else f"{value} product"
    return f"Order the {word} {what} in the shop.", product, state(), state(orders=[placed(product)])


def deliver(stream: random.Random, products: list[Product]) -> Errand:
    product, name, city = stream.choice(products), stream.choice(PEOPLE), stream.choice(CITIES)
    errand = f"Order the {product['name']} for {name} in {city}, with express delivery."
    return errand, product, state(), state(orders=[placed(product, name=name, city=city, delivery="express")])


def filled(stream: random.Random, products: list[Product]) -> tuple[Product, dict[int, int]]:
    """A cart of two or three products, and the one of them that the errand is about."""
    picked = stream.sample(products, stream.choice((2, 3)))
    return picked[0], {item["id"]: stream.randint(1, 4) for item in picked}


def cart(stream: random.Random, products: list[Product]) -> Errand:
    product, before = filled(stream, products)
    count = stream.choice([number for number in range(1, 6) if number != before[product["id"]]])
    errand = f"Change the quantity of the {product['name']} in the cart to {count}. Order nothing."
    return errand, product, state(before), state({**before, product["id"]: count})


def remove(stream: random.Random, products: list[Product]) -> Errand:
    product, before = filled(stream, products)
    after = {item: count for item, count in before.items() if item != product["id"]}
    return f"Remove the {product['name']} from the cart. Order nothing.", product, state(before), state(after)


def cancel(stream: random.Random, products: list[Product]) -> Errand:
    picked = stream.sample(products, stream.choice((2, 3)))
    target = stream.randrange(len(picked))
    orders = [placed(item, stream.randint(1, 3)) for item in picked]
    after = [{**one, "status": "cancelled"} if number == target else one for number, one in enumerate(orders)]
    return f"Cancel the order of the {picked[target]['name']}.", picked[target], state(orders=orders), state(orders=after)


def told(products: list[Product], goal: State) -> str:
    """The state to reach in words, for reports."""
    names = {item["id"]: item["name"] for item in products}
    lines = [f"in the cart: {count} x {names[item]}" for item, count in goal["cart"]]
    for one in goal["orders"]:
        what = ", ".join(f"{count} x {names[item]}" for item, count in one["lines"])
        lines.append(f"{one['status']}: {what} for {one['name']} in {one['city']}, {one['delivery']}")
    return "; ".join(lines) or "an empty cart and no orders"


ERRANDS: dict[str, Callable[[random.Random, list[Product]], Errand]] = {
    "order": order,
    "quantity": quantity,
    "find": find,
    "deliver": deliver,
    "cart": cart,
    "remove": remove,
    "cancel": cancel,
}

SET = TaskSet("shop", "shop", OPTIONS, problem, ())
