"""Swift, without optimization. The parts of its compiler are called one by one, since its driver
does not start without ``/proc``.
"""

from __future__ import annotations

import platform

from .base import Language, support
from .source import appended

_HOME = "{swiftc.home}"
_LIBRARIES = f"{_HOME}/lib/swift/linux"
_FRONTEND = (
    *(f"{_HOME}/bin/swift-frontend", "-frontend", "-primary-file", "main.swift", "-Onone"),
    *("-suppress-warnings", "-disable-objc-interop", "-module-name", "main"),
    *("-resource-dir", f"{_HOME}/lib/swift", "-plugin-path", f"{_HOME}/lib/swift/host/plugins"),
    *("-module-cache-path", "/tmp/modules"),
)
_COMPILE = (*_FRONTEND, "-c", "-o", "main.o")
_LINK = (
    *("/usr/bin/gcc", "-pie", "-o", "main", f"{_LIBRARIES}/{platform.machine()}/swiftrt.o"),
    *("main.o", "@main.autolink", f"-L{_LIBRARIES}", f"-Wl,-rpath,{_LIBRARIES}", "-lswiftCore"),
)
_DONE = """import Glibc
do {
    let codegenFile = fopen(".answers", "w")!
    fputs(String(cString: getenv("CODEGEN_TOKEN")), codegenFile)
    fclose(codegenFile)
}"""

SWIFT = Language(
    name="swift",
    file="main.swift",
    tools=("swiftc",),
    install="swiftlang",
    version=(f"{_HOME}/bin/swift-frontend", "-version"),  # the driver leaves a directory behind
    compile=(
        _COMPILE,
        (f"{_HOME}/bin/swift-autolink-extract", "main.o", "-o", "main.autolink"),
        _LINK,
    ),
    keep=("main",),
    run=("/tmp/main",),
    check=(*_FRONTEND, "-typecheck"),
    shares=("/usr/libexec/swift", "/usr/include"),
    # Without /proc its tools do not find their libraries by themselves.
    environment={"LD_LIBRARY_PATH": f"{_LIBRARIES}:{_HOME}/lib/swift/host:{_HOME}/lib"},
    any_address=True,
    stop=("\n}",),
    answers=support("answers.swift"),
    answers_last=True,
    guard=appended(_DONE),
)
