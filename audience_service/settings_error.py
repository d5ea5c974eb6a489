"""The error of invalid settings, in a module of its own: a command starts before it loads the settings."""


class SettingsError(Exception):
    """The environment has invalid settings. The message has a line with the problem of each variable."""
