"""The one exception for what a person can mend."""


class UserError(Exception):
    """Something the user gave is wrong: one sentence with the place and the cure, no traceback.

    Raised for wrong input (a path, a name, a limit, a budget). Faults of the service keep their own
    exception types, so that what can pass is retried and what cannot is shown with its status.
    """
