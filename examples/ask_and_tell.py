# Rounds of a campaign in memory, at a simulated bench.
from inverse_design import Campaign
from surrogates import Perturbation
from surrogates.data.simulate import Network, SaturatingWorld, singles_and_doubles

bench = SaturatingWorld(Network(genes=12, seed=1))
screen = bench.screen(singles_and_doubles(bench.network, doubles=20, seed=0), seed=0)
(state,) = bench.truth([Perturbation.parse("G003+G007")])  # wanted, and not measured yet
wanted = dict(zip(screen.readouts, state, strict=True))
campaign = Campaign.create(screen, target=wanted, surrogate="scaled_additive")
for _ in range(2):
    batch = campaign.ask(4)
    campaign.tell(bench.screen([Perturbation.parse(each) for each in batch.labels], seed=batch.round).to_frame())
    print(batch.labels, campaign.status().best)
