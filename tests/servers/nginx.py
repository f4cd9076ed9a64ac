"""nginx over a directory: GET and HEAD, ranges, ETag and Last-Modified."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.processes import accepts, serving

# No tcp_nopush: it holds ranges back for 40 ms.
_CONFIG = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 1000000;
    default_type application/octet-stream;
    client_body_temp_path {directory}/t1;
    proxy_temp_path {directory}/t2;
    fastcgi_temp_path {directory}/t3;
    uwsgi_temp_path {directory}/t4;
    scgi_temp_path {directory}/t5;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{tls_port} ssl;
        ssl_certificate {directory}/certificate.pem;
        ssl_certificate_key {directory}/key.pem;
        root {root};
        location / {{ limit_except GET {{ deny all; }} }}
        location /no-ranges/ {{ alias {root}/; max_ranges 0; }}
        location /moved/ {{
            if ($request_uri ~ ^/moved/(.*)$) {{ return 302 http://127.0.0.1:{port}/$1; }}
        }}
        location /private/ {{ deny all; }}
    }}
}}
"""


@dataclass(frozen=True)
class NginxServer:
    """Files put below ``root`` are served below ``url``.

    The same files are below ``url/no-ranges``, where Range is ignored, and ``url/moved``
    redirects to them; ``url/private`` answers 403. ``tls_url`` is the same with a certificate
    for localhost that nobody trusts, itself in the file ``certificate``.
    """

    url: str
    root: Path
    tls_url: str
    certificate: Path


@contextlib.contextmanager
def serve_directory(root: Path, directory: Path) -> Iterator[NginxServer]:
    """Serve *root*, with nginx's own files in *directory*."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin")
    if nginx is None:
        pytest.skip("nginx is not there: apt install nginx-light")
    _make_certificate(directory)
    config = directory / "nginx.conf"
    log = directory / "nginx.log"

    def command_on(ports: list[int]) -> list[str]:
        port, tls_port = ports
        config.write_text(
            _CONFIG.format(directory=directory, port=port, tls_port=tls_port, root=root)
        )
        return [nginx, "-p", str(directory), "-e", str(log), "-c", str(config)]

    with serving(2, command_on, lambda ports: all(map(accepts, ports)), log) as (port, tls_port):
        yield NginxServer(
            f"http://127.0.0.1:{port}",
            root,
            f"https://localhost:{tls_port}",
            directory / "certificate.pem",
        )


def _make_certificate(directory: Path) -> None:
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost",
        "-keyout", str(directory / "key.pem"), "-out", str(directory / "certificate.pem"),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="session")
def nginx(tmp_path_factory):
    """One nginx for the whole session; take a directory below its root each."""
    root = tmp_path_factory.mktemp("www")
    with serve_directory(root, tmp_path_factory.mktemp("nginx")) as server:
        yield server
