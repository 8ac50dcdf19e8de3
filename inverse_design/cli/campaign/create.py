"""The verb ``campaign create``: settings, data and target become a campaign in a store."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from inverse_design.campaign.ask import require_settings, round_cost
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.create import require_beginning
from inverse_design.campaign.settings import (
    AUTOMATIC,
    CampaignSettings,
    read_settings,
    settings_as_json,
    settings_of,
    settings_schema,
)
from inverse_design.cli.campaign.options import CampaignPlace, Stated
from inverse_design.cli.campaign.place import actor_of, open_place, shown_store
from inverse_design.cli.campaign.report import campaign_facts
from inverse_design.cli.campaign.results import read_library
from inverse_design.cli.console import Manner, reply, say, show_facts, show_json, working
from inverse_design.cli.limit_tables import read_batch_wide, read_costs, read_pairs
from inverse_design.cli.options import Reading
from inverse_design.cli.screens import open_screen, read_exclusions
from inverse_design.errors import LibraryError
from inverse_design.problem.problem import Problem, ask, range_remark, scale_remark
from inverse_design.screens import one_context
from inverse_design.target_files import target_schema
from inverse_design.targets import read_target
from surrogates.data.screen import Screen
from surrogates.errors import amount, some_of


def run_create(
    data: str,
    *,
    place: CampaignPlace,
    context: str | None,
    config: str | None,
    library: str | None,
    stated: Stated,
    reading: Reading,
    manner: Manner,
) -> None:
    """Begin a campaign; everything is checked before the store is touched."""
    with working("reading"):
        screen = one_context(open_screen(data, reading), context)
        path = None if config is None else Path(config)
        settings = sharing(read_settings(path, _stated(stated, place, screen)), stated.batch_wide)
        question = ask(screen, read_target(settings.target, screen))
        lacking = () if library is None else read_library(library).missing(screen.vocabulary.targets)
    settings = without(settings, lacking, screen)
    require_beginning(settings, question.training, question.target)
    require_settings(settings, question.training)
    aligned = question.target.on(screen.readouts)
    remarks = (*scale_remark(question, aligned), *range_remark(question.target, aligned, question.training))
    store = open_place(place, create=True)
    campaign = Campaign.create(
        question.training, target=question.target, settings=settings, store=store, actor=actor_of(place)
    )
    never = {"no reagent": f"{some_of(lacking)}: never proposed"} if lacking else {}

    def show(console: Console) -> None:
        for remark in remarks:
            say(console, remark, "bold yellow")
        show_facts(console, {**_facts(campaign, place, question), **never})

    known = {"store": shown_store(place), "settings": settings_as_json(settings), "no_reagent": lacking}
    reply(manner, {"warnings": remarks, **campaign_facts(campaign), **known}, show)


def run_schema(of: str, manner: Manner) -> None:
    """Print the JSON schema of the settings, or of a target file."""
    schema = json.loads(settings_schema() if of == "settings" else target_schema())
    reply(manner, schema, lambda console: show_json(console, schema))


def sharing(settings: CampaignSettings, stated: Sequence[str]) -> CampaignSettings:
    """Add what all experiments of a batch share to the constraints."""
    found = tuple(f"batch_wide:{json.dumps(asdict(read_batch_wide(text)))}" for text in stated)
    return settings_of({**settings_as_json(settings), "constraints": (*settings.constraints, *found)})


def without(settings: CampaignSettings, lacking: tuple[str, ...], screen: Screen) -> CampaignSettings:
    """Exclude what there is no reagent for."""
    if lacking and set(lacking) >= set(screen.vocabulary.targets):
        raise LibraryError(
            f"the library has a reagent for none of the {len(lacking)} genes or compounds of the data, such as"
            f" {lacking[0]!r}; is its column of genes in the same names?"
        )
    return settings_of({**settings_as_json(settings), "exclude": (*settings.exclude, *lacking)})


def _stated(stated: Stated, place: CampaignPlace, screen: Screen) -> Mapping[str, object]:
    known = {*screen.vocabulary.targets, *screen.vocabulary.ids}
    flags: dict[str, object] = {**asdict(stated), "name": place.name}
    del flags["batch_wide"]
    flags["exclude"] = read_exclusions(stated.exclude, known=known) if stated.exclude else None
    if stated.incompatible is not None:
        flags["incompatible"] = read_pairs(Path(stated.incompatible))
    if stated.costs is not None:
        flags["costs"] = dict(read_costs(Path(stated.costs)))
    return {key: value for key, value in flags.items() if value is not None}


def _facts(campaign: Campaign, place: CampaignPlace, question: Problem) -> dict[str, str]:
    settings, screen = campaign.settings, question.training
    source = screen.provenance.get("dataset", screen.provenance.get("source", "data"))
    wells = f"{settings.replicates} wells each, {settings.controls} controls per plate of {settings.plate_size}"
    price = round_cost(settings, [screen.vocabulary.entries[0].label] * settings.batch_size)
    chooser = "" if settings.recommender == AUTOMATIC else f", recommender {settings.recommender}"
    return {
        "campaign": f"{campaign.name}, key {campaign.key}, in {shown_store(place)}",
        "data": f"{source}: {amount(len(screen), 'known condition')}, {amount(len(screen.readouts), 'readout')}",
        "target": campaign.target.name,
        "rounds": f"{amount(settings.batch_size, 'experiment')}, {wells}"
        + (f"; about {price:,.6g} each" if price else ""),
        "model": f"{settings.surrogate}, gain {settings.gain}, seed {settings.seed}{chooser}",
    }
