"""The shop's pages: search, products, cart, checkout, orders. Server-rendered, no script, everything escaped.

Reading never changes the shop; a change is a POST that carries the token which the shop's own forms hold, from the shop's own
origin, within a size. Faults are pages with a status and a sentence. Nothing here serves a file.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from posttrain.environments.web.store import DELIVERIES, LONGEST, MOST, PER_PAGE, SORTS, Refused, Store

LARGEST_BODY = 8192
LONGEST_QUERY = 200
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}

Form = dict[str, str]
Handler = Callable[["Shop", Request], Awaitable[Response]]


class Shop:
    """The pages of one store. The token is new for every shop, so no form of another episode is accepted."""

    def __init__(self, store: Store) -> None:
        self.store, self.token = store, secrets.token_urlsafe(16)

    def page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        html = templates().get_template(template).render(token=self.token, **values)
        return HTMLResponse(html, status_code=status, headers=HEADERS)

    async def form(self, request: Request) -> Form:
        """The fields of a POST. Raises HTTPException for what none of our forms sends."""
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > LARGEST_BODY:
                raise HTTPException(413, "This is too much to send.")
        try:
            fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20, errors="strict"))
        except ValueError:
            raise HTTPException(400, "This form cannot be read.") from None
        origin = request.headers.get("origin")
        own = origin in (None, f"http://{request.headers.get('host', '')}")
        if not own or not secrets.compare_digest(fields.get("token", "").encode(), self.token.encode()):
            raise HTTPException(403, "This form was not sent from the shop.")
        return fields


@cache
def templates() -> Environment:
    place = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=place, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["money"] = lambda cents: f"${cents // 100}.{cents % 100:02}"
    environment.globals.update(deliveries=DELIVERIES, most=MOST, longest=LONGEST, sorts=tuple(SORTS))
    return environment


def application(store: Store) -> Starlette:
    shop = Shop(store)
    routes = [Route(path, partial(handler, shop), methods=[method]) for method, path, handler in PAGES]
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1"], www_redirect=False)],
        exception_handlers={HTTPException: partial(fault, shop), Refused: partial(refused, shop)},
    )


async def fault(shop: Shop, request: Request, error: HTTPException) -> Response:
    what = {404: "There is no such page.", 405: "This page cannot be used like that."}.get(error.status_code, error.detail)
    return shop.page("message.html", error.status_code, title=str(error.status_code), text=what)


async def refused(shop: Shop, request: Request, error: Refused) -> Response:
    return shop.page("message.html", 409, title="Not possible", text=str(error))


def number(text: str) -> int:
    """A whole number from a form or an address. Raises Refused for anything else, however long."""
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise Refused("A whole number is needed here.")
    return int(text)


async def home(shop: Shop, request: Request) -> Response:
    return shop.page("home.html", categories=shop.store.categories())


async def search(shop: Shop, request: Request) -> Response:
    asked = {name: request.query_params.get(name, "")[:LONGEST_QUERY] for name in ("q", "category", "sort")}
    page = number(request.query_params.get("page", "0"))
    found, total = shop.store.search(asked["q"], asked["category"], asked["sort"], page)
    shop.store.note("search", **asked)
    further = [("Previous page", page - 1)] * (page > 0) + [("Next page", page + 1)] * (PER_PAGE * (page + 1) < total)
    links = [(label, "/search?" + urlencode({**asked, "page": to})) for label, to in further]
    return shop.page("search.html", found=found, total=total, links=links, categories=shop.store.categories(), asked=asked)


async def product(shop: Shop, request: Request) -> Response:
    shown = shop.store.product(number(request.path_params["product"]))
    shop.store.note("view", product=shown["id"])
    return shop.page("product.html", product=shown)


async def cart(shop: Shop, request: Request) -> Response:
    lines = shop.store.cart()
    return shop.page("cart.html", lines=lines, total=sum(line["price"] * line["quantity"] for line in lines))


async def add(shop: Shop, request: Request) -> Response:
    form = await shop.form(request)
    shop.store.add(number(form.get("product", "")), number(form.get("quantity", "")))
    return RedirectResponse("/cart", 303)


async def change(shop: Shop, request: Request) -> Response:
    form = await shop.form(request)
    shop.store.change(number(form.get("product", "")), number(form.get("quantity", "")))
    return RedirectResponse("/cart", 303)


async def till(shop: Shop, request: Request) -> Response:
    lines = shop.store.cart()
    if not lines:
        raise Refused("The cart is empty.")
    return shop.page(
        "checkout.html", lines=lines, total=sum(line["price"] * line["quantity"] for line in lines), buyer=shop.store.buyer
    )


async def checkout(shop: Shop, request: Request) -> Response:
    form = await shop.form(request)
    shop.store.checkout(form.get("name", ""), form.get("city", ""), form.get("delivery", ""))
    return RedirectResponse("/orders", 303)


async def orders(shop: Shop, request: Request) -> Response:
    return shop.page("orders.html", orders=shop.store.orders())


async def cancel(shop: Shop, request: Request) -> Response:
    form = await shop.form(request)
    shop.store.cancel(number(form.get("order", "")))
    return RedirectResponse("/orders", 303)


PAGES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/", home),
    ("GET", "/search", search),
    ("GET", "/product/{product}", product),
    ("GET", "/cart", cart),
    ("POST", "/cart/add", add),
    ("POST", "/cart/change", change),
    ("GET", "/checkout", till),
    ("POST", "/checkout", checkout),
    ("GET", "/orders", orders),
    ("POST", "/orders/cancel", cancel),
)
