"""The slots of a counters row, as constants that compiled code can use; their meaning is in `nomx.api.counters`."""

from __future__ import annotations

from nomx.api.counters import SLOT

RX_PACKETS = SLOT["rx_packets"]
TX_PACKETS = SLOT["tx_packets"]
RX_BYTES = SLOT["rx_bytes"]
TX_BYTES = SLOT["tx_bytes"]
REPLIES = SLOT["replies"]
NO_REPLY = SLOT["no_reply"]
ARP_REPLIES = SLOT["arp_replies"]
ICMP_REPLIES = SLOT["icmp_replies"]
DROP_RUNT = SLOT["drop_runt"]
DROP_NOT_OURS = SLOT["drop_not_ours"]
DROP_ETHERTYPE = SLOT["drop_ethertype"]
DROP_IP_HEADER = SLOT["drop_ip_header"]
DROP_IP_CHECKSUM = SLOT["drop_ip_checksum"]
DROP_FRAGMENT = SLOT["drop_fragment"]
DROP_PROTOCOL = SLOT["drop_protocol"]
DROP_ARP = SLOT["drop_arp"]
DROP_ICMP_CHECKSUM = SLOT["drop_icmp_checksum"]
DROP_UDP_LENGTH = SLOT["drop_udp_length"]
DROP_UDP_CHECKSUM = SLOT["drop_udp_checksum"]
DROP_NO_HANDLER = SLOT["drop_no_handler"]
HANDLER_ERRORS = SLOT["handler_errors"]
REPLY_OVERRUNS = SLOT["reply_overruns"]
TX_FULL = SLOT["tx_full"]
WAKEUPS = SLOT["wakeups"]
WAITS = SLOT["waits"]
POLLS = SLOT["polls"]
EMPTY_POLLS = SLOT["empty_polls"]
TX_ERRORS = SLOT["tx_errors"]
