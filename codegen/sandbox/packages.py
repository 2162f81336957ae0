"""Installed packages that programs may import, and their files in this environment.

A sandbox has only the standard library, since directories of installed packages may contain the
solutions of a dataset. A requested package is mounted read-only, with the packages that it requires
and nothing else from its directory. So is pytest, if installed: tests use its fixtures.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from codegen.core.errors import ConfigError

from .isolation.namespaces import PACKAGES

PYTEST = "pytest"
_ONE_THREAD = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB", "BLIS", "RAYON")
_MISSING = re.compile(r"No module named '(\w+)[\w.]*'")


@dataclass(frozen=True)
class Packages:
    """The packages that programs may import besides the standard library.

    Attributes:
        modules: modules to import before a program starts, to save it time.
        versions: versions of all distributions; "directory" for a directory.
        entries: (path here, name in the sandbox's package directory).
        folders: requested directories, each searched for modules.
        tools: (path here, path in the sandbox) of the toolchains of other languages.
        pytest: version of pytest; empty if it is not installed.
        hash_seed: Python's hash seed, which determines the order of sets.
    """

    names: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    entries: tuple[tuple[str, str], ...] = ()
    folders: tuple[str, ...] = ()
    tools: tuple[tuple[str, str], ...] = ()
    pytest: str = ""
    hash_seed: int = 0

    @property
    def binds(self) -> list[tuple[str, str]]:
        """Pairs (path here, path in the sandbox)."""
        binds = [(source, f"{PACKAGES}/{name}") for source, name in self.entries]
        binds += zip(self.folders, self.search_path[-len(self.folders) :], strict=False)
        # Debian's numpy finds its linear algebra through these links.
        if self.names and Path("/etc/alternatives").is_dir():
            binds.append(("/etc/alternatives", "/etc/alternatives"))
        return list(dict.fromkeys([*binds, *self.tools]))

    @property
    def search_path(self) -> list[str]:
        """The sandbox's directories to search for modules."""
        own = [PACKAGES] if self.entries else []
        return [*own, *(f"{PACKAGES}/.{number}" for number in range(len(self.folders)))]

    @property
    def environment(self) -> dict[str, str]:
        """Settings for Python and for the packages' libraries: one thread, since a
        multithreaded process cannot be forked, and a job has one processor.
        """
        threads = {f"{name}_NUM_THREADS": "1" for name in _ONE_THREAD if self.names}
        return {"PYTHONHASHSEED": str(self.hash_seed), **threads}

    @functools.cached_property
    def _links(self) -> tempfile.TemporaryDirectory[str]:
        folder = tempfile.TemporaryDirectory(prefix="codegen-packages-")
        for source, name in self.entries:
            Path(folder.name, name).symlink_to(source)
        return folder

    def search_path_without_sandbox(self) -> list[str]:
        """Returns a search path without mounts: links in a directory until :meth:`close`."""
        return [*([self._links.name] if self.entries else []), *self.folders]

    def close(self) -> None:
        """Removes the links."""
        if "_links" in vars(self):
            vars(self).pop("_links").cleanup()

    def hint(self, message: str) -> str:
        """Adds a remedy to a program's message about a missing package that is installed here."""
        found = _MISSING.search(message)
        if not found or not _is_installed(found[1]):
            return message
        return (
            f"{message} (it is installed here, but programs can import only requested packages: "
            f"--packages {','.join((*self.names, found[1]))})"
        )


@functools.lru_cache(maxsize=256)
def _is_installed(module: str) -> bool:
    try:
        return module not in sys.stdlib_module_names and bool(importlib.util.find_spec(module))
    except (ImportError, ValueError):
        return False


def find_packages(names: Sequence[str]) -> Packages:
    """Finds distributions (``numpy``), by their own or their module's name, with their
    requirements; and directories (a name with a slash).

    Raises:
        ConfigError: for a package that is not installed, or installed in editable mode.
    """
    entries: dict[str, str] = {}
    versions: dict[str, str] = {}
    modules: list[str] = []
    folders: list[str] = []
    for name in dict.fromkeys(names):
        if "/" in name:
            folder = Path(name).expanduser()
            if not folder.is_dir():
                raise ConfigError(f"{name} is not a directory.", "Pass a directory with modules.")
            folders.append(str(folder.resolve()))
            versions[str(folder.resolve())] = "directory"
            continue
        distribution = _distribution(name)
        modules += _modules(distribution)
        for found in _with_required(distribution):
            versions[found.metadata["Name"]] = found.version
            entries |= _entries(found)
    return Packages(
        tuple(dict.fromkeys(names)),
        tuple(modules),
        dict(sorted(versions.items())),
        tuple((source, name) for name, source in sorted(entries.items())),
        tuple(folders),
    )


def with_pytest(packages: Packages) -> Packages:
    """Adds pytest, if installed; it is imported only if used."""
    try:
        own = _distribution(PYTEST)
        entries = {
            name: path for found in _with_required(own) for name, path in _entries(found).items()
        }
    except ConfigError:
        return packages
    entries |= {name: path for path, name in packages.entries}
    return replace(
        packages,
        entries=tuple((path, name) for name, path in sorted(entries.items())),
        modules=tuple(name for name in packages.modules if name not in (PYTEST, f"_{PYTEST}")),
        pytest=own.version,
    )


def _distribution(name: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        providers = importlib.metadata.packages_distributions().get(name)
    if not providers:
        raise ConfigError(
            f"The package {name!r} is not installed in this environment.",
            f"Install it (pip install {name}), or pass its directory, with a slash.",
        )
    return importlib.metadata.distribution(providers[0])


def _with_required(
    distribution: importlib.metadata.Distribution,
) -> Iterable[importlib.metadata.Distribution]:
    """Yields a distribution and its installed requirements, without its extras."""
    seen: set[str] = set()
    waiting = [distribution]
    while waiting:
        found = waiting.pop()
        if found.metadata["Name"] in seen:
            continue
        seen.add(found.metadata["Name"])
        yield found
        for line in found.requires or ():
            requirement, _, marker = line.partition(";")
            if "extra" in marker:
                continue
            name = re.match(r"\s*([\w.-]+)", requirement)
            try:
                waiting.append(importlib.metadata.distribution(name[1] if name else ""))
            except (importlib.metadata.PackageNotFoundError, ValueError):
                continue  # for another platform or Python version


def _entries(distribution: importlib.metadata.Distribution) -> dict[str, str]:
    """Returns name -> path of a distribution's top-level files and folders."""
    found = {}
    for file in distribution.files or ():
        name = file.parts[0]
        path = Path(str(distribution.locate_file(name)))
        if name not in ("..", "__pycache__") and not name.endswith(".pth") and path.exists():
            found[name] = str(path.resolve())
    if not any(not name.endswith((".dist-info", ".egg-info")) for name in found) or any(
        name.startswith("__editable__") for name in found
    ):
        raise ConfigError(
            f"The package {distribution.metadata['Name']!r} is installed in editable mode.",
            "Install it without -e, or pass the directory of its modules, with a slash.",
        )
    return found


def _modules(distribution: importlib.metadata.Distribution) -> list[str]:
    """Returns the importable top-level names that a distribution provides."""
    names = []
    for name, path in _entries(distribution).items():
        module = name.removesuffix(".py")
        if module.isidentifier() and (name.endswith(".py") or Path(path, "__init__.py").exists()):
            names.append(module)
    return names
