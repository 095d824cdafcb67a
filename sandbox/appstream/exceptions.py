"""What AppStream answers when it cannot do what it is asked."""

from moto.core.exceptions import ServiceException


class AppStreamError(ServiceException):
    """Any error of the service; the code and the message are its arguments."""


class ResourceNotFoundException(AppStreamError):
    """The stack, fleet or session does not exist."""

    code = "ResourceNotFoundException"


class InvalidParameterCombinationException(AppStreamError):
    """A UserId was given without its AuthenticationType."""

    code = "InvalidParameterCombinationException"


class ValidationException(AppStreamError):
    """A parameter is out of its bounds."""

    code = "ValidationException"


class OperationNotPermittedException(AppStreamError):
    """What is asked for cannot be done with such a fleet."""

    code = "OperationNotPermittedException"
