"""URLs that try to reach this machine or its network through the service: no connection is tried."""

import itertools
import socket
from collections.abc import Iterator

import pytest
from trapped_network import TrappedNetwork, trapped

from paddlex_seg.serving.problems import RequestProblem
from paddlex_seg.serving.urls import UrlRules, fetch_image

PUBLIC = "93.184.215.14"
NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "localhost.localdomain": ["127.0.0.1"],
    "ip6-localhost": ["::1"],
    "127.0.0.1.nip.test": ["127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "kubernetes.default.svc": ["10.96.0.1"],
    "two-answers.test": [PUBLIC, "127.0.0.1"],
    "two-answers-6.test": [PUBLIC, "::ffff:127.0.0.1"],
    "nat64.test": ["64:ff9b::7f00:1"],
    "unmapped.test": [],
    "public.test": [PUBLIC],
}
P = "{port}"  # of the trap
HOSTS = {
    "decimal": "2130706433",
    "octal": "017700000001",
    "octal parts": "0177.0.0.01",
    "hexadecimal": "0x7f000001",
    "hexadecimal parts": "0x7f.0x0.0x0.0x1",
    "two parts": "127.1",
    "three parts": "127.0.1",
    "mixed parts": "0x7f.1",
    "plain": "127.0.0.1",
    "with a dot": "127.0.0.1.",
    "another of the loopback": "127.255.255.254",
    "zero": "0",
    "unspecified": "0.0.0.0",
    "IPv6": "[::1]",
    "long IPv6": "[0:0:0:0:0:0:0:1]",
    "unspecified IPv6": "[::]",
    "mapped": "[::ffff:127.0.0.1]",
    "mapped in hexadecimal": "[::ffff:7f00:1]",
    "compatible": "[::127.0.0.1]",
    "NAT64": "[64:ff9b::127.0.0.1]",
    "local NAT64": "[64:ff9b:1::7f00:1]",
    "6to4": "[2002:7f00:1::]",
    "Teredo": "[2001:0:7f00:1::80ff:fffe]",
    "link-local": "[fe80::1]",
    "zone": "[fe80::1%25lo]",
    "bare zone": "[::1%lo]",
    "site-local": "[fec0::1]",
    "unique local": "[fd00:ec2::254]",
    "multicast": "[ff02::1]",
    "name": "localhost",
    "name in capitals": "LOCALHOST",
    "name with a dot": "localhost.",
    "longer name": "localhost.localdomain",
    "IPv6 name": "ip6-localhost",
    "name of an address": "127.0.0.1.nip.test",
    "metadata": "169.254.169.254",
    "metadata in decimal": "2852039166",
    "metadata by name": "metadata.google.internal",
    "metadata of Azure": "168.63.129.16",
    "metadata of Alibaba": "100.100.100.200",
    "private 10": "10.0.0.1",
    "private 172": "172.16.0.1",
    "private 192": "192.168.0.1",
    "shared": "100.64.0.1",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "multicast IPv4": "224.0.0.1",
    "name in a cluster": "kubernetes.default.svc",
    "full-width digits": "１２７.０.０.１",
    "ideographic dots": "127。0。0。1",
    "circled letters": "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "escaped": "127.0.0.%31",
    "two answers": "two-answers.test",
    "two answers, one mapped": "two-answers-6.test",
    "NAT64 by name": "nat64.test",
    "no answer": "unmapped.test",
}
FORMS = {
    **{f"host: {name}": f"http://{host}:{P}/x.png" for name, host in HOSTS.items()},
    "https": f"https://127.0.0.1:{P}/",
    "user": f"http://public.test@127.0.0.1:{P}/",
    "user and password": f"http://public.test:80@127.0.0.1:{P}/",
    "host as user": f"http://127.0.0.1:{P}@public.test/",
    "two at signs": f"http://a@127.0.0.1:{P}@public.test/",
    "escaped at sign": f"http://public.test%40127.0.0.1:{P}/",
    "fragment": f"http://public.test#@127.0.0.1:{P}/",
    "query": f"http://public.test?@127.0.0.1:{P}/",
    "backslash": f"http://public.test\\@127.0.0.1:{P}/",
    "backslash after": f"http://127.0.0.1:{P}\\@public.test/",
    "only backslashes": f"http:\\\\127.0.0.1:{P}\\",
    "tab": f"http://127.0.0.1\t:{P}/",
    "line break": f"http://127.0.0.1:{P}/x HTTP/1.1\r\nHost: public.test\r\n\r\n",
    "space before": f" http://127.0.0.1:{P}/",
    "space inside": f"http://127.0.0.1:{P} @public.test/",
    "no-break space": f"http://127.0.0.1\u00a0:{P}/",
    "null": f"http://127.0.0.1\0.public.test:{P}/",
    "three slashes": f"http:///127.0.0.1:{P}/",
    "no slashes": f"http:127.0.0.1:{P}/",
    "one slash": f"http:/127.0.0.1:{P}/",
    "no scheme": f"//127.0.0.1:{P}/",
    "no host": "http://",
    "only a port": f"http://:{P}/",
    "unclosed bracket": f"http://[::1:{P}/",
    "address in brackets": f"http://[127.0.0.1]:{P}/",
    "file": "file:///etc/passwd",
    "file of a host": "file://127.0.0.1/etc/passwd",
    "gopher": f"gopher://127.0.0.1:{P}/_x",
    "ftp": f"ftp://127.0.0.1:{P}/x",
    "dict": f"dict://127.0.0.1:{P}/x",
    "ldap": f"ldap://127.0.0.1:{P}/x",
    "data": "data:image/png;base64,aGVsbG8=",
    "javascript": "javascript:alert(1)",
    "path": "/etc/passwd",
    "port of ssh": "http://public.test:22/",
    "port of redis": "http://public.test:6379/",
    "port 0": "http://public.test:0/",
    "port too large": "http://public.test:65616/",
    "port in other digits": "http://public.test:２２/",
    "negative port": "http://public.test:-80/",
    "very long": f"http://127.0.0.1:{P}/" + "a" * 10_000,
}
REACHES_PUBLIC = {"fragment", "query"}  # these name public.test; what follows is not part of the host


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[TrappedNetwork]:
    with trapped(monkeypatch) as network:
        network.names |= NAMES
        yield network


