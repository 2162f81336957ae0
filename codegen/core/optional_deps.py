"""Optional dependencies of codegen-toolkit and the extras that install them.

The base package covers data from programs (LintSeq and the other generators), scoring in the
sandbox, models on servers, and SQL checks. Modules import optional packages where they use them;
the command line reports a missing one in a line that names the extra.
"""

from __future__ import annotations

from importlib.util import find_spec

from codegen.core.errors import MachineError

# (extra, purpose of its modules, their names)
_PARTS = (
    ("models", "models in this process", "torch transformers safetensors tokenizers"),
    ("models", "the embedded model's weights", "gguf"),
    ("models", "models from the Hugging Face hub", "huggingface_hub"),
    ("models", "adapters, several GPUs", "peft accelerate"),
    ("quant", "4-bit and 8-bit weights", "bitsandbytes"),
    ("data", "hub datasets, Parquet files", "datasets pyarrow"),
    ("data", "near duplicates in data", "datasketch"),
    ("vllm", "serving at scale", "vllm"),
    ("ray", "data generation and scoring on a cluster", "ray"),
    ("gpu", "GPU kernels", "triton"),
    ("gguf", "GGUF files with llama.cpp", "xllamacpp"),
    ("rl", "preference and reward training", "trl"),
    ("duckdb", "DuckDB databases for sqlnet", "duckdb"),
    ("servers", "PostgreSQL and MySQL databases for sqlnet", "sqlalchemy psycopg pymysql"),
    ("git", "git histories as data", "pygit2"),
    ("serve", "completions for editors", "pygls lsprotocol pathspec"),
    ("serve", "servers over HTTP, the viewer", "uvicorn starlette prometheus_client"),
    ("languages", "edit sequences in C", "tree_sitter_c"),
    ("languages", "edit sequences in C++", "tree_sitter_cpp"),
    ("languages", "edit sequences in Go", "tree_sitter_go"),
    ("languages", "edit sequences in Java", "tree_sitter_java"),
    ("languages", "edit sequences in JavaScript", "tree_sitter_javascript"),
    ("languages", "edit sequences in Rust", "tree_sitter_rust"),
    ("languages", "edit sequences in TypeScript", "tree_sitter_typescript"),
    ("mcp", "tools for agents", "mcp"),
    ("grammar", "grammar-constrained decoding", "llguidance"),
)
# Module -> (extra, purpose).
EXTRAS = {module: (extra, what) for extra, what, modules in _PARTS for module in modules.split()}


def command_for(module: str) -> str:
    """Returns the command that installs a module of :data:`EXTRAS`."""
    return f"pip install 'codegen-toolkit[{EXTRAS[module][0]}]'"


def missing(module: str, message: str = "") -> MachineError:
    """Returns the error for a module of :data:`EXTRAS` that is not installed.

    Args:
        message: the problem; by default the missing module and its purpose.
    """
    return MachineError(
        message or f"{module} is not installed (for {EXTRAS[module][1]}).",
        f"Install it with: {command_for(module)}",
    )


def require(*modules: str) -> None:
    """Checks that modules of :data:`EXTRAS` are installed, without importing them.

    Raises:
        MachineError: if one is missing; names the first.
    """
    for module in modules:
        if find_spec(module) is None:
            raise missing(module)


def explain(error: BaseException) -> MachineError | None:
    """Returns the error for a missing extra in an exception or its causes, else None."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, ModuleNotFoundError):
            root = (cause.name or "").partition(".")[0]
            if root in EXTRAS and find_spec(root) is None:
                return missing(root)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return None
