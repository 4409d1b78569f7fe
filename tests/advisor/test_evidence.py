"""The published results: ties and gaps computed again, and nothing cited that the file does not hold."""

from __future__ import annotations

import csv
import itertools
import re
from importlib import resources

import pytest

from optadvisor.advisor import evidence, published, recommend
from optadvisor.advisor.knowledge import Knowledge, load
from optadvisor.kernels.rules import RULES
from optadvisor.profile import ARCHITECTURES, DOMAINS, TaskProfile

FILE = resources.files("optadvisor.advisor") / "data" / "deepobs_best.csv"
# Who is best, as stated independently of the package from the same runs.
BEST = {
    "mnist_vae": "adam",
    "fmnist_vae": "adam",
    "cifar10_3c3d": "adam",
    "fmnist_2c2d": "adam",
    "cifar100_allcnnc": "momentum",
    "svhn_wrn164": "momentum",
    "quadratic_deep": "momentum",
    "tolstoi_char_rnn": "sgd",
}


def rows():
    with FILE.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def computed():
    """(task, optimizer) -> (gap to the best, whether it is a tie), from the file alone."""
    found = {}
    for row in rows():
        rivals = [other for other in rows() if other["task"] == row["task"]]
        means = [float(other["mean"]) for other in rivals]
        top = max(means) if row["goal"] == "max" else min(means)
        best = rivals[means.index(top)]
        gap = abs(top - float(row["mean"]))
        found[row["task"], row["optimizer"]] = gap, gap <= float(best["std"])
    return found


def test_the_file_is_the_published_table():
    table = rows()
    assert len(table) == 24
    assert len({(row["task"], row["optimizer"]) for row in table}) == 24
    assert {row["task"] for row in table} == set(BEST)
    assert {row["n"] for row in table} == {"10"}


def test_gaps_ties_and_winners():
    expected = computed()
    results = evidence.results()
    assert len(results) == len(expected)
    for result in results:
        gap, ties = expected[result.task, result.optimizer]
        assert result.gap == pytest.approx(gap, abs=1e-12)
        assert result.ties is ties
        assert result.best == BEST[result.task]
    assert {r.task for r in results if r.gap == 0} == set(BEST)
    assert {(r.task, r.optimizer) for r in results if r.ties and r.gap > 0} == {
        ("fmnist_2c2d", "sgd"),
        ("fmnist_2c2d", "momentum"),
        ("cifar10_3c3d", "momentum"),
        ("svhn_wrn164", "sgd"),
    }


@pytest.mark.parametrize("domain", [None, *DOMAINS])
@pytest.mark.parametrize("architecture", [None, *ARCHITECTURES])
def test_everything_cited_is_in_the_file(advise, domain, architecture):
    table = {(row["task"], row["optimizer"]): row for row in rows()}
    kin = {"sgd": "sgd", "momentum": "momentum", "nag": "momentum", "adam": "adam", "adamw": "adam"}
    for entry in advise(domain=domain, architecture=architecture, top=20).all:
        for piece in entry["evidence"]:
            if "task" not in piece:
                assert piece["text"].startswith("sets ")
                continue
            if "DeepOBS" not in piece["source"]:
                continue
            row = table[piece["task"], piece["optimizer"]]
            assert piece["optimizer"] == kin[entry["optimizer"]]
            found = re.fullmatch(
                r"(\w+): (\w+)(?: 0\.99)? at lr (\S+) reached test (accuracy|loss) (\S+) \+- (\S+) over 10 seeds, (.+)",
                piece["text"],
            )
            task, optimizer, lr, metric, mean, std, place = found.groups()
            assert (task, optimizer, f"test_{metric}") == (row["task"], row["optimizer"], row["metric"])
            assert (" 0.99 " in piece["text"]) is (optimizer == "momentum")  # what DeepOBS ran
            assert float(lr) == pytest.approx(float(row["best_lr"]), rel=0.05)
            assert float(mean) == pytest.approx(float(row["mean"]), rel=1e-3)
            assert float(std) == pytest.approx(float(row["std"]), rel=0.05)
            gap, ties = computed()[task, optimizer]
            winner = BEST[task]
            assert place == ("the best of three" if gap == 0 else f"{'a tie with' if ties else 'behind'} {winner}")


def test_every_setting_that_is_cited_is_one_of_the_configs(advise):
    for known in ({"domain": "vision"}, {"domain": "rl", "steps": "1M"}, {"domain": "recsys"}, {"architecture": "gan"}):
        for entry in advise(top=20, **known).all:
            config = entry["config"]
            keys = set(config["hyperparameters"])
            for group in config["groups"]:
                keys |= {f"{group['role']}.{name}" for name in group["hyperparameters"]}
            cited = {note["field"] for note in config["provenance"]["settings"]}
            assert cited <= keys
            told = [piece["text"].removeprefix("sets ") for piece in entry["evidence"] if "task" not in piece]
            assert {name for text in told for name in text.split(", ")} == cited


