"""Optuna as a proposer: a rebuilt study is the live one, generations move on, repeats and
undefined objectives, the end of a finite space. Optuna itself is real, and so is the ledger.
"""

import itertools
from collections import Counter

import optuna
import pytest
from fake_sweep import NAN_LOSS, FakeSweep, equal_groups, fake_spec, wide_spec
from optuna.trial import TrialState

from orchestrator.fronts.aggregate import aggregate
from orchestrator.ledger.records import load_records
from orchestrator.search.proposals import Measured, Proposal
from orchestrator.search.proposer import OptunaProposer
from orchestrator.search.schedule import FINISHED, Attempt, Budget
from orchestrator.search.tree import grid
from search_spaces.words import choice, integer, number, one_of

SAMPLERS = ["tpe", "nsga2", "gp", "random"]
GENERATION = "NSGAIISampler:generation"


@pytest.fixture
def sweep(tmp_path):
    fake = FakeSweep(tmp_path / "sweep")
    yield fake
    if fake.ledger is not None:
        fake.ledger.close()


def asked(proposals):
    """A list of proposals in comparable form."""
    return [(p.number, p.parameters, p.chosen_by, p.origin) for p in proposals]


def study_of(schedule):
    return schedule.proposer.study


def states(schedule):
    return [
        (trial.state, trial.values, trial.params, trial.user_attrs.get("origin", "proposal"))
        for trial in study_of(schedule).trials
    ]


# -- a rebuilt study --------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("workers", "settled"), [(1, 13), (3, 14), (3, 25)])
def test_a_rebuilt_study_proposes_what_the_live_one_would(sweep, sampler, workers, settled):
    """With trials running, too: their proposals are RUNNING in both."""
    if sampler == "gp":
        settled = min(settled, 14)  # half a second a proposal
    spec = wide_spec(sampler)
    live = sweep.start(spec, Budget(configurations=60))
    sweep.drive(live, workers=workers, stop_after=settled, shuffle=1)
    rebuilt = sweep.start(spec, Budget(configurations=60))
    assert states(rebuilt) == states(live)
    for _ in range(3):
        assert asked(rebuilt.proposer.propose()) == asked(live.proposer.propose())


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_repeats_of_running_configurations_are_rebuilt_alike(sweep, sampler):
    """Two configurations in all and a slow one: the sampler repeats it while it runs."""
    spec = fake_spec(sampler, iterations=3, controls=())
    live = sweep.start(spec, Budget(configurations=60))
    root = live.next()
    while live.next() is not None:
        pass
    repeats = [e for e in sweep.events("proposal") if e["chosen_by"] == "repeat"]
    assert repeats
    assert {s for s, *_ in states(live)} == {TrialState.RUNNING}
    sweep.finish(live, root)
    sweep.drive(live, workers=2)
    rebuilt = sweep.start(spec, Budget(configurations=60))
    assert states(rebuilt) == states(live)
    assert {s for s, *_ in states(live)} == {TrialState.COMPLETE}


def test_an_interrupted_search_goes_on_as_the_uninterrupted_one(tmp_path):
    """One worker: the same proposals in the same order, however often the driver was killed."""
    spec = wide_spec("tpe")
    told = []
    for name, kills in (("whole", ()), ("killed", (5, 1, 7, 11))):
        fake = FakeSweep(tmp_path / name)
        for after in kills:
            fake.drive(fake.start(spec, Budget(trials=60)), stop_after=after)
        fake.run(spec, Budget(trials=60))
        told.append([e["parameters"] for e in fake.events("proposal")])
        fake.ledger.close()
    assert told[0] == told[1]


def test_nsga2_leaves_generation_0_after_a_rebuild(sweep):
    spec = wide_spec("nsga2")
    for configurations in (6, 12, 18, 24, 30):  # a new start each time
        sweep.run(spec, Budget(configurations=configurations), workers=2)
    generations = Counter(
        e["system_attrs"].get(GENERATION)
        for e in sweep.events("proposal")
        if e["chosen_by"] in ("nsga2", "repeat")
    )
    assert generations[0] >= 10  # the population
    assert generations[1] > 0


def test_the_sampler_seed_moves_the_proposals_and_repeats_them(tmp_path):
    def proposals(name, seed):
        fake = FakeSweep(tmp_path / name)
        spec = wide_spec("random")
        spec = spec.model_copy(update={"search": spec.search.model_copy(update={"seed": seed})})
        fake.run(spec, Budget(configurations=8))
        fake.ledger.close()
        return [e["parameters"] for e in fake.events("proposal")]

    assert proposals("a", 0) == proposals("b", 0)
    assert proposals("c", 1) != proposals("d", 0)


