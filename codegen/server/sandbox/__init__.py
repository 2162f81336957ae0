"""The sandbox as a service: ``codegen serve sandbox``.

``service`` is the queue in front of the sandbox and has the bodies of jobs. ``app`` has the native
routes, ``fusion`` SandboxFusion's ``/run_code``. The client is
:mod:`codegen.sandbox_client`.
"""

from .app import make_app, most_limits
from .service import SandboxService

__all__ = ["SandboxService", "make_app", "most_limits"]
