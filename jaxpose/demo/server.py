"""The demo's server: a page and two endpoints for photos. No data leave the computer."""

import asyncio
import contextlib
import functools
import importlib.resources
import ipaddress
import socket
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxpose.demo.response import about, keypoints_file, predict_photo
from jaxpose.errors import JaxposeError
from jaxpose.optional import import_optional
from jaxpose.predict import PoseEstimator
from jaxpose.predict.boxes import MIN_CONFIDENCE

MAX_BYTES = 40_000_000  # of a photo's file
# This many bytes of a too large upload are read and discarded, so that the client receives the
# error.
DISCARD_BYTES = 10 * MAX_BYTES
PAGE = {
    "": "text/html",
    "style.css": "text/css",
    "script.js": "text/javascript",
    "sample.jpg": "image/jpeg",
}
# The page may load content only from its own server, and images also from memory.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def serve(
    estimator: PoseEstimator,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    ready: Callable[[str], None] = print,
) -> None:
    """Serve the page until the process is interrupted.

    Args:
      estimator: the estimator.
      host: address to listen on; 127.0.0.1 for only this computer, 0.0.0.0 for every computer in
        the local network.
      port: port to listen on; 0 selects a free port.
      ready: function that is called with the page's URL when a browser can open it.

    Raises:
      JaxposeError: the server cannot listen on this address and port.
    """
    uvicorn = import_optional("uvicorn", extra="demo")
    listening = _listen(host, port)
    turn = threading.Lock()

    @contextlib.asynccontextmanager
    async def life(app):  # from here on, an interrupt shuts the server down cleanly
        # Compile while the user chooses a photo.
        threading.Thread(target=_warm_up, args=(estimator, turn)).start()
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{listening.getsockname()[1]}/")
        yield

    with listening:
        app = make_app(estimator, turn, hosts=_hosts(host), life=life)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        stop = server.handle_exit

        def stop_once(number, frame):  # a second Ctrl-C would stop it in the middle of stopping
            if not server.should_exit:
                stop(number, frame)

        server.handle_exit = stop_once
        try:
            server.run(sockets=[listening])
        finally:
            turn.acquire()  # Python must not end while a thread is inside XLA: it would abort


def _listen(host: str, port: int) -> socket.socket:
    if not host:  # the socket would accept connections from everywhere
        raise JaxposeError("--host is empty; give an address, such as 127.0.0.1")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise JaxposeError(
            f"cannot listen on {host}, port {port} ({reason}); choose another --host or --port"
        ) from error


def _hosts(host: str) -> list[str]:
    """Return the host names that the server accepts.

    A local server only accepts its own names: otherwise any web page could reach it under the
    page's own name (DNS rebinding).
    """
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a host name
        local = False
    return ["127.0.0.1", "localhost", "[::1]", host] if local else ["*"]


def _warm_up(estimator: PoseEstimator, turn: threading.Lock) -> None:
    blank = np.zeros((64, 64, 3), np.uint8)
    with turn:
        estimator.predict(blank)
        estimator.predict(blank, [(0, 0, 64, 64)])
        estimator.maps(blank, (0, 0, 64, 64))


