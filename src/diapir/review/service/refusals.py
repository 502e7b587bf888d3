"""What a client is told when it does not get what it asked for: a status and words, as JSON or as a small page."""

from collections.abc import Mapping
from html import escape
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

from diapir.faults import InputError
from diapir.review.corrections.answers import damage_of


class Refusal(BaseModel):
    """Why there is no answer, in words."""

    detail: str


_MEANINGS = {
    400: "The request is not HTTP as it should be.",
    401: "The token is wanted, or is not the right one.",
    403: "The request comes from a page of another site.",
    404: "There is nothing of that name.",
    408: "The body did not come in time.",
    413: "The body, or what it holds, is larger than is taken.",
    415: "The body is of a kind that is not read, or not of the kind that it says.",
    421: "This is not served under that name.",
    422: "A parameter or the body cannot be used.",
    429: "Too much waits already; Retry-After says for how many seconds.",
    503: "Not now; Retry-After says when to ask again.",
}
_ON_ANY_ROUTE = (400, 401, 403, 404, 408, 413, 415, 421, 422, 503)
_MOST_WAITED_S = 60


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What `responses=` of a route, or of all, wants to know of some statuses; of those that any may answer without."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses or _ON_ANY_ROUTE:
        found[status] = {"model": Refusal, "description": _MEANINGS[status]}
        if status in (429, 503):
            seconds = {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
            found[status]["headers"] = {"Retry-After": seconds}
    return found


def later(status: int, detail: str, *, wait_s: float = 1.0) -> HTTPException:
    """A refusal that says when to ask again."""
    seconds = min(max(round(wait_s), 1), _MOST_WAITED_S)
    return HTTPException(status, detail, headers={"Retry-After": str(seconds)})


def words_of(error: InputError) -> str:
    """The faults without where they are: that is a place on the server, or the body itself."""
    return "; ".join(fault.what for fault in error.faults)


def refusal_answer(
    status: int, detail: str, *, as_page: bool = False, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer: JSON, or for who reads it in a browser a page."""
    if not as_page:
        return JSONResponse({"detail": detail}, status, headers=headers)
    title = f"{status} {HTTPStatus(status).phrase}"
    return HTMLResponse(page_text(title, f"<p>{escape(detail)}</p>"), status, headers=headers)


def page_text(title: str, body: str, *, head: str = "") -> str:
    """A small page; `body` and `head` are HTML already."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="stylesheet" href="/static/docs.css">\n{head}</head>\n'
        f"<body>\n<main>\n<h1>{escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def wants_page(path: str, accepted: str) -> bool:
    """Whether a person looks at the answer, not a program."""
    return "text/html" in accepted and not path.startswith(("/api/", "/v1/"))


def tell_refusals(app: FastAPI) -> None:
    """Have an application tell everything that goes wrong in these words; of its own faults no more than that."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, AnyHTTPException)
        return _answer(request, error.status_code, str(error.detail), headers=error.headers)

    async def not_valid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _answer(request, 422, "; ".join(map(_fault_text, error.errors())))

    async def not_usable(request: Request, error: Exception) -> Response:
        assert isinstance(error, InputError)
        return _answer(request, 422, words_of(error))

    async def not_readable(request: Request, error: Exception) -> Response:
        assert isinstance(error, OSError)
        return _answer(request, 502, damage_of(error))

    async def broken(request: Request, error: Exception) -> Response:
        return _answer(request, 500, f"a fault of the server ({type(error).__name__}); its own log says more")

    app.add_exception_handler(AnyHTTPException, refused)
    app.add_exception_handler(RequestValidationError, not_valid)
    app.add_exception_handler(InputError, not_usable)
    app.add_exception_handler(OSError, not_readable)
    app.add_exception_handler(Exception, broken)


def _answer(request: Request, status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> Response:
    as_page = wants_page(request.url.path, request.headers.get("accept", ""))
    return refusal_answer(status, detail, as_page=as_page, headers=headers)


def _fault_text(error: Any) -> str:
    where = " ".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}"
