"""Our tasks under the name by which ``verifiers`` and prime-rl import them: ``codegen-tasks``."""

from codegen.adapters.verifiers import CodeEnv, CodeHarness, CodeTaskset

__all__ = ["CodeEnv", "CodeHarness", "CodeTaskset"]
