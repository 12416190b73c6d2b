"""As much of FastAPI as the adapter needs where nothing is served."""


class HTTPException(Exception):
    def __init__(self, status_code, detail=None, headers=None):
        super().__init__(detail)
        self.status_code, self.detail, self.headers = status_code, detail, headers


class FastAPI:
    """Notes routes: `routes[path]` is the function."""

    def __init__(self):
        self.routes = {}

    def add_api_route(self, path, endpoint, **_):
        self.routes[path] = endpoint

    def get(self, path, **_):
        return lambda endpoint: self.routes.setdefault(path, endpoint)

    post = get


def Body(default=None, **_):
    return default


Depends = Request = Body
