"""Compares gradients with KerasTuner, at one budget of elementary steps.

    python -m studies.against_tuners --data_dir=FOLDER --run_name=mnist

Tunes 1, 4, 20 and 934 L2 coefficients of the paper's 784-50-50-50-10 net: one
for all weights, one for each layer, for each of five groups of every layer's
inputs, for each input. DrMAD and exact reverse mode, against KerasTuner's
`RandomSearch` and `BayesianOptimization`. Fu et al. say that Bayesian
optimization serves up to about 20 hyperparameters.

All train alike: T steps on 1,000 images, with the same weights, order of data
and compiled loop for all methods of a seed. With so few images a penalty
matters: the best single one, 0.003, takes the validation loss of seed 100 from
0.69 to 0.62; with 15,000 the best one is none. All coefficients lie in [1e-6,
0.1] and start at its geometric middle, which is the tuners' first trial. The
tuners see the validation loss only.

What is spent are forward steps, and for each reverse step `REVERSE_COST`. By
KerasTuner's default Bayesian optimization begins with three random trials for
each hyperparameter, which within such a budget is random search for 20 or
more: here it begins with 10 trials at most.

The "s of search" are all of processor time but those of forward steps: walks
back, a Gaussian process and its suggestions, validation (the same for all); no
compilation. A search that took `--search_minutes` of them ends. `--meta_step`,
for all counts and both gradients, was chosen by a look at seed 100.

The same command goes on where it was killed.
"""

import math

from absl import app, flags, logging

FLAGS = flags.FLAGS

LABELS = {
    "drmad": "DrMAD",
    "reverse": "exact reverse mode",
    "random": "RandomSearch",
    "bayesian": "BayesianOptimization",
}
flags.DEFINE_enum("dataset", "mnist", ["mnist", "digits"], "Which images.")
flags.DEFINE_string(
    "data_dir",
    None,
    "Folder with mnist.npz or TFDS's data; KERAS_DRMAD_DATA by default.",
)
flags.DEFINE_multi_enum(
    "methods", list(LABELS), list(LABELS), "Which; once for each."
)
flags.DEFINE_list(
    "counts",
    ["1", "4", "20", "934"],
    "Numbers of coefficients: 1, a multiple of the 4 layers, or all inputs.",
)
flags.DEFINE_integer("seeds", 3, "Of data, weights and searches.", 1)
flags.DEFINE_integer("first_seed", 0, "The first of them.", 0)
flags.DEFINE_integer("steps", 2000, "T, elementary steps of a training.", 10)
flags.DEFINE_integer("budget", 32, "What is spent, in trainings.", 2)
flags.DEFINE_float("meta_step", 0.3, "Step of the log coefficients.", 0)
flags.DEFINE_float(
    "search_minutes", 3, "Most processor time outside of trainings.", 0
)
flags.DEFINE_integer(
    "processes", 1, "Searches at a time; 0: in this process.", 0
)
flags.DEFINE_string("save_dir", "saved_runs", "Folder of all runs.")
flags.DEFINE_string("run_name", None, "Folder of this run; the time if unset.")


def main(_):
    import matplotlib

    from examples import datasets
    from examples.saved_run import SavedRun
    from studies import against_tuners_report as report
    from studies import against_tuners_searches as searches
    from studies import study
    from studies.grouped_l2 import groups_of_rows

    matplotlib.use("Agg")
    logging.set_verbosity(logging.WARNING)
    counts = [int(count) for count in FLAGS.counts]
    data = FLAGS.dataset, FLAGS.data_dir
    sizes = searches.SIZES[FLAGS.dataset]
    images = datasets.load(*data, sizes, 0)  # is it there?
    for count in counts:
        groups_of_rows([math.prod(images.shape), *searches.HIDDEN], count)
    run = SavedRun(FLAGS.save_dir, "against_tuners", FLAGS.run_name, True)
    run.write_flags(FLAGS, "search_minutes")
    seeds = range(FLAGS.first_seed, FLAGS.first_seed + FLAGS.seeds)
    cells = {
        f"{method}_{count}_{seed}": {
            "method": method,
            "count": count,
            "seed": seed,
            "dataset": FLAGS.dataset,
            "data_dir": FLAGS.data_dir,
            "steps": FLAGS.steps,
            "budget": FLAGS.budget,
            "meta_step": FLAGS.meta_step,
            "search_minutes": FLAGS.search_minutes,
        }
        for count in counts
        for method in FLAGS.methods
        for seed in seeds
    }
    found = study.run_cells(run, searches.search, cells, FLAGS.processes)
    results = {
        (method, count): [found[f"{method}_{count}_{k}"] for k in seeds]
        for count in counts
        for method in FLAGS.methods
    }
    report.draw(run, results, LABELS)
    study.report(run, report.table(results, LABELS), "results")


if __name__ == "__main__":
    app.run(main)