def test_settings_that_others_found_good_are_cited_as_they_were_published():
    points = {(point.name, point.rule): point for point in published.tuned()}
    seen = set()
    for domain, architecture, optimizer in itertools.product((None, *DOMAINS), (None, *ARCHITECTURES), RULES):
        for piece in evidence.cited(optimizer, TaskProfile(domain=domain, architecture=architecture), most=9):
            if "DeepOBS" in piece["source"]:
                continue
            point = points[piece["task"], piece["optimizer"]]
            seen.add(point.source.id)
            assert piece["source"] == point.source.text
            assert point.profile.domain == domain
            assert architecture in (None, point.profile.architecture)
            assert published.kin(piece["optimizer"]) == published.kin(optimizer)
            assert f"{point.name}: {point.rule} at lr {point.lr:.2g}" in piece["text"]
    assert seen == {"marin", "epfl", "rlzoo"}


def test_of_each_family_of_settings_the_nearest_is_cited_nearest_first():
    small = TaskProfile(domain="language", architecture="transformer", parameters="130M", batch_size=128)
    assert [piece["text"] for piece in evidence.cited("adamw", small)] == [
        "llama_130m_1x: adamw at lr 0.008 reached loss 3.529 with 134.2M parameters",
        "llama_124m: adamw at lr 0.0005 with 124M parameters",
    ]
    large = TaskProfile(domain="language", architecture="transformer", parameters="520M", batch_size=200)
    assert evidence.cited("adamw", large)[0]["text"] == "llama_moe-520m: adamw at lr 0.001 with 520M parameters"
    (first, second) = evidence.cited("adam", TaskProfile(domain="rl"))
    assert first["text"] == "ppo_atari: adam at lr 0.00025"
    assert second["text"] == (
        "ppo_control: adam at lr 0.00015, the geometric mean of 37 settings; a deviation is a factor of 2.8"
    )


def test_no_published_result_where_none_fits(advise):
    for known in ({}, {"domain": "tabular"}, {"domain": "other"}, {"domain": "vision", "architecture": "transformer"}):
        assert not any("task" in piece for entry in advise(top=20, **known).all for piece in entry["evidence"])


def test_results_on_the_same_kind_of_network_are_cited_first(advise):
    answer = advise(domain="vision", architecture="resnet")
    cited = [piece["task"] for piece in answer.all[0]["evidence"] if "task" in piece]
    assert cited[0] == "svhn_wrn164"
    assert len(cited) == 3


@pytest.mark.parametrize(
    ("known", "optimizer", "prior", "ties", "tasks"),
    [
        ({}, "adamw", 0.6, 0, 0),
        ({"domain": "language", "architecture": "transformer"}, "adamw", 0.85, 0, 0),
        ({"domain": "vision"}, "momentum", 0.7, 4, 4),
        ({"domain": "vision"}, "adam", 0.39, 2, 4),
        ({"domain": "generative"}, "momentum", 0.39, 0, 2),
        ({"domain": "language", "architecture": "rnn"}, "sgd", 0.39, 1, 1),
        ({"domain": "recsys"}, "hybrid", 0.7, 0, 0),
    ],
)
def test_confidence_is_the_prior_and_the_published_ties(known, optimizer, prior, ties, tasks):
    expected = (evidence.PRIOR * prior + evidence.TIE * ties) / (evidence.PRIOR + evidence.TIE * tasks)
    answer = recommend(TaskProfile(**known), 20, Knowledge([], []))
    found = next(entry for entry in answer if entry.optimizer == optimizer)
    assert found.confidence == pytest.approx(expected, abs=0.0051)


def test_a_tie_on_a_much_smaller_task_counts_for_less():
    """DeepOBS' character RNN says next to nothing of a language model of 7 billion parameters."""
    unsaid, large = TaskProfile(domain="language"), TaskProfile(domain="language", parameters=7_000_000_000)
    assert evidence.confidence("adamw", 0.85, unsaid) < evidence.confidence("adamw", 0.85, large)
    assert evidence.confidence("adamw", 0.85, large) == pytest.approx(0.85, abs=0.03)


def test_confidence_counts_what_was_learned_as_the_tasks_that_the_outcomes_are_worth():
    profile = TaskProfile(domain="speech")
    assert evidence.confidence("sgd", 0.4, profile, learned=0.9, tasks=0.0) == 0.4
    expected = (evidence.PRIOR * 0.4 + 3.0 * 0.9) / (evidence.PRIOR + 3.0)
    assert evidence.confidence("sgd", 0.4, profile, learned=0.9, tasks=3.0) == pytest.approx(expected, abs=0.0051)
    assert evidence.confidence("sgd", 0.4, profile, learned=1.0, tasks=1e9) == 0.99


def test_confidence_of_a_prior_alone():
    assert evidence.confidence("hybrid", 0.7, TaskProfile(domain="vision")) == 0.7


def test_a_studied_task_is_its_own_like():
    """The likeness that is cited is that of the profiles, however few tasks are like it."""
    row = next(row for row in load().rows if row.name == "digits-mlp")
    best = recommend(row.profile).best
    cited = next(piece for piece in best.evidence if piece.get("task") == "digits-mlp")
    assert (cited["likeness"], cited["distance"]) == (1.0, 0.0)
