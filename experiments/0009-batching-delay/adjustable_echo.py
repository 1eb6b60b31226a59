"""The UDP echo, its batching delay turned while it runs: each line of standard input is a delay in microseconds."""

import sys
import threading

import nomx


@nomx.udp(7000)
def echo(length):
    return length


def turn() -> None:
    for line in sys.stdin:
        delay_us = float(line)
        nomx.tune(rx_delay_us=delay_us, tx_delay_us=delay_us)


threading.Thread(target=turn, daemon=True).start()
nomx.serve()
