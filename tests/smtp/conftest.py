"""What tests with mail servers share: certificates, and senders that are closed."""

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import trustme

from hyperdrip.senders.smtp import SmtpSender
from hyperdrip.senders.smtp_wire import Timeouts
from hyperdrip.smtp_url import Security, SmtpServer
from tests.smtp.mails import write_mail
from tests.smtp.scripted import ScriptedServer

QUICK = Timeouts(
    connect=2, greeting=1, reply=1, data=1, block=1, dot=1, quit=0.5, second_try=5, probe=0.5
)


@dataclass(frozen=True)
class Certificates:
    """A private authority: its file, and a server's side for 127.0.0.1."""

    cafile: str
    context: ssl.SSLContext
    wrong_name: ssl.SSLContext


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of an authority that nobody else trusts."""
    authority = trustme.CA()
    cafile = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(cafile))
    contexts = []
    for name in ("127.0.0.1", "another.example"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        contexts.append(context)
    return Certificates(str(cafile), *contexts)


def address(server: ScriptedServer, security: Security = Security.NONE, **more: str) -> SmtpServer:
    """What SMTP_URL would say of a server."""
    return SmtpServer(server.host, server.port, security, **more)


@pytest.fixture
def new_sender() -> Iterator[Callable[..., SmtpSender]]:
    """Make senders, closed after the test: `new_sender(server, security, concurrency=1, ...)`."""
    made: list[SmtpSender] = []

    def make(
        server: ScriptedServer | SmtpServer,
        *,
        concurrency: int = 1,
        timeouts: Timeouts = QUICK,
        compose: Callable[..., object] = write_mail,
    ) -> SmtpSender:
        where = server if isinstance(server, SmtpServer) else address(server)
        made.append(SmtpSender(where, compose, concurrency=concurrency, timeouts=timeouts))
        return made[-1]

    yield make
    for sender in made:
        sender.close()


@pytest.fixture
def closed_port() -> int:
    """A port of loopback on which nobody listens."""
    server = ScriptedServer()
    server.close()
    return server.port
