"""The routes: two pages, their files, what a page asks about the server, and the key's way into the cookie."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Request, Response, WebSocket
from tiled.server.authentication import move_api_key
from tiled.server.utils import API_KEY_COOKIE_NAME

from bluesky_powder.web.files import static_files
from bluesky_powder.web.relay import relayed
from bluesky_powder.web.tables import may_grow

router = APIRouter(prefix="/powder", include_in_schema=False)

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    # The address may hold a key until the page has removed it.
    "Referrer-Policy": "no-referrer",
    # Asked for again at each load, and answered by 304: an upgrade reaches every browser at once.
    "Cache-Control": "no-cache",
}


@router.get("")
async def without_slash(request: Request) -> Response:
    """Send to the start page; relative, so that it works under any path."""
    query = f"?{request.url.query}" if request.url.query else ""
    return Response(status_code=307, headers={**HEADERS, "Location": f"powder/{query}"})


@router.get("/")
async def start_page(request: Request, _: Annotated[None, Depends(move_api_key)]) -> Response:
    """Return the list of derived runs; a key in the address moves to the cookie."""
    return _answer(request, "runs.html")


@router.get("/run/{path:path}")
async def run_page(request: Request, path: str, _: Annotated[None, Depends(move_api_key)]) -> Response:
    """Return the page of a run, which reads the run's path from the address by itself."""
    # Files are addressed from the page, so one page for each depth: folders of catalogs are part of the path.
    return _answer(request, "run.html", up="../" * (path.count("/") + 1))


@router.get("/static/{name}")
async def static_file(request: Request, name: str) -> Response:
    """Return a file of the pages."""
    return _answer(request, name)


@router.get("/about.json")
async def about(request: Request) -> Response:
    """Return what a page cannot find out by itself: it does not see the cookie, nor how tables are stored."""
    key = "given" if request.cookies.get(API_KEY_COOKIE_NAME) else "none"
    tables = "true" if may_grow(request.app.state.root_tree) else "false"
    return Response(
        f'{{"key": "{key}", "tables_may_grow": {tables}}}',
        media_type="application/json",
        headers={**HEADERS, "Cache-Control": "no-store"},
    )


@router.get("/key")
async def take_key(
    request: Request,
    authorization: Annotated[str | None, Header()] = None,
    x_powder: Annotated[str | None, Header()] = None,
) -> Response:
    """Move a key from a header to the cookie, or forget it, so that it is never in an address or a script's hands.

    Other sites' pages cannot send either header. A key is not tried here: a page sees at its next request.
    """
    answer = Response(status_code=204, headers={**HEADERS, "Cache-Control": "no-store"})
    secure = request.url.scheme == "https"
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() == "apikey" and key.isascii() and key.isalnum():
        answer.set_cookie(API_KEY_COOKIE_NAME, key, httponly=True, samesite="lax", secure=secure)
    elif x_powder == "forget":
        answer.delete_cookie(API_KEY_COOKIE_NAME, httponly=True, samesite="lax", secure=secure)
    else:
        raise HTTPException(400, "a key consists of letters and digits: header 'Authorization: Apikey KEY'")
    return answer


@router.websocket("/stream/{path:path}")
async def stream(websocket: WebSocket, path: str) -> None:
    """Give Tiled's live stream of a node to a browser that has the key in its cookie only."""
    scope: Any = relayed(websocket.scope, path, websocket.cookies.get(API_KEY_COOKIE_NAME))
    await websocket.app(scope, websocket.receive, websocket.send)


def _answer(request: Request, name: str, *, up: str = "") -> Response:
    file = static_files().get(name)
    if file is None:
        raise HTTPException(404, f"there is no such file: {name[:80]}")
    headers = {**HEADERS, "ETag": f'{file.etag[:-1]}{len(up)}"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    content = file.content.replace(b"../static/", f"{up}static/".encode()) if up else file.content
    return Response(content, media_type=file.media_type, headers=headers)
