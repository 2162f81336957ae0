"""Counter-based Gumbel noise inside kernels; ``codegen.kernels.philox`` is its plain version."""

# Triton's language and launches are typed for its compiler only.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def gumbel(seed, request, position, token, STREAM: tl.constexpr):
    """Standard Gumbel variables, float32, of the shape of ``token`` (int32)."""
    zero = token * 0
    word, _, _, _ = tl.philox(
        seed, token, zero + position.to(tl.int32), zero + request.to(tl.int32), zero + STREAM
    )
    v = (word.to(tl.float32) + 0.5) * 2.3283064365386963e-10  # 2^-32
    v = tl.minimum(v, 0.99999994)  # 1 - 2^-24
    rest = 1.0 - v
    exponential = tl.where(rest == 1.0, v, tl.log(rest) * v / (rest - 1.0))
    return -tl.log(exponential)
