"""Packets as Linux 6.18 sent them between 10.77.0.1 and 10.77.0.2, without a link's header."""

from __future__ import annotations

SYN = bytes.fromhex(
    "4500003c7b4940004006aad60a4d00010a4d0002"
    "af081f903957df1700000000a002faf09bc90000"
    "020405b40402080ac8cfecce000000000103030a"
)
SYN_ACK = bytes.fromhex(
    "4500003c00004000400626200a4d00020a4d0001"
    "1f90af081fa5111c3957df18a012fe88018a0000"
    "020405b40402080ab5ffafd5c8cfecce0103030a"
)
FINAL_ACK = bytes.fromhex(
    "450000347b4a40004006aadd0a4d00010a4d0002"
    "af081f903957df181fa5111d8010003f2ea30000"
    "0101080ac8cfecceb5ffafd5"
)
HELLO = bytes.fromhex(
    "450000397b4b40004006aad70a4d00010a4d0002"
    "af081f903957df181fa5111d8018003feac30000"
    "0101080ac8cfecceb5ffafd568656c6c6f"
)
SERVERS_FIN = bytes.fromhex(
    "45000034df0e4000400647190a4d00020a4d0001"
    "1f90af081fa5111d3957df1d801100402e9c0000"
    "0101080ab5ffafd5c8cfecce"
)
UDP = bytes.fromhex("4500001f0ac7400040111b6b0a4d00010a4d00028b2a0009000b6f8f787878")
LAST_FRAGMENT = bytes.fromhex("450000440ac80172401159d30a4d00010a4d0002") + b"x" * 48