# -- what the study learns --------------------------------------------------------------------


def test_complete_trials_hold_the_objectives_of_the_records(sweep):
    """The values told are those of the aggregate over seeds, computed from the ledger alone."""
    spec = wide_spec("tpe", seeds=(0, 1))
    schedule = sweep.run(spec, Budget(configurations=8), workers=2)
    figures = {
        (a.trial["ratio"], a.trial["prune"]["criterion"].get("temperature"), a.trial["n"]): (
            a.figures["fate_eodd_hardt"],
            a.figures["f1"],
        )
        for a in aggregate(load_records(sweep.folder)).values()
        if a.trial["role"] == "treatment"
    }
    trials = study_of(schedule).trials
    assert len(trials) >= 8
    for trial in trials:
        place = (trial.params["prune.ratio"], trial.params["prune.criterion.temperature"])
        default = place[1] if (*place, trial.params["n"]) in figures else None
        assert tuple(trial.values) == figures[(place[0], default, trial.params["n"])]


def test_roots_and_controls_never_enter_the_study(sweep):
    schedule = sweep.run(wide_spec("tpe"), Budget(configurations=6), workers=2)
    for trial in study_of(schedule).trials:
        assert set(trial.params) == {"prune.criterion.temperature", "prune.ratio", "n"}
        assert trial.params["n"] >= 1


def test_ancestors_enter_with_their_own_n(sweep):
    schedule = sweep.run(wide_spec("random"), Budget(configurations=6))
    trials = study_of(schedule).trials
    by_arm = {}
    for trial in trials:
        arm = (trial.params["prune.ratio"], trial.params["prune.criterion.temperature"])
        by_arm.setdefault(arm, []).append(trial.params["n"])
    for depths in by_arm.values():
        assert set(depths) == set(range(1, max(depths) + 1))
    origins = Counter(t.user_attrs.get("origin", "proposal") for t in trials)
    assert origins["ancestor"] > 0
    assert {t.state for t in trials} == {TrialState.COMPLETE}


@pytest.mark.parametrize("restarted", [False, True])
def test_an_undefined_objective_is_a_fail(sweep, restarted):
    sweep.measure = equal_groups
    spec = wide_spec("tpe")
    schedule = sweep.run(spec, Budget(configurations=5))
    if restarted:
        schedule = sweep.start(spec, Budget(configurations=5))
    assert {trial.state for trial in study_of(schedule).trials} == {TrialState.FAIL}


@pytest.mark.parametrize("restarted", [False, True])
def test_a_failed_or_blocked_configuration_is_a_fail(sweep, restarted):
    def fails(attempt):
        return NAN_LOSS if attempt.node.role == "treatment" and attempt.node.trial.n == 2 else None

    spec = fake_spec("random", iterations=3, controls=())
    schedule = sweep.run(spec, Budget(configurations=20), fails=fails)
    if restarted:
        schedule = sweep.start(spec, Budget(configurations=20))
    for trial in study_of(schedule).trials:
        expected = TrialState.COMPLETE if trial.params["n"] == 1 else TrialState.FAIL
        assert trial.state == expected


def test_a_running_configuration_is_running(sweep):
    """Neither complete nor failed until all its seeds are settled."""
    spec = wide_spec("tpe", seeds=(0, 1))
    schedule = sweep.start(spec, Budget(configurations=20))
    attempts = {}
    while len([s for s in schedule.settled.values() if s == "done"]) < 9:
        step = schedule.next()
        assert isinstance(step, Attempt)
        attempts[step.node.key] = step
        sweep.finish(schedule, step)
    done = {k for k, s in schedule.settled.items() if s == "done"}
    for (_, keys), name in ((entry, name) for name, entry in schedule._configurations.items()):
        for number_of_trial in schedule.proposer._numbers[name]:
            state = study_of(schedule).trials[number_of_trial].state
            assert state == (TrialState.COMPLETE if set(keys) <= done else TrialState.RUNNING)


