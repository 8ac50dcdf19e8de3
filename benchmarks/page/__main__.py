"""How quick the pages are while many people read them and fits run; with --cases, requests nobody would make."""

import argparse
import asyncio
import random
import re
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field

import httpx
import numpy as np
import psutil

from benchmarks.page.fuzz import Fuzz, table
from inverse_design.app.sessions import User, hashed
from inverse_design.app.site import Site
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.settings import AUTOMATIC, CampaignSettings
from inverse_design.campaign.store.protocol import open_store
from surrogates.data.simulate import Network, SaturatingWorld, singles_and_doubles

_PAUSE = 1.0  # seconds between two pages of one reader, on average
_ADDRESS = re.compile(r"http://\S+")
_PAGES = ("", "", "/history", "/wells", "/rounds/1/plate", "/changes")  # the campaign itself is opened most


def prepare(place: str, *, genes: int, surrogate: str) -> str:
    """Begin a campaign with one open round; give its key."""
    world = SaturatingWorld(Network(genes=genes, seed=7), noise=0.15)
    screen = world.screen(singles_and_doubles(world.network, doubles=3 * genes, seed=1), seed=0)
    settings = CampaignSettings(name="page", target="t", batch_size=24, surrogate="scaled_additive")
    target = screen.labels[-1]
    campaign = Campaign.create(screen, target=target, settings=settings, store=open_store(place, create=True))
    campaign.ask()
    slow = CampaignSettings(name="slow", target="t", batch_size=24, surrogate=surrogate)
    Campaign.create(screen, target=target, settings=slow, store=campaign.store)
    return campaign.key


@dataclass
class Reader:
    """Somebody who opens page after page."""

    client: httpx.AsyncClient
    home: str
    seed: int
    times: list[float] = field(default_factory=list)

    async def read(self, until: float) -> None:
        """Open pages with pauses between them."""
        draw = random.Random(self.seed)  # noqa: S311 - a reader
        revision = re.search(r'name="revision" value="([^"]+)"', (await self.client.get(self.home)).text)
        await asyncio.sleep(draw.random() * _PAUSE)
        while time.monotonic() < until:
            page = draw.choice(_PAGES)
            query = f"?since={revision[1]}" if page == "/changes" and revision else ""
            began = time.perf_counter()
            answer = await self.client.get(f"{self.home}{page}{query}")
            self.times.append(time.perf_counter() - began)
            answer.raise_for_status()
            await asyncio.sleep(draw.expovariate(1 / _PAUSE))


async def watch_fits(client: httpx.AsyncClient, until: float) -> tuple[int, int]:
    """Have rounds planned, one fit after the other; count looks, and how many of them saw a fit run."""
    page = (await client.get("/")).text
    slow = next(each for each in re.findall(r'href="(/campaigns/[^"]+)"', page) if "/slow" in each)
    looks = running = 0
    job = ""
    while time.monotonic() < until:
        if not job or 'data-events="' not in (await client.get(job)).text:
            found = dict(re.findall(r'name="(csrf|revision)" value="([^"]+)"', (await client.get(slow)).text))
            job = (await client.post(f"{slow}/advice", data=found)).headers["location"]
        else:
            running += 1
        looks += 1
        await asyncio.sleep(0.25)
    return looks, running


async def measure(address: str, home: str, clients: int, seconds: float) -> tuple[list[float], tuple[int, int]]:
    """Let people read while a fit runs."""
    base, token = address.split("enter?token=")
    kept = httpx.Limits(keepalive_expiry=3)  # less than the server's, which would close it under a request
    browsers = [httpx.AsyncClient(base_url=base, timeout=60, limits=kept) for _ in range(clients + 1)]
    for each in browsers:
        await each.get("/enter", params={"token": token})
    until = time.monotonic() + seconds
    readers = [Reader(each, home, number) for number, each in enumerate(browsers[1:])]
    looks, *_ = await asyncio.gather(watch_fits(browsers[0], until), *(each.read(until) for each in readers))
    for each in browsers:
        await each.aclose()
    return [each for reader in readers for each in reader.times], looks


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--genes", type=int, default=100)
    parser.add_argument("--surrogate", default=AUTOMATIC)
    parser.add_argument("--cases", type=int, default=0, help="send so many made requests instead")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = f"{folder}/store.db"
        key = prepare(place, genes=asked.genes, surrogate=asked.surrogate)
        if asked.cases:
            fuzz(place, asked.cases)
            return
        words = [sys.executable, "-m", "inverse_design", "app", place]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - this package
            assert server.stdout is not None  # noqa: S101 - it is a pipe
            address = server.stdout.readline().strip()
            before = psutil.Process(server.pid).cpu_times()
            try:
                reading = measure(address, f"/campaigns/{key}", asked.clients, asked.seconds)
                times, (looks, running) = asyncio.run(reading)
                after = psutil.Process(server.pid).cpu_times()
            finally:
                server.terminate()
    spent = 1000 * (after.user + after.system - before.user - before.system) / len(times)
    quantiles = np.quantile(times, [0.5, 0.95, 0.99]) * 1000
    beside = f"{running / looks:.0%} beside a fit"
    print(f"{len(times):,} pages to {asked.clients} readers in {asked.seconds:g} s, {beside}")
    print("p50 {:.0f} ms, p95 {:.0f} ms, p99 {:.0f} ms".format(*quantiles))
    load = f"load {psutil.getloadavg()[0]:.1f} on {psutil.cpu_count()} processors"
    print(f"{spent:.1f} ms of a processor for each; {load}")


def fuzz(place: str, cases: int) -> None:
    """Send made requests to a server without workers."""
    warnings.simplefilter("ignore")
    idle = (sys.executable, "-S", "-c", "input()")
    site = Site.of(place, {"ann": User(hashed("token"), "owner")}, worker=idle)
    done = Fuzz(site, "token", cases).run()
    print("\n".join(table(done.answers)))
    print(f"{len(done.faults)} faults" + "".join(f"\n{each}" for each in done.faults[:20]))
    site.jobs.close()
    site.uploads.close()


if __name__ == "__main__":
    main()
