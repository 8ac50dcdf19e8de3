"""Pictures of the report and of the page in a real browser, for the documentation; what they weigh and ask for."""

import argparse
import io
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Locator, Page

from benchmarks.page.browser import Visit, program, serving, started
from inverse_design.app.sessions import hashed
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.settings import CampaignSettings
from inverse_design.campaign.store.protocol import open_store
from inverse_design.proposal import propose
from surrogates.data.catalogue import open_dataset
from surrogates.data.perturbation import Perturbation
from surrogates.data.simulate import Network, SaturatingWorld, singles_and_doubles

_SIZE = {"width": 1180, "height": 820}
_COLOURS = 256  # of a picture, which so takes less than half of the bytes
_ROUNDS = 2
_TOKEN = "anybody may see these pictures"  # noqa: S105 - opens nothing but them


def save(shown: Page | Locator, place: Path) -> None:
    """Write a picture, small."""
    picture = Image.open(io.BytesIO(shown.screenshot()))
    picture.convert("RGB").quantize(_COLOURS).save(place, optimize=True)
    print(f"{place}: {picture.width} x {picture.height}, {place.stat().st_size / 1000:.0f} kB")


def report(browser: Browser, folder: Path, *, name: str, target: str) -> None:
    """Show the report about a target of a public screen."""
    with tempfile.TemporaryDirectory() as temporary:
        began = time.perf_counter()
        found = propose(open_dataset(name), target)
        proposed = time.perf_counter()
        page = found.report(Path(temporary) / "report.html", truth=target)
        written, visit = time.perf_counter(), Visit.of(browser, viewport=_SIZE, offline=True)
        visit.page.goto(page.as_uri())
        visit.page.wait_for_selector("html[data-figures=live]")
        opened, size = time.perf_counter(), page.stat().st_size
        print(
            f"report on {name}, {target}: {size / 1e6:.2f} MB; proposed in {proposed - began:.1f} s,"
            f" written in {written - proposed:.1f} s, opened with its figures in {opened - written:.1f} s"
        )
        save(visit.page, folder / "report.png")
        save(visit.page.locator("section", has_text="The first one").locator(".figures"), folder / "figures.png")
        judge(visit, "report")


def campaign(browser: Browser, folder: Path) -> None:
    """Show a campaign of a simulated world, with two rounds measured and a third one open."""
    world = SaturatingWorld(Network(genes=12, seed=1))
    screen = world.screen(singles_and_doubles(world.network, doubles=20, seed=0), seed=0)
    wanted = dict(zip(screen.readouts, world.truth([Perturbation.parse("G003+G007")])[0].tolist(), strict=True))
    settings = CampaignSettings(name="Which pair?", target="wanted", batch_size=6, surrogate="scaled_additive")
    with tempfile.TemporaryDirectory() as temporary:
        place = str(Path(temporary) / "campaigns.db")
        run = Campaign.create(screen, target=wanted, settings=settings, store=open_store(place, create=True))
        for number in range(_ROUNDS):
            labels = run.ask().labels
            run.tell(world.screen([Perturbation.parse(label) for label in labels], seed=1 + number).to_frame())
        run.ask()
        users = Path(temporary) / "users.toml"
        users.write_text(f'[ann]\ntoken_sha256 = "{hashed(_TOKEN)}"\nrole = "owner"\n')
        with serving(place, "--users", str(users)) as address:
            visit = Visit.of(browser, viewport=_SIZE)
            visit.page.goto(f"{address}?token={_TOKEN}")
            visit.page.get_by_role("link", name=settings.name).click()
            save(visit.page, folder / "campaign.png")
            judge(visit, "campaign")
            visit.page.get_by_role("link", name="plates", exact=True).click()
            save(visit.page, folder / "plate.png")
            judge(visit, "plate")


def judge(visit: Visit, name: str) -> None:
    """Say what a page asked for, complained about, and what axe finds."""
    print(
        f"{name}: {len(visit.outside)} requests to other machines, {len(visit.complaints)} complaints,"
        f" {len(visit.findings())} serious or critical findings of axe"
    )


def main() -> int:
    """Make the pictures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, default=Path("docs/images"))
    options.add_argument("--screen", default="norman2019_expr")
    options.add_argument("--target", default="CEBPE+KLF1")
    given = options.parse_args()
    chromium = program()
    if chromium is None:
        print("Chromium is not installed (the package chromium of Debian)")
        return 2
    given.folder.mkdir(parents=True, exist_ok=True)
    with started(chromium) as browser:
        campaign(browser, given.folder)
        report(browser, given.folder, name=given.screen, target=given.target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
