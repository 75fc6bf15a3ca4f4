"""The shop's state: one SQLite database an episode, in memory, and an audit log of everything that was done.

No file and no address leads to it: pages reach it through the functions below, the grader through `state` and `log`, and what a
model writes arrives as a bound parameter. A rule of the shop that is broken (no stock, an empty cart) is a `Refused` with the
sentence that the page shows. Assumes one thread, the event loop's.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

DELIVERIES = ("standard", "express", "pickup")
MOST = 99
LONGEST = 60
PER_PAGE = 8
SORTS = {"name": "name", "cheapest": "price", "dearest": "price DESC"}

SCHEMA = """
CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT, category TEXT, colour TEXT, price INTEGER, stock INTEGER);
CREATE TABLE cart (product INTEGER PRIMARY KEY, quantity INTEGER);
CREATE TABLE placed (id INTEGER PRIMARY KEY, name TEXT, city TEXT, delivery TEXT, status TEXT);
CREATE TABLE line (placed INTEGER, product INTEGER, quantity INTEGER);
CREATE TABLE audit (id INTEGER PRIMARY KEY, action TEXT, detail TEXT);
"""


class Refused(Exception):
    """The shop does not do this; the text is for the visitor."""


class Store:
    """One episode's shop. `world` is a task's `metadata.shop`. Raises KeyError or ValueError where that is not a shop."""

    def __init__(self, world: Mapping[str, Any]) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.executescript(SCHEMA)
        self.buyer = {name: str(world["buyer"][name]) for name in ("name", "city", "delivery")}
        for product in world["products"]:
            columns = {name: product[name] for name in ("id", "name", "category", "colour", "price", "stock")}
            self.db.execute("INSERT INTO product VALUES (:id, :name, :category, :colour, :price, :stock)", columns)
        self.restore(world)

    def restore(self, world: Mapping[str, Any]) -> None:
        for product, quantity in world["cart"]:
            self.db.execute("INSERT INTO cart VALUES (?, ?)", (product, quantity))
        for one in world["orders"]:
            self.insert(one["name"], one["city"], one["delivery"], one["lines"], one["status"])

    def insert(self, name: str, city: str, delivery: str, lines: list[list[int]], status: str) -> int:
        row = "INSERT INTO placed (name, city, delivery, status) VALUES (?, ?, ?, ?)"
        number = self.db.execute(row, (name, city, delivery, status)).lastrowid
        self.db.executemany("INSERT INTO line VALUES (?, ?, ?)", [(number, product, count) for product, count in lines])
        return int(number or 0)

    @contextmanager
    def audited(self, action: str, **detail: Any) -> Iterator[None]:
        """A change and its line in the log, both or neither."""
        self.db.execute("BEGIN")
        try:
            yield
            self.note(action, **detail)
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def note(self, action: str, **detail: Any) -> None:
        self.db.execute("INSERT INTO audit (action, detail) VALUES (?, ?)", (action, json.dumps(detail, ensure_ascii=False)))

    # -------------------------------------------------------------------------------------------- what pages read

    def categories(self) -> list[str]:
        return [row[0] for row in self.db.execute("SELECT DISTINCT category FROM product ORDER BY category")]

    def search(self, words: str, category: str, sort: str, page: int) -> tuple[list[sqlite3.Row], int]:
        """Products whose name holds every word, one page of them, and how many there are in all."""
        terms = words.split()[:10]
        where = " AND ".join(["(? = '' OR category = ?)", *("name LIKE ? ESCAPE '\\'" for _ in terms)])
        values = [category, category, *(f"%{escaped(term)}%" for term in terms)]
        total = self.db.execute(f"SELECT COUNT(*) FROM product WHERE {where}", values).fetchone()[0]
        order = SORTS.get(sort, "name")
        rows = f"SELECT * FROM product WHERE {where} ORDER BY {order}, id LIMIT ? OFFSET ?"
        return self.db.execute(rows, [*values, PER_PAGE, PER_PAGE * page]).fetchall(), total

    def product(self, number: int) -> sqlite3.Row:
        row = self.db.execute("SELECT * FROM product WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise Refused("There is no such product.")
        return row  # type: ignore[no-any-return]

    def cart(self) -> list[sqlite3.Row]:
        joined = "SELECT product.*, quantity FROM cart JOIN product ON product.id = cart.product ORDER BY product.id"
        return self.db.execute(joined).fetchall()

    def orders(self) -> list[dict[str, Any]]:
        """All orders with their lines, in the order they were placed."""
        found = [dict(row) for row in self.db.execute("SELECT * FROM placed ORDER BY id")]
        joined = (
            "SELECT product, name, price, quantity FROM line JOIN product ON product.id = product WHERE placed = ? ORDER BY product"
        )
        return [{**one, "lines": self.db.execute(joined, (one["id"],)).fetchall()} for one in found]

    # -------------------------------------------------------------------------------------------- what pages change

    def add(self, number: int, quantity: int) -> None:
        before = next((row["quantity"] for row in self.cart() if row["id"] == number), 0)
        self.in_stock(self.product(number), quantity, before)
        with self.audited("add", product=number, quantity=quantity):
            change = "INSERT INTO cart VALUES (?, ?) ON CONFLICT (product) DO UPDATE SET quantity = quantity + excluded.quantity"
            self.db.execute(change, (number, quantity))

    def change(self, number: int, quantity: int) -> None:
        """Set the quantity of what lies in the cart; 0 takes it out."""
        if number not in {row["id"] for row in self.cart()}:
            raise Refused("This product is not in the cart.")
        if quantity:
            self.in_stock(self.product(number), quantity)
        with self.audited("change", product=number, quantity=quantity):
            if quantity:
                self.db.execute("UPDATE cart SET quantity = ? WHERE product = ?", (quantity, number))
            else:
                self.db.execute("DELETE FROM cart WHERE product = ?", (number,))

    def checkout(self, name: str, city: str, delivery: str) -> int:
        """Order what lies in the cart; the order's number."""
        lines = [[row["id"], row["quantity"]] for row in self.cart()]
        if not lines:
            raise Refused("The cart is empty.")
        if delivery not in DELIVERIES:
            raise Refused(f"Delivery is one of {', '.join(DELIVERIES)}.")
        name, city = " ".join(name.split()), " ".join(city.split())
        if not (0 < len(name) <= LONGEST and 0 < len(city) <= LONGEST):
            raise Refused(f"Name and city have 1 to {LONGEST} characters.")
        for product, quantity in lines:
            self.in_stock(self.product(product), quantity)
        with self.audited("checkout", name=name, city=city, delivery=delivery):
            number = self.insert(name, city, delivery, lines, "placed")
            for product, quantity in lines:
                self.db.execute("UPDATE product SET stock = stock - ? WHERE id = ?", (quantity, product))
            self.db.execute("DELETE FROM cart")
        return number

    def cancel(self, number: int) -> None:
        row = self.db.execute("SELECT status FROM placed WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise Refused("There is no such order.")
        if row["status"] != "placed":
            raise Refused("This order is cancelled already.")
        with self.audited("cancel", order=number):
            self.db.execute("UPDATE placed SET status = 'cancelled' WHERE id = ?", (number,))

    def in_stock(self, product: sqlite3.Row, quantity: int, before: int = 0) -> None:
        if not 1 <= quantity <= MOST:
            raise Refused(f"The quantity is a whole number from 1 to {MOST}.")
        if quantity + before > product["stock"]:
            raise Refused(f"Only {product['stock']} pieces are in stock.")

    # -------------------------------------------------------------------------------------------- what the grader reads

    def state(self) -> dict[str, Any]:
        """The cart and the orders as plain data, in the form of a task's goal."""
        orders = [
            {
                "lines": [[line["product"], line["quantity"]] for line in one["lines"]],
                **{column: one[column] for column in ("name", "city", "delivery", "status")},
            }
            for one in self.orders()
        ]
        return {"cart": [[row["id"], row["quantity"]] for row in self.cart()], "orders": orders}

    def log(self) -> list[tuple[str, dict[str, Any]]]:
        return [(row["action"], json.loads(row["detail"])) for row in self.db.execute("SELECT * FROM audit ORDER BY id")]

    def close(self) -> None:
        self.db.close()


def escaped(term: str) -> str:
    """A word of a search as LIKE takes it literally."""
    return term.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
