"""The twelve words that verdicts and tables use, as reports, the command line and the pages explain them."""

GLOSSARY = {
    "candidate": "a perturbation that may be proposed: allowed by the rules, and not measured yet",
    "distance": "root mean square difference to the target over the readouts of both, in the unit of the screen",
    "doing nothing": "leaving the cells as the control; a candidate has to come nearer to the target than that",
    "effect": "change of a readout against the control of the same context",
    "expected gain": "by how much an experiment is expected to improve on the best that was measured",
    "held out": "measured, but kept from the model, so that what it predicts can be compared with the truth",
    "interval": "lower to upper: holds what a new measurement will show with the stated probability",
    "novelty": "how many of the parts of a perturbation were measured alone",
    "probability": "that this candidate made the target, if one of the candidates did",
    "set": "the smallest list that holds the perturbation behind the target with the stated probability",
    "target": "the state, or the change, that is wanted",
    "utility": "what candidates are ranked by, larger is better: for a state, how probable each is (logarithm)",
}
