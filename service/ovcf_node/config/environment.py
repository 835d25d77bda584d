"""Settings from the environment, and from files that the environment names, as orchestrators hand over secrets."""

from collections.abc import Mapping
from pathlib import Path

from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

_FILE = "_file"


class Environment(EnvSettingsSource):
    """`OVCF_NODE__SECTION__KEY` is a value; `OVCF_NODE__SECTION__KEY_FILE` names a UTF-8 file that holds it.

    White space around a file's content is left out: editors end files with a newline. Raises SettingsError for a file that
    cannot be read and for a key that has both.
    """

    def __init__(self, settings_cls: type[BaseSettings]):
        super().__init__(settings_cls)
        self.env_vars = _with_files(self.env_vars, self.env_prefix.lower())


def _with_files(variables: Mapping[str, str | None], prefix: str) -> dict[str, str | None]:
    found = {}
    for name, value in variables.items():
        if not (name.startswith(prefix) and name.endswith(_FILE)):
            found[name] = value
            continue
        key = name.removesuffix(_FILE)
        if key in variables:
            raise SettingsError(f"{key.upper()} and {name.upper()} are both set")
        try:
            found[key] = Path(value or "").read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(f"{name.upper()}: cannot read {value}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise SettingsError(f"{name.upper()}: {value} is not UTF-8 text") from error
    return found