def make_app(estimator: PoseEstimator, turn: threading.Lock, *, hosts: list[str], life):
    """Make the Starlette application.

    ``GET /`` returns the page, and ``GET /about`` the description of the network. ``POST /predict``
    and ``POST /keypoints`` take a photo's file as the request body. Query parameters of both are
    ``box=x,y,width,height`` (any number of them) or ``max_persons``; ``/keypoints`` also has
    ``found`` (such as ``0,2``), ``min_confidence`` and ``file_name``. They return the results of
    ``predict_photo`` and ``keypoints_file``, or a message ``{"error": ...}`` with status 400 (not
    an image, an invalid box or number), 403 (from another site's page), 413 (too large) or 415 (a
    form or JSON instead of the file). The lock ``turn`` serializes predictions, which limits memory
    use. ``life`` is Starlette's lifespan.
    """
    applications = import_optional("starlette.applications", extra="demo")
    middleware = import_optional("starlette.middleware", extra="demo")
    trusted = import_optional("starlette.middleware.trustedhost", extra="demo")
    responses = import_optional("starlette.responses", extra="demo")
    routing = import_optional("starlette.routing", extra="demo")
    concurrency = import_optional("starlette.concurrency", extra="demo")
    requests = import_optional("starlette.requests", extra="demo")

    queue = asyncio.Lock()  # requests wait here, not in threads, so that they can be dropped

    def in_turn(function, data, options):
        with turn:
            return function(estimator, data, **options)

    async def predict(request):
        return await respond(request, predict_photo, responses.JSONResponse)

    async def keypoints(request):
        as_json = functools.partial(responses.Response, media_type="application/json")
        return await respond(request, keypoints_file, as_json)

    async def respond(request, function, response):
        try:
            _check_site(request.headers.get("sec-fetch-site", "none"))
            data = await _body(request.stream())
            _check_type(request.headers.get("content-type", ""))
            options = _options(request.query_params, file=function is keypoints_file)
            await request.is_disconnected()  # resumes reading after a long body, to notice its end
            async with queue:
                if await request.is_disconnected():
                    return responses.Response(status_code=400)
                work = concurrency.run_in_threadpool(in_turn, function, data, options)
                return response(await work)
        except asyncio.CancelledError:  # the server shuts down
            return responses.JSONResponse({"error": "jaxpose demo was stopped"}, 503)
        except OtherSite as error:
            return responses.JSONResponse({"error": str(error)}, 403)
        except TooLarge as error:
            return responses.JSONResponse({"error": str(error)}, 413)
        except WrongType as error:
            return responses.JSONResponse({"error": str(error)}, 415)
        except JaxposeError as error:
            return responses.JSONResponse({"error": str(error)}, 400)
        except requests.ClientDisconnect:  # the user has moved the box again
            return responses.Response(status_code=400)

    async def describe(request):
        return responses.JSONResponse({**about(estimator), "max_bytes": MAX_BYTES})

    async def page(request):
        name = request.path_params.get("name", "")
        folder = importlib.resources.files("jaxpose.demo") / "page"
        if name not in PAGE:
            return responses.PlainTextResponse("not found", 404)
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        content = (folder / (name or "index.html")).read_bytes()
        return responses.Response(content, headers=headers, media_type=PAGE[name])

    return applications.Starlette(
        routes=[
            routing.Route("/predict", predict, methods=["POST"]),
            routing.Route("/keypoints", keypoints, methods=["POST"]),
            routing.Route("/about", describe),
            routing.Route("/", page),
            routing.Route("/{name}", page),
        ],
        lifespan=life,
        middleware=[middleware.Middleware(trusted.TrustedHostMiddleware, allowed_hosts=hosts)],
    )


class OtherSite(JaxposeError):
    """The request comes from a page of another site."""


class TooLarge(JaxposeError):
    """The file has more than ``MAX_BYTES``."""


class WrongType(JaxposeError):
    """The request body is not the photo's file itself."""


def _check_site(relation: str) -> None:
    """Reject requests that browsers send for pages of other sites."""
    if relation in ("cross-site", "same-site"):
        raise OtherSite("the request comes from another site's page; open the demo's own page")


def _check_type(content_type: str) -> None:
    """Reject request bodies of common clients that are not the file itself."""
    kind = content_type.partition(";")[0].strip().lower()
    named = {"multipart/form-data": "a multipart form", "application/json": "JSON"}
    if kind in named:
        raise WrongType(
            f"the body is {named[kind]} ({kind}); send the photo's file itself as the body, for "
            "example with curl --data-binary @photo.jpg URL/predict"
        )


async def _body(stream) -> bytes:
    """Read the body of a request, with at most ``MAX_BYTES`` in memory."""
    parts, length = [], 0
    async for part in stream:
        length += len(part)
        if length <= MAX_BYTES:
            parts.append(part)
        else:
            parts.clear()
        if length > DISCARD_BYTES:
            break
    if length > MAX_BYTES:
        raise TooLarge(
            f"the file is larger than {MAX_BYTES // 1_000_000} MB; resize the photo first"
        )
    return b"".join(parts)


def _options(query, *, file: bool) -> dict[str, Any]:
    """Parse the query parameters; ``file`` adds those of ``keypoints_file``."""
    boxes = [_box(text) for text in query.getlist("box")]
    options = {
        "boxes": boxes or None,
        "max_persons": _number(query, "max_persons", int, None),
    }
    if file:
        options["found"] = _indices(query.get("found"))
        least = options["min_confidence"] = _number(query, "min_confidence", float, MIN_CONFIDENCE)
        if not 0 <= least <= 1:
            raise JaxposeError(f"min_confidence is {least:g}; give a number from 0 to 1")
        options["file_name"] = query.get("file_name", "photo")
    return options


def _box(text: str) -> list[float]:
    try:
        return [float(value) for value in text.split(",")]
    except ValueError:
        raise JaxposeError(f"{text!r} is not a box; give x,y,width,height in pixels") from None


def _indices(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(value) for value in text.split(",") if value]
    except ValueError:
        raise JaxposeError(f"{text!r} is not a list of persons; give indices like 0,2") from None


def _number(query, name: str, kind: Callable[[str], Any], default: Any) -> Any:
    text = query.get(name)
    if text is None:
        return default
    try:
        return kind(text)
    except ValueError:
        raise JaxposeError(
            f"{name} {text!r} is not a number; give a number, or leave it out"
        ) from None
