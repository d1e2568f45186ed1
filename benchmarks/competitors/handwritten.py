"""The device verifier as a good engineer would write it by hand: FastAPI, asyncpg, uvicorn.

It asks this project's own tables, and refuses what this project refuses: unknown and disabled
devices, revoked, expired and future secrets. It has no throttle, keeps no evidence of use, and
believes whoever calls.

Environment: DATABASE_URL; PEPPER in base64; RESET=off spares the round trip with which asyncpg's
pool by default cleans a connection after each use.
"""

import base64
import hashlib
import hmac
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, StrictInt, StrictStr

PEPPER = base64.urlsafe_b64decode(os.environ["PEPPER"])
CONTEXT = b"authsite pre-shared key v1\x00"
QUERY = """
SELECT d.enabled, k.digest,
       k.revoked_at IS NULL
       AND (k.not_before IS NULL OR k.not_before <= now())
       AND (k.not_after IS NULL OR k.not_after > now()) AS usable
FROM devices_device d
LEFT JOIN devices_presharedkey k ON k.device_id = d.id
WHERE d.identifier = $1
"""


class Question(BaseModel):
    """RTIO's request."""

    id: Annotated[StrictInt, Field(ge=0, lt=2**32)]
    method: StrictStr
    deviceid: StrictStr
    devicesecret: StrictStr


class Answer(BaseModel):
    """RTIO's response."""

    id: int
    code: str


async def leave(connection: asyncpg.Connection) -> None:
    """Leave a connection as it is: no question changes it."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold a pool of connections for as long as the process lives."""
    reset = {"reset": leave} if os.environ.get("RESET") == "off" else {}
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], **reset) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan, strict_content_type=False)  # RTIO sends no Content-Type


@app.exception_handler(RequestValidationError)
async def refuse(request: Request, error: RequestValidationError) -> JSONResponse:  # noqa: ARG001
    """Answer what is no question."""
    return JSONResponse({"id": 0, "code": "BAD_REQUEST"})


@app.post("/deviceverifier")
async def verify(question: Question, request: Request) -> Answer:
    if question.method != "verify":
        return Answer(id=question.id, code="METHOD_NOT_ALLOWED")
    if not 30 <= len(question.deviceid) <= 40:
        return Answer(id=question.id, code="NOT_FOUND")
    if not 3 <= len(question.devicesecret) <= 128:
        return Answer(id=question.id, code="VERIFICATION_FAILED")
    rows = await request.app.state.pool.fetch(QUERY, question.deviceid)
    if not rows:
        return Answer(id=question.id, code="NOT_FOUND")
    for row in rows:
        if row["enabled"] and row["usable"] and matches(question.devicesecret, row["digest"]):
            return Answer(id=question.id, code="OK")
    return Answer(id=question.id, code="VERIFICATION_FAILED")


def matches(secret: str, digest: str) -> bool:
    made = hmac.digest(PEPPER, CONTEXT + secret.encode(), hashlib.sha256).hex()
    return hmac.compare_digest(made, digest)
