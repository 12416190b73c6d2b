"""Nobody asks for a password here."""


class HTTPBasic:
    pass


class HTTPBasicCredentials:
    pass
