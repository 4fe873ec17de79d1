"""Trades through the running stack with the official Python SDK, unmodified: only the address and the key are ours.

    . .run/stack.env
    python examples/python/trade.py
"""

import os
import sys
import time
import uuid

from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, OrderStatus, QueryOrderStatus, TimeInForce
from alpaca.trading.requests import GetAssetsRequest, GetOrdersRequest, LimitOrderRequest, MarketOrderRequest

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
