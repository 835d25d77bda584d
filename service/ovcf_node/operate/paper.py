"""Pages on paper: HTML files that stand alone (no script, no address, no font from elsewhere) and print on A4."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def page(template: str, **values: object) -> str:
    """Return a filled template of this package; every value is escaped."""
    environment = Environment(
        loader=PackageLoader("ovcf_node.operate"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
