// Trades through the running stack with the official JavaScript SDK, unmodified: only the address and the key are ours.
//
//     . .run/stack.env
//     node --require ./examples/node/loopback-only.cjs examples/node/trade.mjs
//
// `make sdk-check-node` installs the SDK first.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { Alpaca } from "@alpacahq/alpaca-trade-api";

const base = new URL(process.env.ORDER_API_URL);
const hosts = new Set();

// The client knows the broker's own hosts only. Its hook for `fetch` sends each request here instead, path unchanged.
function fetchHere(input, init) {
  const url = new URL(input instanceof Request ? input.url : input);
  hosts.add(url.host);
  url.protocol = base.protocol;
  url.host = base.host;
  return fetch(input instanceof Request ? new Request(url, input) : url, init);
}

const alpaca = new Alpaca({
  keyId: process.env.APCA_API_KEY_ID,
  secret: process.env.APCA_API_SECRET_KEY,
  fetchApi: fetchHere,
});
const { trading } = alpaca;

const FINISHED = new Set(["filled", "canceled", "expired", "rejected"]);

async function finished(id, limitMs = 30_000) {
  const until = Date.now() + limitMs;
  for (;;) {
    const order = await trading.orders.getOrderByOrderID({ orderId: id });
    if (FINISHED.has(order.status)) return order;
    assert(Date.now() < until, `order ${id} is still ${order.status}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

async function refusal(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error("the call should have been refused");
}

/** The first update that `matches`, which may have come already. */
function watch(stream) {
  const seen = [];
  let wake = () => {};
  stream.onTradeUpdate((update) => {
    seen.push(update);
    wake();
  });
  return async (matches, limitMs = 30_000) => {
    const until = Date.now() + limitMs;
    for (;;) {
      const found = seen.find(matches);
      if (found) return found;
      assert(Date.now() < until, `no such update; seen: ${seen.map((update) => update.event)}`);
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, 500);
      });
    }
  };
}

const before = await trading.account.getAccount();
console.log(`account    ${before.accountNumber} ${before.status}, cash ${before.cash} ${before.currency}`);
const asset = await trading.assets.getV2AssetsSymbolOrAssetId({ symbolOrAssetId: "AAPL" });
assert.equal(asset.symbol, "AAPL");

const stream = trading.stream({ url: new URL("/stream", base.href.replace(/^http/, "ws")).href });
const update = watch(stream);
const listening = new Promise((resolve, reject) => {
  stream.on("subscription", resolve);
  stream.on("error", (message) => reject(new Error(`stream: ${message}`)));
});
stream.onConnect(() => stream.subscribeTradeUpdates());
stream.connect();
assert.deepEqual(await listening, ["trade_updates"]);
console.log("stream     listens to trade_updates");

// A market order, found again by our own id, filled, and told of by the stream.
const ownId = `node-${randomUUID()}`;
const market = { symbol: "AAPL", qty: 2, side: "buy", clientOrderId: ownId };
const placed = await trading.orders.market(market);
assert.equal((await trading.orders.getOrderByClientOrderId({ clientOrderId: ownId })).id, placed.id);
assert.equal((await trading.orders.market(market)).id, placed.id, "the same order posted again is the same order");
const bought = await finished(placed.id);
assert.equal(bought.status, "filled");
const fill = await update(({ event, order }) => event === "fill" && order.id === placed.id);
assert.equal(Number(fill.order.filledQty), 2);
console.log(`bought     ${bought.filledQty} ${bought.symbol} at ${bought.filledAvgPrice}; the stream said so`);

// A limit order far below the market, listed and cancelled.
const patient = await trading.orders.limit({ symbol: "AAPL", qty: 1, side: "buy", limitPrice: "50.25" });
const open = await trading.orders.getAllOrders({ status: "open", symbols: "AAPL", nested: true });
assert(open.some((order) => order.id === patient.id));
await trading.orders.deleteOrderByOrderID({ orderId: patient.id });
assert.equal((await finished(patient.id)).status, "canceled");
await update(({ event, order }) => event === "canceled" && order.id === patient.id);
const again = await refusal(() => trading.orders.deleteOrderByOrderID({ orderId: patient.id }));
assert.deepEqual([again.status, again.code], [422, 42210000]);
console.log(`cancelled  ${patient.id}; a second cancel is refused: ${again.status} ${again.code}`);

// What cannot be paid is refused, with the dialect's code.
const poor = await refusal(() => trading.orders.market({ symbol: "AAPL", qty: 900000, side: "buy" }));
assert.deepEqual([poor.status, poor.code], [403, 40310000]);
console.log(`refused    ${poor.code} ${poor.message}`);

const position = await trading.positions.getOpenPosition({ symbolOrAssetId: "AAPL" });
console.log(`position   ${position.qty} ${position.symbol} at ${position.avgEntryPrice}`);

// A wrong secret.
const stranger = new Alpaca({ keyId: process.env.APCA_API_KEY_ID, secret: "wrong", fetchApi: fetchHere });
assert.equal((await refusal(() => stranger.trading.account.getAccount())).status, 401);

stream.disconnect();
console.log(`hosts      ${[...hosts].join(", ")}: all sent to ${base.host} instead`);
console.log("sdk ok");
