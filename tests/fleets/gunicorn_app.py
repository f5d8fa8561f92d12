"""The shop on the web: /ask/tea tells what tea costs, /raise/tea makes it dearer. Who imports this used the cache."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.fleets import shop
from tests.patience import be_patient

be_patient()

PAGES: Mapping[str, Callable[[str], Any]] = {"ask": shop.ask, "price": shop.price, "raise": shop.raise_price}


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """A WSGI application: which worker answers, and what."""
    page, item = environ["PATH_INFO"].strip("/").split("/")
    body = json.dumps([os.getpid(), PAGES[page](item)]).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


shop.price("warm")
