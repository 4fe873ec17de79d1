// Denies every address but loopback, to whatever is loaded after it: node --require ./loopback-only.cjs SCRIPT
"use strict";

const assert = require("node:assert");
const dns = require("node:dns");
const net = require("node:net");

class Denied extends Error {}

const isLoopback = (host) =>
  host === undefined || host === "localhost" || host === "::1" || (net.isIPv4(host) && host.startsWith("127."));

function check(host) {
  if (!isLoopback(host)) throw new Denied(`${host} is denied: only loopback is allowed`);
}

// fetch, http, https, tls and websockets all connect here in the end.
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...given) {
  // Either (options), (port, host), or what net.connect made of these.
  const [first, second] = Array.isArray(given[0]) ? given[0] : given;
  check(typeof first === "object" && first !== null ? first.host : second);
  return connect.apply(this, given);
};

for (const resolver of [dns, dns.promises]) {
  for (const name of ["lookup", "resolve", "resolve4", "resolve6"]) {
    const original = resolver[name];
    resolver[name] = function (host, ...rest) {
      check(host);
      return original.call(this, host, ...rest);
    };
  }
}

for (const host of ["192.0.2.1", "paper-api.alpaca.markets"]) {
  assert.throws(() => net.connect({ port: 443, host }), Denied, "the guard does not work");
  assert.throws(() => dns.lookup(host, () => {}), Denied, "the guard does not work");
}
console.log("guard      every address but loopback is denied");
