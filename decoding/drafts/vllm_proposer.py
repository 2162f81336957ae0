r"""Our drafts in vLLM, through its ``custom_class`` proposer; importable without vLLM and torch::

    vllm serve MODEL --worker-cls codegen.decoding.drafts.vllm_worker.DraftWorker \
        --speculative-config '{"method": "custom_class", "num_speculative_tokens": 16,
            "model": "codegen.decoding.drafts.vllm_proposer.DraftProposer"}'

Every request gets drafts from its own text and from past responses (``SuffixDrafter``). A request
that rewrites a file, or changes it by a diff, passes the file in ``extra_args`` of its
``SamplingParams`` (``vllm_xargs`` over HTTP); that file's drafts take precedence::

    {"original": "the text of the file"}      {"tenant": "owner of past responses to draft from"}

vLLM passes only tokens to a proposer; ``DraftWorker``, as vLLM's worker, provides access to the
requests. A proposer without it raises an error.

The settings are the same as for vLLM's suffix method: ``num_speculative_tokens``,
``suffix_decoding_max_spec_factor`` and ``_min_token_prob``, and ``_max_cached_requests``, 0 for no
past responses. A match has no maximum length, so ``_max_tree_depth`` has no effect.

Drafts are chains, as vLLM does not verify trees. Token recycling needs the target's logits and is
unsupported. A finished request is released at the batch's next step, so the last requests stay
until another request arrives.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen.core.errors import ConfigError
from codegen.decoding.drafts.chain import DrafterMaker
from codegen.decoding.drafts.planner import PlannedDrafter
from codegen.decoding.drafts.protocol import Context
from codegen.decoding.healing import Vocabulary, read_vllm_tokenizer
from codegen.decoding.suffix import SuffixStore

# Cost of a drafted token in passes of one token: vLLM does not pass timings to a proposer.
_CPU_TOKEN_COST = 0.1
_GPU_TOKEN_COST = 0.01
_ALONE = ("suffix",)
_EDITING = ("cursor", "diff", "suffix")
_STORE_TOKENS = 1 << 24  # maximum tokens of past responses, about 280 MB
_CHARACTERS = 32  # maximum characters of an original per token of the model's context


@dataclass(slots=True)
class _Row:
    """A request's drafters, and the tokens that they have processed."""

    chain: PlannedDrafter
    tokens: array[int]

    def begins(self, tokens: np.ndarray) -> bool:
        """Returns True if tokens, int32 [n], begin with this row's tokens."""
        return np.array_equal(np.frombuffer(self.tokens, np.int32), tokens[: len(self.tokens)])


