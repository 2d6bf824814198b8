"""What can be wrong with a program, its libraries and who asks it."""

from afterwards.errors.base import Error


class UnsupportedVersion(Error):
    """A library beside Afterwards does not work the way this release of Afterwards needs it to."""

    code = "unsupported_version"

    def __init__(self, *, library: str, found: str, problem: str, remedy: str) -> None:
        super().__init__(f"{library} {found} cannot be used: {problem}. {remedy}")


class RoutesTooEarly(Error):
    """Routes with background tasks were made before Afterwards was imported, so their tasks could not be stored."""

    code = "routes_too_early"

    def __init__(self, *, routes: list[str]) -> None:
        super().__init__(
            f"these routes were made before afterwards was imported, so their background tasks would be lost: "
            f"{', '.join(routes)}. Import afterwards before the application's routes are made, or start the unchanged "
            "program with `afterwards run`."
        )


class BodyTooEarly(Error):
    """A dependency that runs before the body of a request asks for the body."""

    code = "body_too_early"

    def __init__(self) -> None:
        super().__init__(
            "a dependency that Uploads(...) or @uploads(...) names in `before`, `owner` or `allow` asks for the body "
            "of a request, but it runs before the body is read. Take headers, cookies, query or path parameters there, "
            "and look at the form in a dependency of the endpoint."
        )


class SecondAfterwards(Error):
    """An application was given a second `Afterwards`."""

    code = "second_afterwards"

    def __init__(self, *, app: str, data: object) -> None:
        super().__init__(
            f"the application {app!r} has an Afterwards already, which keeps its data in {data}: with a second one the "
            "settings of the first would say nothing any more. Make one, with all settings. An application that is "
            "mounted in another may have its own."
        )


class ProgramRefused(Error):
    """What the command line names cannot be served."""

    code = "program_refused"

    def __init__(self, *, program: str, reason: str, remedy: str) -> None:
        super().__init__(f"{program} cannot be served: {reason}. {remedy}")


class SettingRefused(Error, ValueError):
    """A variable of the environment has a value that means nothing, so the program does not start."""

    code = "setting_refused"

    def __init__(self, *, variable: str, value: str, problem: str) -> None:
        super().__init__(f"the environment's {variable}={value!r}: {problem}. Change it, or unset it.")


class AdminOnly(Error):
    """Only an admin may ask this, and the request does not show that it comes from one."""

    code = "admin_only"

    def __init__(self, *, problem: str, remedy: str, wrong: bool) -> None:
        self.challenge = 'Bearer realm="afterwards"' + (', error="invalid_token"' if wrong else "")
        super().__init__(f"{problem}. {remedy}")


class AdminElsewhere(Error):
    """Only an admin may ask this, and no admin has been configured for clients of other machines."""

    code = "admin_not_configured"
