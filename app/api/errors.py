"""What is wrong with a request before any service sees it."""

from app.errors import PareError


class RequestInvalid(PareError):
    """A field is missing, unknown, of the wrong type or out of its range."""

    code, status = "request.invalid", 422
    remedy = "Correct the fields listed in `errors`; `/docs` shows the schema."


class RequestMalformed(PareError):
    """The body is not JSON, or not text in UTF-8."""

    code, status = "request.malformed", 422
    remedy = "Send one JSON document encoded in UTF-8."


class BodyTooLarge(PareError):
    """The body is larger than this service accepts."""

    code, status = "request.too_large", 413
    remedy = "Send less; files go to `POST /uploads` in parts, and the operator sets PARE_MAX_UPLOAD_BYTES."


class BodyTimeout(PareError):
    """The body stopped arriving."""

    code, status = "request.timeout", 408
    remedy = "Send the request again; for large files over slow lines use `POST /uploads` and send parts."


class BodyShort(PareError):
    """The connection ended before the announced Content-Length had arrived."""

    code, status = "request.incomplete", 400
    remedy = "Send the request again."


class RequestUnreadable(PareError):
    """What came is not a request of HTTP/1.1."""

    code, status = "request.unreadable", 400
    remedy = "Speak HTTP/1.1; behind TLS, use the address of the proxy."


class HeadersTooLarge(PareError):
    """The request's first line, headers or trailers are larger than this service accepts."""

    code, status = "request.headers_too_large", 431
    remedy = "Send fewer and shorter headers; what is long goes into the body."


class HeadersTimeout(PareError):
    """A connection was open, and no whole request came."""

    code, status = "request.headers_timeout", 408
    remedy = "Send the request again, in one go; connect when there is something to ask."


class TooManyConnections(PareError):
    """The service has as many open connections as its limit of open files allows."""

    code, status = "request.too_many_connections", 503
    remedy = "Try again later, over fewer connections; the operator raises the limit of open files (ulimit -n)."


class UnsupportedMediaType(PareError):
    """The Content-Type is not one that this path takes."""

    code, status = "request.unsupported_media_type", 415
    remedy = "JSON goes as application/json, files as application/octet-stream."


class NotAcceptable(PareError):
    """None of the media types in Accept can be produced."""

    code, status = "request.not_acceptable", 406
    remedy = "Ask for application/json, text/html or text/markdown."


class RangeNotSatisfiable(PareError):
    """The Range starts behind the end of the file."""

    code, status = "request.range_not_satisfiable", 416
    remedy = "Ask for a range inside the file; `Content-Range` of this answer gives its size."


class NoSuchPath(PareError):
    """There is nothing at this path."""

    code, status = "request.no_such_path", 404
    remedy = "See `/docs` for what there is."


class MethodNotAllowed(PareError):
    """The path exists, but not with this method."""

    code, status = "request.method_not_allowed", 405
    remedy = "Use a method listed in the Allow header."


class HostForbidden(PareError):
    """The Host header names something this service does not answer to."""

    code, status = "request.host_forbidden", 421
    remedy = "Until there are API keys the service answers on loopback only: use 127.0.0.1 or localhost."


class CrossSite(PareError):
    """A page of another site asked somebody's browser to change something here."""

    code, status = "request.cross_site", 403
    remedy = "Send the request from a program, or from a page that this service itself served."


class BindForbidden(PareError):
    """The configured address is reachable from other machines, and there are no API keys yet."""

    code, status = "service.bind_forbidden", 500
    remedy = "Set PARE_HOST to 127.0.0.1 and put an authenticating proxy in front if others must reach it."


class Internal(PareError):
    """Something failed that should not have."""

    code, status = "service.internal", 500
    remedy = "Report the request id to the operator, whose log holds the details."
