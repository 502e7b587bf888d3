"""The page of settings is what the code says today, and names every key."""

from pathlib import Path

from diapir.recipe.whole import Recipe
from write_settings import settings_page

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_page(), "write it anew: python scripts/write_settings.py"


def test_every_key_and_every_part_is_on_the_page() -> None:
    text, schema = settings_page(), Recipe.model_json_schema()
    for name, part in {"Recipe": schema, **schema["$defs"]}.items():
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        for key, value in part.get("properties", {}).items():
            assert f"| `{key}` |" in section, f"{name}.{key}"
            if "minimum" in value and "maximum" in value:
                assert f"[{value['minimum']}, {value['maximum']}]" in section
