"""The API's own page. Its scripts come with the service: nothing is fetched from elsewhere, online or not."""

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

STATIC = "/docs/static"
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False)


def static_files() -> StaticFiles:
    """Swagger UI, as packaged by fastapi-offline."""
    return StaticFiles(packages=[("fastapi_offline", "static")])


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Show the API and let it be tried out."""
    page = get_swagger_ui_html(
        openapi_url=request.app.openapi_url,
        title=request.app.title,
        swagger_js_url=f"{STATIC}/swagger-ui-bundle.js",
        swagger_css_url=f"{STATIC}/swagger-ui.css",
        swagger_favicon_url="data:,",
    )
    page.headers["Content-Security-Policy"] = POLICY
    return page
