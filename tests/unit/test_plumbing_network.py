"""Which addresses are anybody's, and which are a machine's own."""

import pytest

from services.plumbing.network import is_public, names_private

PUBLIC = """
1.1.1.1  8.8.8.8  76.76.21.21  2606:4700:4700::1111  2a00:1450:4001:81b::200e
::ffff:8.8.8.8  64:ff9b::808:808  2002:808:808::1
"""

PRIVATE = """
127.0.0.1  127.8.9.10  10.0.0.1  172.16.0.1  172.31.255.255  192.168.1.1  100.64.0.1  169.254.169.254  0.0.0.0
168.63.129.16  192.0.0.192  192.88.99.1  100.100.100.200  192.0.2.1  198.18.0.1  224.0.0.1  239.255.255.255  240.0.0.1
255.255.255.255  ::  ::1  ::7f00:1  fe80::1  fe80::1%eth0  fc00::1  fd00:ec2::254  fec0::1  ff02::1  2001:db8::1
3fff::1  2001::1  100::1
::ffff:127.0.0.1  ::ffff:169.254.169.254  64:ff9b::a00:1  64:ff9b::7f00:1  64:ff9b:1::a00:1  2002:a00:1::  2002:7f00:1::
"""


@pytest.mark.parametrize("address", PUBLIC.split())
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)
    assert not names_private(address)


@pytest.mark.parametrize("address", PRIVATE.split())
def test_an_address_that_is_a_machines_or_a_networks_own_is_not(address: str) -> None:
    """Also where an IPv6 address stands for one of IPv4."""
    assert not is_public(address)
    assert names_private(address)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost.", "x.localhost", "127.1", "0x7f.1", "2130706433", "017700000001"]
)
def test_a_host_may_say_that_it_is_private_in_other_words(host: str) -> None:
    assert names_private(host)


@pytest.mark.parametrize("host", ["api.cal.com", "cal.eu", "localhost.example", "10.example", "8.8.8.8.", ""])
def test_of_a_name_nothing_is_known_before_it_is_resolved(host: str) -> None:
    assert not names_private(host)


def test_what_is_no_address_is_none() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        is_public("api.cal.com")
