"""Wire formats, each in two ways: compiled accessors that judge nothing, representations that hold only valid values.

An accessor reads or writes one field of a frame in place; it knows offsets and byte order, nothing
else, and whoever calls it has checked that the bytes are there. A representation is a frozen
dataclass that can be made only with values the protocol allows; `parse` makes one from bytes,
`emit` writes it, and the two are inverse. The serve loop uses the first, tests and set-up the second.

A frame is an Ethernet frame without its FCS, as a NumPy array of uint8. Numbers are in host order.
"""
