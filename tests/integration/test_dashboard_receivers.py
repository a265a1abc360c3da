"""The receivers that the dashboard shows beside a secret run as they are, and verify."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import shutil
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.acceptance.waiting import eventually
from tests.receiver import free_port

RECEIVERS = Path(__file__).parents[2] / "dispatcher" / "dashboard" / "receivers"
SECRET = "whsec_c2VjcmV0IHNlY3JldA=="
BODY = '{"type":"event.detected","data":{"depth_km":10,"at":"Él"}}'.encode()


@pytest.mark.parametrize(("name", "program"), [("node", shutil.which("node")), ("python", sys.executable)])
async def test_a_receiver_takes_what_is_signed_and_nothing_else(
    name: str, program: str | None, tmp_path: Path
) -> None:
    """200 for the very bytes under the secret; 401 for another body, another secret, or no signature."""
    if program is None:
        pytest.skip("no node on the PATH")
    script = tmp_path / ("receiver.mjs" if name == "node" else "receiver.py")
    script.write_bytes((RECEIVERS / f"{name}.txt").read_bytes())
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        program,
        str(script),
        env={"PATH": os.environ["PATH"], "PORT": str(port), "SECRET": SECRET},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as session:

            async def post(body: bytes, signature: str | None) -> int:
                headers = {"X-Grillo-Delivery": "dlv_1", "Content-Type": "application/json"}
                if signature is not None:
                    headers["X-Grillo-Signature"] = signature
                async with session.post(f"http://127.0.0.1:{port}/", data=body, headers=headers) as response:
                    return response.status

            async def listens() -> bool:
                try:
                    return await post(b"", None) == 401
                except aiohttp.ClientConnectionError:
                    return False

            await eventually(listens, f"{name} listens", 30)
            # Who hangs up in the midst of a body, a port scanner for one, ends nothing.
            _, half = await asyncio.open_connection("127.0.0.1", port)
            half.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
            await half.drain()
            half.close()
            await half.wait_closed()
            signature = "sha256=" + hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()
            assert 200 == await post(BODY, signature)
            assert process.stdout is not None
            assert b"dlv_1 event.detected" in await process.stdout.readline()
            for body, given in (
                (BODY + b" ", signature),
                (BODY, signature[:-1] + "0" if signature[-1] != "0" else signature[:-1] + "1"),
                (BODY, "é" * 36),
                (BODY, ""),
                (BODY, None),
            ):
                assert 401 == await post(body, given)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize(("name", "program"), [("node", shutil.which("node")), ("python", sys.executable)])
def test_no_receiver_starts_without_a_secret(name: str, program: str | None, tmp_path: Path) -> None:
    """With an empty key anybody could sign: it says so, and ends."""
    if program is None:
        pytest.skip("no node on the PATH")
    script = tmp_path / ("receiver.mjs" if name == "node" else "receiver.py")
    script.write_bytes((RECEIVERS / f"{name}.txt").read_bytes())
    for environ in ({}, {"SECRET": ""}):
        given = {"PATH": os.environ["PATH"], "PORT": str(free_port()), **environ}
        ended = subprocess.run([program, script], env=given, capture_output=True, timeout=30, check=False)
        assert 0 != ended.returncode
        assert b"SECRET is not set" in ended.stderr
