"""The sandbox as a service: ``codegen serve sandbox``.

``service`` is the queue in front of the sandbox, ``app`` the native routes and ``fusion`` those of
SandboxFusion, ``wire`` what goes over the wire. :mod:`codegen.sandbox_client` is the client.
"""

from .app import make_app, most_limits
from .service import SandboxService

__all__ = ["SandboxService", "make_app", "most_limits"]
