"""Programs in other languages through the service; those that are installed here."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from codegen.core.errors import SandboxError
from codegen.sandbox import Job, Sandbox, ScriptJob
from codegen.sandbox.client import SandboxClient
from codegen.sandbox.languages import HELLO, installed
from tests.server.conftest import Served
from tests.server.sandbox.conftest import serving

HERE = tuple(found.language.name for found in installed())
PICKED = tuple(name for name in ("bash", "perl", "javascript", "cpp") if name in HERE)
# Of a program that reads a number n from standard input: prints n + 1, a word on standard error,
# leaves a file, and ends with exit code 3.
PROGRAMS = {
    "bash": "read n; echo $((n + 1)); echo no >&2; echo left > out; exit 3\n",
    "perl": "my $n = <STDIN>; print $n + 1, qq(\\n); print STDERR qq(no\\n); "
    "open(F, '>', 'out'); print F qq(left\\n); close(F); exit 3;\n",
    "javascript": "const fs = require('fs'); const n = Number(fs.readFileSync(0, 'utf8'));\n"
    "console.log(n + 1); console.error('no'); fs.writeFileSync('out', 'left\\n');\n"
    "process.exit(3);\n",
    "cpp": "#include <fstream>\n#include <iostream>\nint main() { int n; std::cin >> n;\n"
    'std::cout << n + 1 << "\\n"; std::cerr << "no\\n"; std::ofstream("out") << "left\\n";\n'
    "return 3; }\n",
}
BROKEN = {"cpp": "int main() { return x; }\n"}


@pytest.fixture(scope="module")
def many() -> Iterator[Served]:
    if not PICKED:
        pytest.skip("no compiler or interpreter of another language is installed")
    try:
        with Sandbox(workers=1, languages=PICKED) as sandbox, serving(sandbox) as served:
            yield served
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", PICKED)
def test_run_code(many: Served, name: str) -> None:
    body = {"code": PROGRAMS[name], "language": name, "stdin": "41\n", "fetch_files": ["out"]}
    if name == "javascript":
        body["language"] = "nodejs"  # as SandboxFusion calls it
    row = httpx.post(f"{many.url}/run_code", json=body, timeout=60).json()
    assert row["status"] == "Failed"
    result = row["run_result"]
    assert (result["return_code"], result["stdout"], result["stderr"]) == (3, "42\n", "no\n")
    assert row["files"] == {"out": "bGVmdAo="}
    compiled = row["compile_result"]
    assert (compiled is not None and compiled["return_code"] == 0) == (name == "cpp")


@pytest.mark.parametrize("name", [name for name in PICKED if name in BROKEN])
def test_what_cannot_be_compiled(many: Served, name: str) -> None:
    body = {"code": BROKEN[name], "language": name}
    row = httpx.post(f"{many.url}/run_code", json=body, timeout=60).json()
    assert (row["status"], row["run_result"], row["message"]) == ("Failed", None, "")
    compiled = row["compile_result"]
    assert (compiled["status"], compiled["return_code"]) == ("Finished", 1)
    assert "x" in compiled["stderr"]
    with SandboxClient(many.url) as client:
        assert client.run(ScriptJob(BROKEN[name], language=name)).status == "compile_error"


@pytest.mark.parametrize("name", PICKED)
def test_verdicts(many: Served, name: str) -> None:
    with SandboxClient(many.url) as client:
        for expected, status in (("hello", "passed"), ("other", "wrong")):
            job = Job(HELLO[name], mode="stdio", expected_stdout=expected, language=name)
            outcome = client.run(job)
            assert (outcome.status, outcome.trust) == (status, "stdio")
        assert name in client.describe()["languages"]


def test_a_language_that_is_not_served_is_refused(many: Served) -> None:
    for name in ("cobol", "haskell", "sql"):
        response = httpx.post(f"{many.url}/run_code", json={"code": "", "language": name})
        assert response.status_code == 422
        assert "python" in response.json()["detail"]
        response = httpx.post(f"{many.url}/v1/judge", json={"program": "x", "language": name})
        assert response.status_code == 422
        assert PICKED[0] in response.json()["error"]["message"]
