"""Settings from the environment, and from files that the environment names, as orchestrators hand over secrets."""

from collections.abc import Mapping
from pathlib import Path

from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

_FILE = "_file"


class Environment(EnvSettingsSource):
    """`OVCF_NODE__SECTION__KEY` is a value; `OVCF_NODE__SECTION__KEY_FILE` names a UTF-8 file that holds it.

    White space around a file's content is left out: editors end files with a newline. Raises SettingsError for a file that
    cannot be read, for a key that has both, and for a section that does not exist.
    """

    def __init__(self, settings_cls: type[BaseSettings]):
        super().__init__(settings_cls)
        prefix = self.env_prefix.lower()
        self.env_vars = _with_files(self.env_vars, prefix)
        for name in self.env_vars:  # a wrong key is refused with its section; a wrong section would be nobody's
            section = name.removeprefix(prefix).split(self.env_nested_delimiter or "__")[0]
            if name.startswith(prefix) and section not in settings_cls.model_fields:
                raise SettingsError(f"{name.upper()}: there is no section {section!r}")


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
