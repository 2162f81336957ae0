"""The rules in vLLM, through both of its interfaces; importable without vLLM.

``VllmPenalties`` is a processor of a whole batch (vLLM's V1 interface)::

    vllm serve MODEL --logits_processors codegen.decoding.rpg.vllm_processors:VllmPenalties

It does nothing to a request that does not ask. One asks by ``extra_args`` of its ``SamplingParams``
(``vllm_xargs`` over HTTP), the name of a method with its options::

    {"rpg": {"language": "go", "k_min": 5}}     {"rpg": "language=go,k_min=5"}     {"rpg": true}

``RequestPenalties`` is a callable for one request (prompt tokens, output tokens, logits [V]), for
vLLM's ``AdapterLogitsProcessor`` and for servers that take such callables.

Limits: vLLM refuses its custom processors together with speculative decoding, and pooling models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from codegen.decoding.healing import Vocabulary
from codegen.decoding.rpg.follower import Follower
from codegen.decoding.rpg.methods import Method
from codegen.decoding.rpg.options import METHODS, Options, read_options
from codegen.decoding.rpg.rules import apply
from codegen.errors import ConfigError

if TYPE_CHECKING:
    _Base = object
else:
    try:
        from vllm.v1.sample.logits_processor import LogitsProcessor as _Base
    except ImportError:
        _Base = object


def requested(extra_args: Mapping[str, Any] | None) -> Options | None:
    """The settings that a request asks for, None if it asks for none.

    Raises:
        ConfigError: for two methods at once, or an option that is wrong.
    """
    asked = [name for name in extra_args or () if name in METHODS]
    if not asked:
        return None
    if len(asked) > 1:
        raise ConfigError(f"A request can have one of {', '.join(asked)}, not {len(asked)}.")
    assert extra_args is not None
    name, given = asked[0], extra_args[asked[0]]
    if given is False or given is None:
        return None
    if given is True or given in ("", "true"):
        given = {}
    elif isinstance(given, str):
        pairs = [part.partition("=") for part in given.split(",")]
        given = {key.strip(): value.strip() for key, _, value in pairs}
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"The options of {name} are {given!r}.",
            "Give an object, or text as key=value,key=value.",
        )
    return read_options(name, given)


class RequestPenalties:
    """One request's penalties, as a callable.

    Args:
        method: the rule.
    """

    def __init__(self, method: Method) -> None:
        self._method = method
        self._follower: Follower | None = None
        self._prompt: list[int] = []

    def __call__(
        self, prompt_ids: Sequence[int], output_ids: Sequence[int], logits: torch.Tensor
    ) -> torch.Tensor:
        """Logits [V] after the prompt and the output so far; they are changed in place."""
        if self._follower is None or self._prompt != list(prompt_ids):
            self._prompt = list(prompt_ids)
            self._follower = Follower(self._method, self._prompt)
        apply(logits[None], [self._follower.penalties(list(output_ids))])
        return logits


class VllmPenalties(_Base):
    """A batch's penalties; vLLM makes it, one an engine.

    Args:
        vllm_config: vLLM's; the tokenizer that it names is read when the first request asks.
        device, is_pin_memory: not needed.
    """

    def __init__(self, vllm_config: Any, device: Any = None, is_pin_memory: bool = False) -> None:
        self._model_config = vllm_config.model_config
        self._tokens: Sequence[bytes | None] | None = None
        self._eos: frozenset[int] = frozenset()
        self._methods: dict[Options, Method] = {}
        # By the request's place in the batch; the list is vLLM's own and grows.
        self._requests: dict[int, tuple[Follower, Sequence[int]]] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuses a request with options that are wrong.

        Raises:
            ValueError: which vLLM answers with status 400.
        """
        try:
            requested(sampling_params.extra_args)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    def is_argmax_invariant(self) -> bool:
        """It changes what greedy decoding takes."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follows requests that leave, come and change places, in vLLM's order."""
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._requests.pop(index, None)
        for index, params, prompt_ids, output_ids in batch_update.added:
            self._requests.pop(index, None)
            options = requested(params.extra_args)
            if options is not None:
                follower = Follower(self._method(options), list(prompt_ids or ()))
                self._requests[index] = (follower, output_ids)
        for one, other, direction in batch_update.moved:
            moving, displaced = self._requests.pop(one, None), self._requests.pop(other, None)
            if moving is not None:
                self._requests[other] = moving
            if displaced is not None and direction.name == "SWAP":
                self._requests[one] = displaced

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits [B, V]; they are changed in place."""
        if self._requests:
            none: tuple[()] = ()
            by_row: list[Any] = [none] * len(logits)
            for index, (follower, output_ids) in self._requests.items():
                by_row[index] = follower.penalties(list(output_ids))
            apply(logits, by_row)
        return logits

    def _method(self, options: Options) -> Method:
        if options not in self._methods:
            if self._tokens is None:
                self._read_tokenizer()
            assert self._tokens is not None
            self._methods[options] = Method.of(options, self._tokens, self._eos)
        return self._methods[options]

    def _read_tokenizer(self) -> None:
        from transformers import AutoTokenizer

        config = self._model_config
        tokenizer = AutoTokenizer.from_pretrained(
            config.tokenizer,
            revision=getattr(config, "tokenizer_revision", None),
            trust_remote_code=bool(getattr(config, "trust_remote_code", False)),
        )
        self._tokens = Vocabulary.of(tokenizer).tokens
        ends: set[int] = set()
        for source in (tokenizer, getattr(config, "hf_config", None)):
            value = getattr(source, "eos_token_id", None)
            ends.update(value if isinstance(value, list) else [] if value is None else [value])
        self._eos = frozenset(ends)
