"""The recipe: what to do with the frames of a run, as one validated file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from azimuthal.units import radial_unit
from bluesky_powder.errors import RecipeError
from bluesky_powder.recipe.darks import DarkFromStream
from bluesky_powder.recipe.geometry import GeometrySection
from bluesky_powder.recipe.lines import Lined, read_lined
from bluesky_powder.recipe.mistakes import Key, Mistake, at_keys, placed, recipe_error, translate
from bluesky_powder.recipe.outliers import OutliersSection
from bluesky_powder.recipe.sections import BinsSection, CorrectionsSection, IntegrationSection

RANGE_NEEDED = (
    "missing: a goniometer moves the detector, so the bins cannot follow it; give e.g. `range: [2, 60]`"
    " (`bluesky-powder range RECIPE --positions 0:60` prints what positions cover)"
)
SEVERAL = Mistake(
    ("detectors",), "several detectors are several recipes; give this to PowderReduction, replay or recipes_of as it is"
)


class Recipe(BaseModel):
    """What to do with the frames of a run. Load it from YAML or JSON with `Recipe.load`.

    Attributes
    ----------
    frames
        Data key that holds the frames.
    stream
        Stream whose frames are reduced; None: the first one that has the key, `dark` and `baseline` apart.
    frames_per_event
        What becomes of several frames in one event: each is reduced, or their sum, pixel by pixel, is.
    detector
        Name of the detector, where a run is reduced for several; None where there is one.
    geometry, bins, integration, corrections, outliers
        The sections.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames: str = Field(description="data key that holds the frames", examples=["eiger"], min_length=1)
    stream: str | None = None
    frames_per_event: Literal["each", "sum"] = "each"
    detector: str | None = Field(default=None, min_length=1)
    geometry: GeometrySection = Field(description="where the detector is", examples=["{poni: detector.poni}"])
    bins: BinsSection = Field(description="radial bins", examples=["{unit: 2th_deg, npt: 2000, range: [2, 60]}"])
    integration: IntegrationSection = IntegrationSection()
    corrections: CorrectionsSection = CorrectionsSection()
    outliers: OutliersSection | None = None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a recipe file: JSON when its name ends in .json, else YAML.

        Parameters
        ----------
        path
            The file; paths in it are relative to its folder.

        Raises
        ------
        RecipeError
            With every mistake, each by its key and line.
        """
        path = Path(path)
        return cls._checked(read_recipe_file(path), str(path), path.parent)

    @classmethod
    def parse(cls, text: str, *, source: str = "recipe", folder: str | Path = ".", is_json: bool = False) -> Self:
        """Read the text of a recipe.

        Parameters
        ----------
        text
            YAML or JSON.
        source
            What to call the text in errors.
        folder
            What paths in it are relative to.
        is_json
            Hold the text to JSON's stricter rules.

        Raises
        ------
        RecipeError
            With every mistake, each by its key and line.
        """
        return cls._checked(read_lined(text, is_json=is_json), source, folder)

    @classmethod
    def model_validate(cls, obj: Any, *, context: Any | None = None, **keywords: Any) -> Self:
        """Return the recipe that a mapping describes; ``context={"folder": ...}`` says what paths are relative to.

        Raises
        ------
        RecipeError
            With every mistake, each by its key.
        """
        if isinstance(obj, Mapping) and "detectors" in obj:
            raise recipe_error("recipe", [SEVERAL])
        try:
            return super().model_validate(obj, context=context, **keywords)
        except ValidationError as error:
            lined = Lined(obj)
            raise recipe_error("recipe", cls._all_mistakes(lined, error)) from error

    @classmethod
    def of(cls, recipe: "Recipe | Mapping[str, Any] | str | Path") -> "Recipe":
        """Return a recipe from whatever stands for one: itself, a mapping, or the path of a file."""
        if isinstance(recipe, Recipe):
            return recipe
        return cls.load(recipe) if isinstance(recipe, str | Path) else cls.model_validate(recipe)

    def stored(self) -> dict[str, Any]:
        """Return the recipe as JSON-able, self-contained values: files as text, arrays by shape, dtype and SHA-256.

        `Recipe.model_validate` takes it back; arrays are then looked for at their paths and compared.
        """
        return self.model_dump(mode="json")

    def integrator_keywords(self) -> dict[str, Any]:
        """Return what `azimuthal.Integrator` is given besides geometry and bins."""
        integration, corrections = self.integration, self.corrections
        return {
            "splitting": integration.splitting,
            "solid_angle": integration.solid_angle,
            "polarization": integration.polarization,
            "parallax": integration.parallax,
            "gain": integration.gain,
            "read_noise": integration.read_noise,
            "mask": corrections.mask.array if corrections.mask else None,
            "flat": corrections.flat.array if corrections.flat else None,
            "absorption": corrections.absorption.array if corrections.absorption else None,
            "dummy": corrections.dummy,
            "delta_dummy": corrections.delta_dummy,
        }

    @model_validator(mode="before")
    @classmethod
    def _default_solid_angle(cls, data: Any) -> Any:
        """Fill in the solid angle that suits the geometry: absolute where patterns of many geometries merge."""
        if not isinstance(data, Mapping) or not isinstance(data.get("geometry"), Mapping):
            return data
        given = data.get("integration", {})
        if not isinstance(given, Mapping) or "solid_angle" in given:
            return data
        kind = "absolute" if data["geometry"].get("goniometer") is not None else "relative"
        return {**data, "integration": {**given, "solid_angle": kind}}

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        found: list[tuple[Key, str]] = [(mistake.key, mistake.problem) for mistake in _without_range(self.model_dump())]
        if radial_unit(self.bins.unit).needs_wavelength and not self.geometry.has_wavelength:
            where = self.geometry.poni or self.geometry.goniometer
            name = where.file if where else "the geometry"
            found.append((("bins", "unit"), f"{self.bins.unit} needs a wavelength, which {name} does not give"))
        found.extend((("corrections", "dark"), text) for text in self._dark_mistakes())
        if self.geometry.detector is not None:
            found.extend(
                (("corrections", *key), text) for key, text in self.corrections.misfits(self.geometry.detector)
            )
        if found:
            raise at_keys(*found)
        return self

    def _dark_mistakes(self) -> Iterator[str]:
        dark = self.corrections.dark
        if isinstance(dark, DarkFromStream) and dark.stream == self.stream:
            yield f"the stream {dark.stream!r} holds the frames themselves"
        elif isinstance(dark, DarkFromStream) and dark.stream != "dark" and self.stream is None:
            yield f"which stream holds the frames, if {dark.stream!r} holds darks? add `stream: primary`, or what it is"

    @classmethod
    def examine(cls, lined: Lined, folder: str | Path) -> tuple[Self | None, list[Mistake]]:
        """Return the recipe that plain values make, or None, and every mistake in them.

        Parameters
        ----------
        lined
            The values, with their lines.
        folder
            What paths are relative to.
        """
        if isinstance(lined.value, Mapping) and "detectors" in lined.value:
            return None, list(placed([SEVERAL], lined.lines))
        try:
            recipe = super().model_validate(lined.value, context={"folder": Path(folder)})
        except ValidationError as error:
            return None, cls._all_mistakes(lined, error)
        return recipe, list(lined.mistakes)

    @classmethod
    def _checked(cls, lined: Lined, source: str, folder: str | Path) -> Self:
        check_is_recipe(lined, source)
        recipe, mistakes = cls.examine(lined, folder)
        if recipe is None or mistakes:
            raise recipe_error(source, mistakes)
        return recipe

    @classmethod
    def _all_mistakes(cls, lined: Lined, error: ValidationError) -> list[Mistake]:
        """Return what pydantic found, what the text itself has, and what pydantic did not get to."""
        if lined.value is None and lined.mistakes:
            return list(lined.mistakes)
        found = translate(error, cls, lined.lines)
        keys = {mistake.key for mistake in found}
        more = [mistake for mistake in _without_range(lined.value) if mistake.key not in keys]
        return [*found, *lined.mistakes, *placed(more, lined.lines)]


def read_recipe_file(path: Path) -> Lined:
    """Return what a recipe file says: JSON when its name ends in .json, else YAML.

    Raises
    ------
    RecipeError
        If it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {path}: {error}") from error
    return read_lined(text, is_json=path.suffix.lower() == ".json")


def check_is_recipe(lined: Lined, source: str) -> None:
    """Refuse a text that is not made of keys.

    Raises
    ------
    RecipeError
        If it is not.
    """
    if not isinstance(lined.value, Mapping) and not lined.mistakes:
        raise RecipeError(f"{source}: not a recipe; it begins like `frames: eiger`, one key a line")


def _without_range(data: Any) -> Iterator[Mistake]:
    """Yield the mistake of a goniometer without a range, from plain values."""
    geometry, bins = (data.get(name) if isinstance(data, Mapping) else None for name in ("geometry", "bins"))
    if not isinstance(geometry, Mapping) or not isinstance(bins, Mapping):
        return
    if geometry.get("goniometer") is not None and bins.get("range") is None:
        yield Mistake(("bins", "range"), RANGE_NEEDED)
