"""Trades through the running stack with the official Python SDK, unmodified: only the address and the key are ours.

    . .run/stack.env
    python examples/python/trade.py
"""

import os
import sys
import threading
import time
import uuid

from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, OrderStatus, QueryOrderStatus, TimeInForce
from alpaca.trading.requests import GetAssetsRequest, GetOrdersRequest, LimitOrderRequest, MarketOrderRequest
from alpaca.trading.stream import TradingStream

FINISHED = {OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED}


def wait_for(client: TradingClient, order_id: uuid.UUID, done, limit_s: float = 30.0):
    """The order as soon as `done` holds for it."""
    until = time.monotonic() + limit_s
    while True:
        order = client.get_order_by_id(order_id)
        if done(order):
            return order
        if time.monotonic() > until:
            raise SystemExit(f"order {order_id} is still {order.status.value}")
        time.sleep(0.1)


class Updates:
    """Every update of the account, as the SDK's own stream delivers it."""

    def __init__(self) -> None:
        self.all = []
        self._stream = TradingStream(
            os.environ["APCA_API_KEY_ID"],
            os.environ["APCA_API_SECRET_KEY"],
            url_override=os.environ["ORDER_API_URL"].replace("http", "ws", 1) + "/stream",
        )
        self._stream.subscribe_trade_updates(self._on_update)
        threading.Thread(target=self._stream.run, daemon=True).start()

    async def _on_update(self, update) -> None:
        self.all.append(update)

    def of(self, order_id: uuid.UUID) -> list:
        return [update for update in self.all if update.order.id == order_id]

    def wait_for(self, order_id: uuid.UUID, last: str, limit_s: float = 30.0) -> list:
        """The updates of an order as soon as its last one is here."""
        until = time.monotonic() + limit_s
        while not any(update.event == last for update in self.of(order_id)):
            if time.monotonic() > until:
                raise SystemExit(f"no {last} of {order_id}: {[update.event for update in self.of(order_id)]}")
            time.sleep(0.05)
        return self.of(order_id)

    def start(self, client: TradingClient, limit_s: float = 30.0) -> None:
        """The SDK does not say when it listens, so an order is placed and cancelled until one is seen."""
        until = time.monotonic() + limit_s
        while not self.all:
            if time.monotonic() > until:
                raise SystemExit("no update arrives")
            probe = client.submit_order(
                LimitOrderRequest(symbol="AAPL", qty=1, side=OrderSide.BUY, time_in_force=TimeInForce.DAY, limit_price=10)
            )
            client.cancel_order_by_id(probe.id)
            time.sleep(0.5)

    def stop(self) -> None:
        self._stream.stop()


def refusal(call) -> APIError:
    """The error of a call that must be refused."""
    try:
        call()
    except APIError as error:
        return error
    raise SystemExit("the call should have been refused")


def main() -> None:
    client = TradingClient(
        os.environ["APCA_API_KEY_ID"],
        os.environ["APCA_API_SECRET_KEY"],
        url_override=os.environ["ORDER_API_URL"],
    )

    clock = client.get_clock()
    print(f"clock      open={clock.is_open}, next close {clock.next_close}")
    before = client.get_account()
    print(f"account    {before.account_number} {before.status.value}, cash {before.cash} {before.currency}")
    asset = client.get_asset("AAPL")
    assets = client.get_all_assets(GetAssetsRequest())
    assert any(one.symbol == asset.symbol for one in assets)
    print(f"assets     {len(assets)}, among them {asset.symbol} at {asset.exchange.value}")

    updates = Updates()
    updates.start(client)

    # A market order, found again by our own id, filled.
    own_id = f"sdk-{uuid.uuid4()}"
    request = MarketOrderRequest(
        symbol="AAPL", qty=2, side=OrderSide.BUY, time_in_force=TimeInForce.DAY, client_order_id=own_id
    )
    bought = client.submit_order(request)
    assert client.get_order_by_client_id(own_id).id == bought.id
    assert client.submit_order(request).id == bought.id, "the same order posted again is the same order"
    bought = wait_for(client, bought.id, lambda order: order.status in FINISHED)
    assert bought.status == OrderStatus.FILLED, bought.status
    print(f"bought     {bought.filled_qty} {bought.symbol} at {bought.filled_avg_price}")

    # A fractional quantity.
    assert float(client.get_open_position("AAPL").qty) >= 2
    part = client.submit_order(
        MarketOrderRequest(symbol="AAPL", qty=0.5, side=OrderSide.SELL, time_in_force=TimeInForce.DAY)
    )
    part = wait_for(client, part.id, lambda order: order.status in FINISHED)
    print(f"sold       {part.filled_qty} {part.symbol} at {part.filled_avg_price}")

    # A limit order far below the market, listed and cancelled.
    patient = client.submit_order(
        LimitOrderRequest(
            symbol="AAPL", qty=1, side=OrderSide.BUY, time_in_force=TimeInForce.GTC, limit_price=50.25
        )
    )
    open_orders = client.get_orders(GetOrdersRequest(status=QueryOrderStatus.OPEN, symbols=["AAPL"], nested=True))
    assert any(order.id == patient.id for order in open_orders)
    client.cancel_order_by_id(patient.id)
    patient = wait_for(client, patient.id, lambda order: order.status in FINISHED)
    assert patient.status == OrderStatus.CANCELED, patient.status
    again = refusal(lambda: client.cancel_order_by_id(patient.id))
    print(f"cancelled  {patient.id}; a second cancel is refused: {again.status_code} {again.code} {again.message}")

    # What cannot be paid is refused, with the dialect's code.
    poor = refusal(
        lambda: client.submit_order(
            MarketOrderRequest(symbol="AAPL", qty=900000, side=OrderSide.BUY, time_in_force=TimeInForce.DAY)
        )
    )
    assert (poor.status_code, poor.code) == (403, 40310000), (poor.status_code, poor.code)
    print(f"refused    {poor.code} {poor.message}")

    # Every step of the orders above has arrived, in order.
    steps = updates.wait_for(bought.id, "fill")
    events = [update.event.value if hasattr(update.event, "value") else update.event for update in steps]
    assert events[0] == "pending_new" and events[-1] == "fill", events
    assert set(events[1:-1]) <= {"new", "partial_fill"}, events
    assert sum(update.qty for update in steps if update.qty) == 2, [update.qty for update in steps]
    assert steps[-1].order.status == OrderStatus.FILLED and float(steps[-1].order.filled_qty) == 2
    ended = [update.event for update in updates.wait_for(patient.id, "canceled")]
    assert ended[0] == "pending_new" and "pending_cancel" in ended and ended[-1] == "canceled", ended
    print(f"updates    {len(updates.all)}; bought: {', '.join(events)}")
    updates.stop()

    everything = client.get_orders(GetOrdersRequest(status=QueryOrderStatus.ALL, limit=500))
    positions = client.get_all_positions()
    print(f"orders     {len(everything)}")
    for position in positions:
        print(f"position   {position.qty} {position.symbol} at {position.avg_entry_price}")
    after = client.get_account()
    print(f"account    cash {after.cash} {after.currency}")
    print("sdk ok")


if __name__ == "__main__":
    sys.exit(main())
