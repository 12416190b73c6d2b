"""The part of FastAPI that the adapter needs without a server."""
from types import SimpleNamespace


class HTTPException(Exception):
    def __init__(self, status_code, detail=None, headers=None):
        super().__init__(detail)
        self.status_code, self.detail, self.headers = status_code, detail, headers


class FastAPI:
    """An app that records its routes."""

    def __init__(self):
        self.routes = []

    def add_api_route(self, path, endpoint, *, methods=("GET",), dependencies=(), **_):
        self.routes.append(SimpleNamespace(path=path, endpoint=endpoint, methods=methods, dependencies=dependencies))

    def get(self, path, **how):
        return lambda endpoint: self.add_api_route(path, endpoint, **how) or endpoint

    post = get


def Body(default=None, **_):
    return default
