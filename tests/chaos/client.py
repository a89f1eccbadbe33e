"""A client of the chaos test in Python; client.c says what it reads and prints."""

import sys
import time

import ringkv


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def execute(ring: "ringkv.Ring[str, str]", words: list[str]) -> str:
    match words:
        case ["get", key]:
            value = ring.get(key)
            return "-" if value is None else value
        case ["put", key, value]:
            return str(int(ring.put(key, value)))
        case ["new", key, value]:
            return str(int(ring.put(key, value, if_absent=True)))
        case ["del", key]:
            return str(int(ring.delete(key)))
        case ["cas", key, value, expected]:
            return str(int(ring.cas(key, None if expected == "-" else expected, value)))
        case ["add", key, delta]:
            return str(ring.incr(key, int(delta)))
    raise SystemExit(f"client: {words}?")


def main() -> None:
    seeds, timeout_ms = sys.argv[1:]
    with ringkv.connect(seeds, codec="utf8", timeout=int(timeout_ms) / 1000) as ring:
        print("ready", flush=True)
        for line in sys.stdin:
            print("invoke", now(), flush=True)
            try:
                answer = execute(ring, line.split())
                print("ok", now(), answer, flush=True)
            except ringkv.RingError as error:
                verdict = "unknown" if error.maybe_applied else "fail"
                print(verdict, now(), error.status, flush=True)


main()
