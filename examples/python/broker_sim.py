"""Meets a broker that fails on request with the official Python SDK, unmodified: only the address and the key are ours.

    make broker-sim
    BROKER_URL=http://127.0.0.1:8090 python examples/python/broker_sim.py
"""

import json
import os
import threading
import time
import urllib.request
import uuid

import requests
from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, OrderStatus, QueryOrderStatus, TimeInForce
from alpaca.trading.requests import (
    ClosePositionRequest,
    GetCalendarRequest,
    GetOrdersRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    ReplaceOrderRequest,
)
from alpaca.trading.stream import TradingStream

URL = os.environ.get("BROKER_URL", "http://127.0.0.1:8090")
KEY, SECRET = os.environ.get("APCA_API_KEY_ID", "sim-key"), os.environ.get("APCA_API_SECRET_KEY", "sim-secret")


def operate(method: str, path: str, body: dict | None = None) -> dict:
    """An operator's call of the broker. It needs no key."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(URL + path, data=data, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read() or b"{}")


def eventually(what: str, look, limit_s: float = 20.0):
    """What `look` answers as soon as it answers something."""
    until = time.monotonic() + limit_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > until:
            raise SystemExit(f"{what}: not within {limit_s:.0f} s")
        time.sleep(0.05)


def refused(call) -> APIError:
    try:
        call()
    except APIError as error:
        return error
    raise SystemExit("the call should have been refused")


def market(side=OrderSide.BUY, qty=2.0, key=None) -> MarketOrderRequest:
    return MarketOrderRequest(
        symbol="AAPL", qty=qty, side=side, time_in_force=TimeInForce.DAY, client_order_id=key or f"sdk-{uuid.uuid4()}"
    )


def limit(price: float, key=None) -> LimitOrderRequest:
    return LimitOrderRequest(
        symbol="AAPL",
        qty=3,
        side=OrderSide.BUY,
        time_in_force=TimeInForce.DAY,
        limit_price=price,
        client_order_id=key or f"sdk-{uuid.uuid4()}",
    )


def main() -> None:
    client = TradingClient(KEY, SECRET, url_override=URL)
    stream = TradingStream(KEY, SECRET, url_override=URL.replace("http", "ws", 1) + "/stream")
    updates = []

    async def on_update(update) -> None:
        updates.append(update)

    stream.subscribe_trade_updates(on_update)
    threading.Thread(target=stream.run, daemon=True).start()

    def told(order_id, word: str):
        return [one for one in updates if one.order.id == order_id and getattr(one.event, "value", one.event) == word]

    print(f"clock      open={client.get_clock().is_open}; {len(client.get_calendar(GetCalendarRequest()))} days")
    before = client.get_account()
    print(f"account    {before.status.value}, cash {before.cash} {before.currency}")
    print(f"assets     {len(client.get_all_assets())}, among them {client.get_asset('AAPL').name}")

    # The SDK does not say when it listens, so an order is placed and cancelled until one is seen.
    def probe():
        client.cancel_order_by_id(client.submit_order(limit(1.0)).id)
        time.sleep(0.3)
        return updates

    eventually("the stream", probe)

    key = f"sdk-{uuid.uuid4()}"
    bought = client.submit_order(market(key=key))
    assert client.get_order_by_client_id(key).id == bought.id
    bought = eventually("the fill", lambda: (o := client.get_order_by_id(bought.id)).status == OrderStatus.FILLED and o)
    eventually("the update of the fill", lambda: told(bought.id, "fill"))
    error = refused(lambda: client.submit_order(market(key=key)))
    assert (error.status_code, error.code) == (422, 40010001), error
    print(f"bought     {bought.filled_qty} at {bought.filled_avg_price}; the same key again: {error.message}")

    # A reply is lost. The SDK raises, and the order is there all the same.
    key = f"lost-{uuid.uuid4()}"
    operate("POST", "/sim/v1/faults", {"client_order_id": key, "fault": "drop_reply"})
    try:
        client.submit_order(market(key=key))
        raise SystemExit("the reply was to be lost")
    except requests.exceptions.ConnectionError:
        found = client.get_order_by_client_id(key)
    print(f"lost reply the SDK raises, and the broker has the order: {found.status.value}")

    # An order that is taken but shows only later: "none" is no proof.
    key = f"late-{uuid.uuid4()}"
    operate("POST", "/sim/v1/faults", {"client_order_id": key, "fault": "record_late", "delay_ms": 1000})
    try:
        client.submit_order(market(key=key))
        raise SystemExit("the reply was to be lost")
    except requests.exceptions.ConnectionError:
        error = refused(lambda: client.get_order_by_client_id(key))
    assert error.status_code == 404

    def shown():
        try:
            return client.get_order_by_client_id(key)
        except APIError:
            return None

    print(f"recorded   none at first, then {eventually('the record', shown).status.value}")

    # Every answer to an order is an error for a second, although it was taken.
    operate("POST", "/sim/v1/faults", {"fault": "error_after_effect", "until_ms": 1000, "delay_ms": 0})
    key = f"error-{uuid.uuid4()}"
    error = refused(lambda: client.submit_order(market(key=key)))
    assert error.status_code == 500 and client.get_order_by_client_id(key)
    time.sleep(1)
    client.submit_order(market())
    print(f"span       {error.status_code} for a second, with the order taken")

    # A replacement, a cancel, a list, positions.
    resting = client.submit_order(limit(1.0))
    replaced = client.replace_order_by_id(resting.id, ReplaceOrderRequest(qty=5, limit_price=1.5))
    assert replaced.replaces == resting.id and float(replaced.qty) == 5
    eventually("the replacement", lambda: told(resting.id, "replaced"))
    open_orders = client.get_orders(GetOrdersRequest(status=QueryOrderStatus.OPEN, nested=True))
    assert [order.id for order in open_orders] == [replaced.id], open_orders
    client.cancel_orders()
    eventually("the cancel", lambda: told(replaced.id, "canceled"))
    position = client.get_open_position("AAPL")
    closing = client.close_position("AAPL", ClosePositionRequest(qty="1"))
    eventually("the sale", lambda: client.get_order_by_id(closing.id).status == OrderStatus.FILLED)
    left = client.get_open_position("AAPL").qty
    assert float(left) == float(position.qty) - 1
    print(f"replaced   {resting.id} by {replaced.id}; position {position.qty}, then {left}")

    # Trades are taken back.
    busted = operate("POST", "/sim/v1/busts", {"client_order_id": key})["busted"]
    order = client.get_order_by_client_id(key)
    eventually("the bust", lambda: told(order.id, "trade_bust"))
    assert float(order.filled_qty) == 0
    print(f"busted     {busted} trade: the order shows {order.filled_qty} filled")

    poor = refused(lambda: client.submit_order(market(qty=900000)))
    assert (poor.status_code, poor.code) == (403, 40310000), poor
    print(f"refused    {poor.code} {poor.message}")

    # What was asked for did happen.
    kinds = operate("GET", "/sim/v1/oracle/faults")["kinds"]
    for kind in ("drop_reply", "record_late", "error_after_effect"):
        assert kinds[kind]["hits"] == kinds[kind]["armed"] > 0, kinds
    print("faults     " + ", ".join(f"{kind} {tally['hits']} of {tally['armed']}" for kind, tally in kinds.items()))
    print(f"updates    {len(updates)}")
    stream.stop()
    print("broker-sim ok")


if __name__ == "__main__":
    main()
