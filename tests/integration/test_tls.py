"""HTTPS: a server is believed by the certificates that the system, or who started us, trusts, and by nothing else."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer

from llorch import errors, tls
from llorch.client import Client


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a key and a certificate for 127.0.0.1 that signs itself."""
    folder = tmp_path_factory.mktemp("tls")
    key, signed, both = folder / "key.pem", folder / "signed.pem", folder / "both.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*make, "-keyout", str(key), "-out", str(signed)], check=True, capture_output=True)
    both.write_text(key.read_text() + signed.read_text())
    return both


@pytest.fixture
async def url(certificate: Path) -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"read": "over TLS"})

    app = web.Application()
    app.router.add_get("/answer", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Have the certificates read anew by each test."""
    tls.trusted.cache_clear()
    yield
    tls.trusted.cache_clear()


async def test_a_certificate_that_is_trusted_is_believed(
    url: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with Client(url) as client:
        assert await client.send("GET", "/answer", dict[str, str]) == {"read": "over TLS"}


async def test_one_that_is_not_is_refused(url: str) -> None:
    async with Client(url) as client:
        with pytest.raises(errors.Unreachable, match=r"is not trusted here \(self-signed certificate\)"):
            await client.send("GET", "/answer", dict[str, str])


async def test_a_server_without_tls_is_told_apart(aiohttp_server: AiohttpServer) -> None:
    server = await aiohttp_server(web.Application())

    async with Client(f"https://127.0.0.1:{server.port}") as client:
        with pytest.raises(errors.Unreachable, match="does not speak TLS"):
            await client.send("GET", "/answer", dict[str, str])


def test_the_systems_certificates_are_read_only_when_they_are_needed(certificate: Path) -> None:
    told = (
        "import llorch.client, os, aiohttp.connector as c; from llorch.tls import trusted;"
        "print(c._SSL_CONTEXT_VERIFIED.cert_store_stats()['x509'], trusted().cert_store_stats()['x509'],"
        " os.environ['SSL_CERT_FILE'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", told],
        env={"SSL_CERT_FILE": str(certificate), "PYTHONPATH": str(Path(tls.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )

    assert run.stdout.split() == ["0", "1", str(certificate)]
