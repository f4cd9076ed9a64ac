import pytest

from zfuse.errors import StorageError
from zfuse.storage.http_redirects import redirected
from zfuse.storage.http_session import HttpAnswer


def to(location, status=302):
    return HttpAnswer(status, "Found", {"Location": location}, b"")


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("https://a.org/x/y", "z", "https://a.org/x/z"),
        ("https://a.org/x", "https://b.org/y?q=%20&r", "https://b.org/y?q=%20&r"),
        ("http://a.org/x", "https://a.org/x", "https://a.org/x"),
        ("http://a.org/x", "http://8.8.8.8/x", "http://8.8.8.8/x"),
        ("http://127.0.0.1:80/x", "http://localhost:81/", "http://localhost:81/"),
        ("http://10.0.0.1/x", "http://192.168.0.1/", "http://192.168.0.1/"),
        ("http://a.org/x", "/a b/\xc3\xa9", "http://a.org/a%20b/%C3%A9"),
    ],
)
def test_where_a_redirect_leads(url, location, target):
    assert redirected(url, to(location)) == target


def test_what_is_no_redirect():
    assert redirected("http://a.org/x", to("/y", status=200)) is None
    assert redirected("http://a.org/x", HttpAnswer(302, "", {}, b"")) is None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.1:80", "127.1", "2130706433", "0x7f000001", "localhost",
        "LocalHost.", "a.localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254",
        "[fe80::1]", "10.1.2.3", "172.16.0.1", "192.168.1.1:8080", "[fd00::1]", "0.0.0.0",
    ],
)  # fmt: skip
def test_a_public_host_does_not_lead_into_a_private_network(host):
    with pytest.raises(StorageError, match="private network"):
        redirected("http://a.org/x", to(f"http://{host}/secrets"))


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("http://a.org/x", "from https to plain http"),
        ("ftp://a.org/x", "not on the web"),
        ("file:///etc/passwd", "not on the web"),
        ("https://[::1/", "no valid URL"),
        ("https://me:hush@a.org/x", "credentials"),
    ],
)
def test_other_places_it_does_not_lead_to(location, told):
    with pytest.raises(StorageError, match=told) as caught:
        redirected("https://a.org/x", to(location))
    assert "hush" not in str(caught.value)
