"""What ``pip install codegen-toolkit`` leaves out, and the extra that brings it.

Without extras: data from programs (LintSeq and the other generators), scoring in the sandbox,
servers as models, and SQL's checks. Modules import the rest where they use it; the command line
turns a missing one into a line that names the extra.
"""

from __future__ import annotations

from importlib.util import find_spec

from codegen.errors import MachineError

# Extra, what its modules are for, and their names.
_PARTS = (
    ("models", "models in this process", "torch transformers safetensors tokenizers"),
    ("models", "the embedded model's weights", "gguf"),
    ("models", "models of the Hugging Face hub", "huggingface_hub"),
    ("models", "adapters, several GPUs", "peft accelerate"),
    ("quant", "weights of 4 or 8 bits", "bitsandbytes"),
    ("data", "data sets of the hub, Parquet files", "datasets pyarrow"),
    ("data", "near duplicates in data", "datasketch"),
    ("vllm", "serving at scale", "vllm"),
    ("ray", "data generation and scoring on a cluster", "ray"),
    ("gpu", "GPU kernels", "triton"),
    ("gguf", "GGUF files by llama.cpp", "xllamacpp"),
    ("rl", "preference and reward training", "trl"),
    ("duckdb", "DuckDB databases for sqlnet", "duckdb"),
    ("servers", "PostgreSQL and MySQL databases for sqlnet", "sqlalchemy psycopg pymysql"),
    ("puzzles", "zebra puzzles", "constraint"),
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
    ("grammar", "decoding within a grammar", "llguidance"),
)
# Module -> (extra, what it is for).
EXTRAS = {module: (extra, what) for extra, what, modules in _PARTS for module in modules.split()}


def command_for(module: str) -> str:
    """The command that installs a module of :data:`EXTRAS`."""
    return f"pip install 'codegen-toolkit[{EXTRAS[module][0]}]'"


def missing(module: str, message: str = "") -> MachineError:
    """The error of a module of :data:`EXTRAS` that is not installed.

    Args:
        message: what needs it; by default what it is for.
    """
    return MachineError(
        message or f"{module} is not installed (for {EXTRAS[module][1]}).",
        f"Install it with: {command_for(module)}",
    )


def require(*modules: str) -> None:
    """Checks that modules of :data:`EXTRAS` are installed, without importing them.

    Raises:
        MachineError: naming the first that is not.
    """
    for module in modules:
        if find_spec(module) is None:
            raise missing(module)


def explain(error: BaseException) -> MachineError | None:
    """The message for an error caused by a missing extra, directly or below other errors."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, ModuleNotFoundError):
            root = (cause.name or "").partition(".")[0]
            if root in EXTRAS and find_spec(root) is None:
                return missing(root)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return None