# -- repeats and the end of the space ---------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_a_finite_space_ends_with_each_point_once(sweep, sampler):
    """Far more budget than points: repeats are answered, unvisited points are taken, then it
    ends.
    """
    spec = fake_spec(sampler, iterations=2)
    schedule = sweep.run(spec, Budget(configurations=10_000), workers=2)
    opened = [
        (e["parameters"]["prune.ratio"], e["parameters"]["n"])
        for e in sweep.events("proposal")
        if e["chosen_by"] != "repeat"
    ]
    assert sorted(opened) == sorted(itertools.product((0.1, 0.3), (1, 2)))
    assert len(schedule.settled) == 11
    assert len(sweep.events("proposal")) < 60
    assert sweep.start(spec, Budget(configurations=10_000)).next() == FINISHED


def test_after_repeats_an_unvisited_point_is_taken():
    """A study that knows 5 of 6 points well and repeats itself must still reach the sixth."""
    spec = fake_spec("tpe", iterations=3)
    proposer = OptunaProposer(spec)
    points = list(grid(spec))
    missing = points[4]
    known = [
        Proposal(number, parameters, configuration, "tpe")
        for number, (parameters, configuration) in enumerate(p for p in points if p != missing)
    ]
    scores = {p.configuration.key: Measured((float(p.number), 0.5)) for p in known}
    proposer.restore(known, lambda configuration: scores.get(configuration.key))
    last = proposer.propose()[-1]
    assert last.configuration == missing[1]
    assert last.parameters == missing[0]
    assert proposer.propose() == []


def test_a_repeat_is_told_the_values_of_the_record(sweep):
    schedule = sweep.run(fake_spec("tpe", iterations=3), Budget(configurations=10_000))
    repeats = [e for e in sweep.events("proposal") if e["chosen_by"] == "repeat"]
    assert repeats
    trials = study_of(schedule).trials
    first = {}
    for trial in trials:
        place = (trial.params["prune.ratio"], trial.params["n"])
        assert trial.values == first.setdefault(place, trial.values)


def test_a_space_of_one_point_of_a_real_word_ends(sweep):
    """number(x, x) is one value: without a grid the sampler would repeat it for ever."""
    space = {"criterion": "snnl", "ratio": number(0.2, 0.2), "site": "conv"}
    spec = fake_spec("random", prune=space, iterations=1)
    schedule = sweep.run(spec, Budget(trials=1000))
    assert len(schedule.settled) == 4


# -- words become distributions ---------------------------------------------------------------


def test_every_word_is_asked_as_it_was_written():
    arms = one_of(
        {"criterion": {"name": "snnl", "temperature": number(0.1, 10, log=True)}, "site": "conv"},
        {"criterion": "random", "ratio": choice(0.1, 0.2), "layer": "layer4.1.conv2"},
    )
    baseline = {"name": "vanilla", "training": {"epochs": integer(1, 4)}}
    spec = fake_spec("random", prune=arms, baseline=baseline, iterations=3)
    proposer = OptunaProposer(spec)
    for _ in range(30):
        proposer.propose()
    distributions = {}
    for trial in proposer.study.trials:
        distributions |= trial.distributions
    assert distributions == {
        "prune": optuna.distributions.CategoricalDistribution(("0", "1")),
        "prune.0.criterion.temperature": optuna.distributions.FloatDistribution(0.1, 10, log=True),
        "prune.1.ratio": optuna.distributions.CategoricalDistribution((0.1, 0.2)),
        "baseline.training.epochs": optuna.distributions.IntDistribution(1, 4),
        "n": optuna.distributions.IntDistribution(1, 3),
    }


def test_a_wider_space_goes_on_and_a_narrower_one_forgets_nothing(sweep):
    spec = fake_spec("tpe", iterations=2)
    sweep.run(spec, Budget(configurations=4))
    before = len(sweep.events("proposal"))
    wider = fake_spec(
        "tpe",
        prune={"criterion": "snnl", "ratio": choice(0.1, 0.3, 0.5), "site": "conv"},
        iterations=3,
    )
    schedule = sweep.start(wider, Budget(configurations=40))
    assert len(study_of(schedule).trials) == before
    sweep.drive(schedule)
    opened = {
        (e["parameters"]["prune.ratio"], e["parameters"]["n"])
        for e in sweep.events("proposal")
        if e["chosen_by"] != "repeat"
    }
    assert opened == set(itertools.product((0.1, 0.3, 0.5), (1, 2, 3)))
    narrow = sweep.start(spec, Budget(configurations=1000))
    for trial in study_of(narrow).trials:  # nothing is left RUNNING that nobody will finish
        assert trial.state in (TrialState.COMPLETE, TrialState.FAIL)
    assert narrow.next() == FINISHED
