"""What a person can mend, and answers that are not understood."""


class UserError(Exception):
    """Something the user gave is wrong: one sentence with the place and the cure, no traceback.

    Raised for wrong input (a path, a name, a limit, a budget). Faults of the service keep their own
    exception types, so that what can pass is retried and what cannot is shown with its status.
    """


class MissingError(UserError):
    """What is named does not exist, as the place itself said: not that nobody may look there."""


class UnlikeError(ValueError):
    """An answer is not shaped as those of the way in which was asked: the endpoint speaks another.

    The message holds the first part of what came.
    """
