"""What the study of meta-optimizers can try: problems, rules, and cells."""

PENALTIES = [
    "mnist_1000",
    "synthetic",
    "cancer",
    "mnist_15000",
]
OTHERS = [
    "noisy_labels",
    "noisy_labels_short",
    "schedule",
    "cnn",
    "cnn_single",
    "omniglot",
]
CHOICES = [*PENALTIES, *OTHERS, "digits"]
MAIN = [
    "SignConsensus()",
    "SignConsensus(reach=6.0)",
    "SignDescent(0.3), mean",
    "Adam(0.3), mean",
]
RIVALS = ["Rprop(0.3), mean", "SGD, normalized, mean"]
CONSTANTS = [
    "SignConsensus(reach=9.0)",
    "SignConsensus(prior=3.0)",
    "SignConsensus(prior=12.0)",
    "SignConsensus(forget=0.9)",
    "SignConsensus(layer_rate=0.0)",
    "SignConsensus(1e-9), no common parts",
]
SINGLE = [
    "SignConsensus()",
    "SignConsensus(single='consensus')",
    "SignConsensus(single='both')",
]
# For weights of examples: plain steps, and what moves weights further.
PLAIN = ["SGD(0.5 entries), mean", "SGD(0.5 entries), best"]
FAR = [
    "SGD(2.0 entries), mean",
    "SGD(8.0 entries), mean",
    "SignConsensus(reach=3.0)",
    "SignConsensus(reach=9.0)",
]
FURTHER = [
    "SignDescent(0.3), same path",
    "SignDescent(0.3), last",
    "Adam(0.05), mean",
    "Lion(0.3), mean",
]
# Groups of rules that one process tries, by the method of the hypergradient.
GROUPS = {
    "main": ("exact", MAIN),
    "rivals": ("exact", RIVALS),
    "constants": ("exact", CONSTANTS),
    "single": ("exact", SINGLE),
    "plain": ("exact", PLAIN),
    "far": ("exact", FAR),
    "sharing": ("exact", ["SGD(0.2), mean", "SGD(0.2), last"]),
    "further": ("exact", FURTHER),
    "drmad": ("drmad", MAIN),
    "anchors": ("anchors", MAIN[1:2]),
    "gauss_newton": ("gauss_newton", MAIN[:2]),
}


def is_cell(problem="", group="", seeds="", *more: str) -> bool:
    """Returns whether an entry of `--cells` is one."""
    is_known = problem in CHOICES and group in GROUPS
    return is_known and not more and bool(seeds_of(seeds))


def seeds_of(text: str) -> list[int]:
    """Returns the seeds that an entry of `--cells` asks for; none if wrong."""
    ends = text.split("-")
    if len(ends) > 2 or not all(end.isdigit() for end in ends):
        return []
    first, last = (0, int(text) - 1) if len(ends) == 1 else map(int, ends)
    return list(range(first, last + 1))
