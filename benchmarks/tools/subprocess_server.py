"""A minimal server of ``/run_code``: one interpreter process for each program.

Run it as ``python subprocess_server.py PORT PROCESSES``. It has no sandbox and only a time limit,
and uses only the standard library. It is a peer in :mod:`codegen.benchmarks.sandbox_service`.
"""

import asyncio
import json
import sys
import time


async def run(body, room):
    """Runs a program; the answer has SandboxFusion's fields."""
    async with room:
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", body["code"]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        late = False
        try:
            given = (body.get("stdin") or "").encode()
            out, err = await asyncio.wait_for(process.communicate(given), body["run_timeout"])
        except TimeoutError:
            process.kill()
            out, err = await process.communicate()
            late = True
    code = None if late else process.returncode
    result = {
        "status": "TimeLimitExceeded" if late else "Finished",
        "execution_time": time.perf_counter() - began,
        "return_code": code,
        "stdout": out.decode(errors="replace"),
        "stderr": err.decode(errors="replace"),
    }
    return {"status": "Success" if code == 0 else "Failed", "run_result": result}


async def main(port, processes):
    """Serves forever."""
    room = asyncio.Semaphore(processes)

    async def serve(reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
                answer = await run(json.loads(await reader.readexactly(length)), room)
                data = json.dumps(answer).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=1 << 24, backlog=256)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
