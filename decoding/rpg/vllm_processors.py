"""The rules in vLLM, for both of its model runners; importable without vLLM.

``VllmPenalties`` processes whole batches. It has the interfaces of runners V1 and V2; vLLM
uses V2 if Triton has a device::

    vllm serve MODEL --logits-processors codegen.decoding.rpg.vllm_processors:VllmPenalties

It changes only requests that name a method, with its options, in ``extra_args`` of their
``SamplingParams`` (``vllm_xargs`` over HTTP)::

    {"rpg": {"language": "go", "k_min": 5}}     {"rpg": "language=go,k_min=5"}     {"rpg": true}

Limits: runner V1 rejects custom processors with speculative decoding, and both reject pooling
models. The rules run on the host: in V2 each step waits for the model's input tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from codegen.core.errors import ConfigError
from codegen.decoding.healing import Vocabulary, read_vllm_tokenizer
from codegen.decoding.rpg import METHODS, Options, read_options
from codegen.decoding.rpg.methods import Follower, Method
from codegen.decoding.rpg.penalties import Penalty, apply

if TYPE_CHECKING:

    class _V1: ...

    class _V2: ...

else:
    try:
        from vllm.v1.sample.logits_processor import LogitsProcessor as _V1
    except ImportError:

        class _V1: ...

    try:
        from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as _V2
    except ImportError:

        class _V2: ...


def requested(extra_args: Mapping[str, Any] | None) -> Options | None:
    """Returns the settings that a request selects; None if none.

    Raises:
        ConfigError: if the request names two methods or has a wrong option.
    """
    asked = [name for name in extra_args or () if name in METHODS]
    if not asked:
        return None
    if len(asked) > 1:
        raise ConfigError(f"A request can use only one of {', '.join(asked)}.")
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
            f"The options of {name} are {given!r}, which is neither an object nor a string.",
            "Pass an object, or a string such as key=value,key=value.",
        )
    return read_options(name, given)


class VllmPenalties(_V1, _V2):
    """Logits processor for a whole batch; vLLM creates one per engine, for either model runner.

    Args:
        vllm_config: vLLM's config; its tokenizer is loaded when a request first names a method.
        state: V2: the requests' tokens; V1: the device, unused.
        is_pin_memory: V1 only, unused.
    """

    def __init__(self, vllm_config: Any, state: Any = None, is_pin_memory: bool = False) -> None:
        self._model_config = vllm_config.model_config
        self._state = state
        self._tokens: Sequence[bytes | None] | None = None
        self._eos: frozenset[int] = frozenset()
        self._methods: dict[Options, Method] = {}
        # V1: by the request's index in the batch; vLLM owns and grows the list.
        self._requests: dict[int, tuple[Follower, Sequence[int]]] = {}
        # V2: by the request's slot.
        self._slots: dict[int, _Slot] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Rejects a request with wrong options.

        Raises:
            ValueError: if an option is wrong; vLLM responds with status 400.
        """
        try:
            requested(sampling_params.extra_args)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    def is_argmax_invariant(self) -> bool:
        """Returns False, as penalties change greedy decoding."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """V1: applies removals, additions and moves of requests, in vLLM's order."""
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

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """V2: assigns a slot to a request; returns True if it has penalties."""
        options = requested(sampling_params.extra_args)
        if options is None:
            self._slots.pop(req_idx, None)
            return False
        self._slots[req_idx] = _Slot(self._method(options))
        return True

    def apply(self, logits: torch.Tensor, context: Any = None) -> torch.Tensor:
        """Changes logits [B, V] in place.

        Args:
            logits: logits of the batch.
            context: V2's batch layout, with one row per drafted token of a request.
        """
        none: tuple[()] = ()
        by_row: list[Sequence[Penalty]] = [none] * len(logits)
        if context is None:
            for index, (follower, output_ids) in self._requests.items():
                by_row[index] = follower.penalties(list(output_ids))
        elif self._slots.keys() & set(context.idx_mapping_np.tolist()):
            layout = (context.expanded_idx_mapping, context.pos, context.input_ids)
            # The only transfer to the host.
            rows = zip(*torch.stack([part.long() for part in layout]).tolist(), strict=True)
            for row, (index, position, token) in enumerate(rows):
                if slot := self._slots.get(index):
                    by_row[row] = slot.penalties(position, token, self._text(index))
        if any(by_row):
            apply(logits, by_row)
        return logits

    def _text(self, index: int) -> Callable[[int, int], list[int]]:
        tokens = self._state.all_token_ids.gpu
        return lambda start, end: tokens[index, start:end].tolist()

    def _method(self, options: Options) -> Method:
        if options not in self._methods:
            if self._tokens is None:
                self._read_tokenizer()
            assert self._tokens is not None
            self._methods[options] = Method.of(options, self._tokens, self._eos)
        return self._methods[options]

    def _read_tokenizer(self) -> None:
        tokenizer = read_vllm_tokenizer(self._model_config)
        self._tokens = Vocabulary.of(tokenizer).tokens
        ends: set[int] = set()
        for source in (tokenizer, getattr(self._model_config, "hf_config", None)):
            value = getattr(source, "eos_token_id", None)
            ends.update(value if isinstance(value, list) else [] if value is None else [value])
        self._eos = frozenset(ends)


class _Slot:
    """State of a request in runner V2.

    The text is assembled from the model's input: a step's rows are the last accepted token and the
    drafted tokens, one per position. Positions of rejected tokens are fed again.
    """

    def __init__(self, method: Method) -> None:
        self._method = method
        self._follower: Follower | None = None
        self._start = 0  # number of tokens before ``_tokens``
        self._tokens: list[int] = []  # the later tokens, including drafts

    def penalties(
        self, position: int, token: int, text: Callable[[int, int], list[int]]
    ) -> Sequence[Penalty]:
        """Returns the penalties of the row that was fed ``token`` at ``position``.

        Args:
            position, token: the model's input.
            text: reads the accepted tokens between two positions from the device; used when the
                request begins, and for chunked prompts.
        """
        if self._follower is None or position < self._start:
            self._follower = Follower(self._method, [*text(0, position), token])
            self._start, self._tokens = position + 1, []
            return self._follower.penalties(self._tokens)
        known = position - self._start
        if known > len(self._tokens):
            self._tokens += text(self._start + len(self._tokens), position)
        del self._tokens[known:]
        self._tokens.append(token)
        return self._follower.penalties(self._tokens)