class DraftProposer:
    """Proposer of a batch's drafts; vLLM creates one per worker.

    Args:
        vllm_config: vLLM's config; its tokenizer is loaded with the first original.

    Attributes:
        suffix_options: options of the suffix drafters; ``store`` has past responses, if kept.
        rows: state of the drafted requests, by vLLM's request id.
    """

    def __init__(self, vllm_config: Any) -> None:
        config = vllm_config.speculative_config
        self._model_config = vllm_config.model_config
        on_cpu = vllm_config.device_config.device_type == "cpu"
        self._token_cost = _CPU_TOKEN_COST if on_cpu else _GPU_TOKEN_COST
        self._limit: int = config.num_speculative_tokens
        self._longest: int = vllm_config.model_config.max_model_len
        self.suffix_options: dict[str, Any] = {
            "factor": config.suffix_decoding_max_spec_factor,
            "min_probability": config.suffix_decoding_min_token_prob,
        }
        kept: int = config.suffix_decoding_max_cached_requests
        if kept > 0:
            self.suffix_options["store"] = SuffixStore(min(kept * self._longest, _STORE_TOKENS))
        self._no_text = DrafterMaker(lambda _: [], lambda _: "", frozenset())
        self._text: DrafterMaker | None = None
        self._runner: Any = None
        self.rows: dict[Any, _Row] = {}

    def load_model(self, *_: Any, **__: Any) -> None:
        """Does nothing: no model needs loading, but vLLM calls this."""

    def bind(self, runner: Any) -> None:
        """Attaches the batch's requests to the proposer."""
        self._runner = runner

    def propose(
        self,
        sampled_token_ids: Sequence[Sequence[int]],
        num_tokens_no_spec: np.ndarray,
        token_ids_cpu: np.ndarray,
        slot_mappings: Any = None,
    ) -> list[list[int]]:
        """Returns one draft, which may be empty, for each request of the batch.

        Args:
            sampled_token_ids: the latest tokens of each request; empty while its prompt is encoded.
            num_tokens_no_spec: int [R], each request's number of tokens, including the latest.
            token_ids_cpu: int32 [R, max_model_len], the tokens.
            slot_mappings: unused.
        """
        grown = [number for number, sampled in enumerate(sampled_token_ids) if sampled]
        tokens = {number: token_ids_cpu[number, : num_tokens_no_spec[number]] for number in grown}
        if self._runner is None:
            raise ConfigError(
                "DraftProposer has no access to vLLM's requests.",
                "Add --worker-cls codegen.decoding.drafts.vllm_worker.DraftWorker.",
            )
        known = self._known_rows(tokens)
        drafts: list[list[int]] = [[] for _ in sampled_token_ids]
        for number in grown:
            row = known.get(number)
            if row is None:
                row = known[number] = self._begin(number, tokens[number])
            new = tokens[number][len(row.tokens) :]
            row.tokens.frombytes(np.ascontiguousarray(new, np.int32).tobytes())
            row.chain.accept(new.tolist())
            most = min(self._limit, self._longest - len(row.tokens) - 1, self._left(number, row))
            if most > 0:
                drafts[number] = row.chain.draft(most).tokens
        keys = self._runner.input_batch.req_ids
        self.rows.update((keys[number], row) for number, row in known.items())
        return drafts

    def _known_rows(self, tokens: Mapping[int, np.ndarray]) -> dict[int, _Row]:
        """Returns the batch's known rows; releases rows whose request has ended."""
        for ended in self.rows.keys() - self._runner.requests.keys():
            self.rows.pop(ended).chain.finish()
        known: dict[int, _Row] = {}
        for number, there in tokens.items():
            row = self.rows.get(self._runner.input_batch.req_ids[number])
            if row is not None and row.begins(there):
                known[number] = row
        return known

    def _begin(self, number: int, tokens: np.ndarray) -> _Row:
        # A request that vLLM preempted comes back with its output.
        prompt = tokens[: self._runner.input_batch.num_prompt_tokens[number]]
        said: Mapping[str, Any] = self._params(number).extra_args or {}
        original, tenant = said.get("original"), said.get("tenant")
        tenant = tenant if isinstance(tenant, str | int) else None
        if original and isinstance(original, str):
            text = original[: _CHARACTERS * self._longest].encode("utf-8", "replace").decode()
            chain = self._maker().chain(_EDITING, **self.suffix_options)
            context = self._maker().context(text, tenant)
        else:
            chain = self._no_text.chain(_ALONE, **self.suffix_options)
            context = Context(tenant=tenant)
        planned = PlannedDrafter(chain, self._token_cost)
        planned.begin(prompt.tolist(), context)
        return _Row(planned, array("i", prompt.tolist()))

    def _left(self, number: int, row: _Row) -> int:
        """Returns the number of tokens that may be drafted within the request's limit."""
        if (most := self._params(number).max_tokens) is None:
            return self._limit
        prompt = int(self._runner.input_batch.num_prompt_tokens[number])
        return prompt + most - len(row.tokens) - 1

    def _params(self, number: int) -> Any:
        return self._runner.requests[self._runner.input_batch.req_ids[number]].sampling_params

    def _maker(self) -> DrafterMaker:
        if self._text is None:
            tokenizer = read_vllm_tokenizer(self._model_config)
            self._text = DrafterMaker.of(tokenizer, Vocabulary.of(tokenizer).tokens)
        return self._text
