"""Resumes TLS sessions: the second connection to a receiver costs no certificate chain.

How this works: event loops make the TLS object of a connection by `SSLContext.wrap_bio` and give no session
to it. But a context may name the class of those objects (`sslobject_class`), and this one offers the session
that is kept for its host when the handshake begins. What is kept was agreed on under the same context, with
the same name and after full verification; it is used for an hour, then a certificate has to be shown again.
"""

from __future__ import annotations

import ssl
import time
from typing import ClassVar, Final

_MAX_AGE_S: Final = 3600
_MAX_HOSTS: Final = 4096  # of one context


class ResumingObject(ssl.SSLObject):
    """TLS of one connection of a context; each context has a subclass of its own, with its sessions."""

    _sessions: ClassVar[dict[str, tuple[float, ssl.SSLSession]]] = {}
    _begun = False

    def do_handshake(self) -> None:
        """Offer the session that is kept, with the first step of the handshake."""
        if not self._begun:
            self._begun = True
            verified_at, session = self._sessions.get(self.server_hostname or "", (0.0, None))
            if session is not None and time.monotonic() - verified_at < _MAX_AGE_S:
                self.session = session
        super().do_handshake()

    def keep_session(self) -> None:
        """Keep the session for the next connection; to be called when the receiver has answered.

        Before that, TLS 1.3 has none that could be resumed. One that was resumed is kept as it is: taking
        it anew costs as much as it saves, and a receiver that takes none twice is verified again.
        """
        if self.session_reused:
            return
        session = self.session
        if session is None or not (session.has_ticket or session.id):
            return
        host = self.server_hostname or ""
        self._sessions.pop(host, None)
        while len(self._sessions) >= _MAX_HOSTS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[host] = time.monotonic(), session


def resume_sessions(context: ssl.SSLContext) -> None:
    """Let the connections of a context resume each other's sessions."""
    context.sslobject_class = type("ResumingObject", (ResumingObject,), {"_sessions": {}})
