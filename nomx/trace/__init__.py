"""Kernel crossings seen from outside: counted, divided by packets, compared, explained, exported.

    target ─→ tracer (crossings.bpf.c) ─→ snapshots ─→ aggregate ─→ report ─→ compare, explain, export
                 packets (rings, sockets, lease, device) ─┘

Beside the client and the daemon: it asks neither, and works on any process. A lease's status comes
through a function that the caller gives. docs/explanation/crossings.md is the definition of what is
counted, and `bpf/crossings.bpf.c` the only place that counts it.
"""