def fetch(url: str, network: TrappedNetwork) -> str:
    """Why the URL was not fetched."""
    with pytest.raises(RequestProblem) as caught:
        fetch_image(url.replace(P, str(network.port)), UrlRules(ports=(80, 443, network.port), seconds=5.0))
    assert caught.value.status == 422
    return caught.value.message


@pytest.mark.parametrize("form", FORMS)
def test_no_form_of_a_url_connects_to_what_is_not_public(form: str, network: TrappedNetwork) -> None:
    message = fetch(FORMS[form], network)
    reached = [(PUBLIC, 80)] if form in REACHES_PUBLIC else []
    assert network.connected == reached
    assert network.caught == 0
    assert len(message) < 500


def test_there_are_forms_enough() -> None:
    assert len(FORMS) >= 40


def test_the_trap_is_open_and_a_public_address_is_connected_to(network: TrappedNetwork) -> None:
    """Otherwise the tests above would pass without a check."""
    socket.create_connection(("127.0.0.1", network.port)).close()
    assert network.caught == 1
    network.connected.clear()
    fetch("http://public.test/x.png", network)
    fetch("https://public.test/x.png", network)
    assert network.connected == [(PUBLIC, 80), (PUBLIC, 443)]


def test_a_name_that_changes_its_address_is_connected_to_where_it_was_checked(
    network: TrappedNetwork,
) -> None:
    """DNS rebinding: the first answer is public, each further one is this machine."""
    answers = itertools.chain([[PUBLIC]], itertools.repeat(["127.0.0.1"]))
    network.names["rebinding.test"] = lambda: next(answers)
    fetch(f"http://rebinding.test:{P}/", network)
    assert network.connected == [(PUBLIC, network.port)] and network.asked == ["rebinding.test"]
    assert "is not public" in fetch(f"http://rebinding.test:{P}/", network)
    assert len(network.connected) == 1 and network.caught == 0
