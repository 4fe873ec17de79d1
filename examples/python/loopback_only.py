"""Runs another script and denies it every address but loopback: what it does, it does to the engine alone.

    python examples/python/loopback_only.py examples/python/trade.py
"""

import ipaddress
import runpy
import socket
import sys

NETWORK = {"socket.connect", "socket.sendto", "socket.sendmsg"}
NAMES = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


class Denied(ConnectionError):
    """An address outside of this machine."""


def is_loopback(host) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def deny(event: str, arguments: tuple) -> None:
    # The interpreter calls this before it acts, whatever library asked; it cannot be taken back.
    if event in NETWORK and isinstance(arguments[1], tuple) and not is_loopback(arguments[1][0]):
        raise Denied(f"{event} to {arguments[1]} is denied")
    if event in NAMES and not is_loopback(arguments[0]):
        raise Denied(f"looking up {arguments[0]!r} is denied")


def must_be_denied(call) -> None:
    try:
        call()
    except Denied:
        return
    raise SystemExit("the guard does not work")


def main() -> None:
    script = sys.argv[1]
    sys.addaudithook(deny)
    must_be_denied(lambda: socket.create_connection(("192.0.2.1", 443), timeout=1))
    must_be_denied(lambda: socket.create_connection(("paper-api.alpaca.markets", 443), timeout=1))
    print("guard      every address but loopback is denied")
    sys.argv = sys.argv[1:]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
