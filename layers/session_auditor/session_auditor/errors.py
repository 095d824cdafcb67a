"""Names an error of AWS by its code, never by its message, which may hold anything, user ids included."""

from botocore.exceptions import BotoCoreError, ClientError


def error_code(error: ClientError | BotoCoreError) -> str:
    """Give the code of an error that AWS answered, or the kind of one that botocore met on the way."""
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code")
        return code[:128] if isinstance(code, str) and code.isprintable() else "ClientError"
    return type(error).__name__
