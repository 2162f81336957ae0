"""What ``pip install codegen-toolkit`` leaves out, and the extra that brings it.

Without extras: data from programs (LintSeq and the other generators), scoring in the sandbox,
servers as models, and SQL's checks. Modules import the rest where they use it; the command line
turns a missing one into a line that names the extra.
"""

from __future__ import annotations

from importlib.util import find_spec

from codegen.errors import MachineError

# Module -> (extra, what it is for).
EXTRAS = {
    "torch": ("models", "models in this process"),
    "transformers": ("models", "models in this process"),
    "safetensors": ("models", "models in this process"),
    "gguf": ("models", "the embedded model's weights"),
    "huggingface_hub": ("models", "models of the Hugging Face hub"),
    "tokenizers": ("models", "models in this process"),
    "peft": ("models", "adapters, several GPUs"),
    "accelerate": ("models", "adapters, several GPUs"),
    "bitsandbytes": ("quant", "weights of 4 or 8 bits"),
    "datasets": ("data", "data sets of the hub, Parquet files"),
    "pyarrow": ("data", "data sets of the hub, Parquet files"),
    "datasketch": ("data", "near duplicates in data"),
    "vllm": ("vllm", "serving at scale"),
    "ray": ("ray", "data generation and scoring on a cluster"),
    "triton": ("gpu", "GPU kernels"),
    "xllamacpp": ("gguf", "GGUF files by llama.cpp"),
    "trl": ("rl", "preference and reward training"),
    "duckdb": ("duckdb", "DuckDB databases for sqlnet"),
    "sqlalchemy": ("servers", "PostgreSQL and MySQL databases for sqlnet"),
    "psycopg": ("servers", "PostgreSQL and MySQL databases for sqlnet"),
    "pymysql": ("servers", "PostgreSQL and MySQL databases for sqlnet"),
    "constraint": ("puzzles", "zebra puzzles"),
    "pygit2": ("git", "git histories as data"),
    "pygls": ("serve", "completions for editors"),
    "lsprotocol": ("serve", "completions for editors"),
    "pathspec": ("serve", "completions for editors"),
    "uvicorn": ("serve", "servers over HTTP, the viewer"),
    "starlette": ("serve", "servers over HTTP, the viewer"),
    "prometheus_client": ("serve", "servers over HTTP, the viewer"),
    "tree_sitter_c": ("languages", "edit sequences in C"),
    "tree_sitter_cpp": ("languages", "edit sequences in C++"),
    "tree_sitter_go": ("languages", "edit sequences in Go"),
    "tree_sitter_java": ("languages", "edit sequences in Java"),
    "tree_sitter_javascript": ("languages", "edit sequences in JavaScript"),
    "tree_sitter_rust": ("languages", "edit sequences in Rust"),
    "tree_sitter_typescript": ("languages", "edit sequences in TypeScript"),
    "mcp": ("mcp", "tools for agents"),
    "llguidance": ("grammar", "decoding within a grammar"),
}


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
