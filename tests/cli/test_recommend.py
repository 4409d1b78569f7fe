"""optadvisor recommend: every option, both formats, profile files, and what it refuses."""

from __future__ import annotations

import json

import pytest

from optadvisor.advisor import recommend
from optadvisor.profile import ARCHITECTURES, DOMAINS, GOALS, TaskProfile

JSON = ("--format", "json")


def profile_of(run, *args):
    return run("recommend", *args, *JSON).json["profile"]


# options -------------------------------------------------------------------------------------------------------------


def test_without_options_r11_and_questions(run):
    data = run("recommend", *JSON).json
    assert data["recommendations"][0]["optimizer"] == "adamw"
    assert data["recommendations"][0]["reasons"][0]["rule"] == "R11"
    assert data["questions"]
    assert set(data["profile"].values()) == {None}
    assert len(data["recommendations"]) == 5


@pytest.mark.parametrize("name", DOMAINS)
def test_domains(run, name):
    assert profile_of(run, "--domain", name)["domain"] == name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures(run, name):
    assert profile_of(run, "--architecture", name)["architecture"] == name


@pytest.mark.parametrize("name", GOALS)
def test_goals(run, name):
    assert profile_of(run, "--goal", name)["goal"] == name


@pytest.mark.parametrize("option", ["--parameters", "--samples", "--batch-size", "--steps", "--trials"])
@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1),
        ("1200", 1200),
        ("1.5k", 1500),
        ("1K", 1000),
        ("124M", 124_000_000),
        ("124m", 124_000_000),
        ("1.3B", 1_300_000_000),
        ("7b", 7_000_000_000),
        ("1e6", 1_000_000),
        ("1E6", 1_000_000),
        ("2.5e3", 2500),
        ("100.0", 100),
        ("1e18", 10**18),
    ],
)
def test_counts(run, option, text, number):
    assert profile_of(run, option, text)[option.strip("-").replace("-", "_")] == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("4096", 4096),
        ("2k", 2000),
        ("600M", 600_000_000),
        ("600m", 600_000_000),
        ("2G", 2_000_000_000),
        ("1.5G", 1_500_000_000),
        ("2Ki", 2048),
        ("600Mi", 600 * 2**20),
        ("2Gi", 2**31),
        ("2gi", 2**31),
        ("0.5Ki", 512),
        ("1e9", 10**9),
    ],
)
def test_bytes(run, text, number):
    assert profile_of(run, "--memory-limit", text)["memory_limit"] == number


@pytest.mark.parametrize(("text", "number"), [("0", 0.0), ("1", 1.0), ("0.99", 0.99), (".5", 0.5), ("1e-3", 0.001)])
def test_sparse_fraction(run, text, number):
    assert profile_of(run, "--sparse-fraction", text)["sparse_fraction"] == number


@pytest.mark.parametrize(
    ("flag", "field", "value"),
    [
        ("--convex", "convex", True),
        ("--non-convex", "convex", False),
        ("--unstable", "unstable", True),
        ("--non-stationary", "non_stationary", True),
        ("--ill-conditioned", "ill_conditioned", True),
    ],
)
def test_flags(run, flag, field, value):
    assert profile_of(run, flag)[field] is value
    assert profile_of(run)[field] is None


@pytest.mark.parametrize("top", [1, 3, 5, 20])
def test_top(run, top):
    data = run("recommend", "--top", str(top), *JSON).json
    assert [entry["rank"] for entry in data["recommendations"]] == list(range(1, top + 1))


def test_top_that_cannot_be_reached_says_so(run):
    ran = run("recommend", "--parameters", "1k", "--memory-limit", "0", "--top", "1k", *JSON)
    assert "1000 were asked for" in ran.json["warnings"][-1]


def test_the_command_prints_what_the_library_answers(run):
    known = {"domain": "language", "architecture": "transformer", "parameters": 124_000_000, "steps": 50_000}
    ran = run(
        *("recommend", "--domain", "language", "--architecture", "transformer"),
        *("--parameters", "124M", "--steps", "50k", "--top", "7", *JSON),
    )
    assert ran.json == recommend(TaskProfile(**known), 7).to_dict()
    assert ran.err == ""


def test_the_call_of_the_issue(run):
    args = ("--domain", "language", "--architecture", "transformer", "--parameters", "124M")
    best = run("recommend", *args, *JSON).json["recommendations"][0]
    assert best["optimizer"] == "adamw"
    assert best["reasons"][0]["rule"] == "R2"
    assert best["config"]["schedule"]["name"] == "warmup_cosine"
    assert [group["role"] for group in best["config"]["groups"]] == ["no_decay"]


# text ----------------------------------------------------------------------------------------------------------------


def test_text_is_the_default_and_goes_to_stdout(run):
    ran, explicit = run("recommend", "--domain", "vision"), run("recommend", "--domain", "vision", "--format", "text")
    assert ran == explicit
    assert ran.code == 0
    assert ran.err == ""


def test_text_says_everything_a_person_wants(run):
    out = run(
        *("recommend", "--domain", "vision", "--architecture", "transformer", "--parameters", "22M"),
        *("--steps", "200k", "--batch-size", "1024"),
    ).out
    assert out.startswith("Start with adamw, lr 0.001")
    for words in (
        "confidence",
        "weight_decay",
        "normalisation and biases",
        "10,000 of 200,000 steps warm up",
        "176 MB",
        "R2 ",
        "direction",
        "step size",
        "DeiT",
        "2. ",
        "5. ",
        "R1 / R2",
        "adagrad (R7)",
        "optadvisor explain adamw",
        "optadvisor tune",
    ):
        assert words in out, f"{words!r} is missing"
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), ["adamw, lr 0.001", "nothing said yet", "--domain", "R11"]),
        (("--domain", "recsys"), ["hybrid: adagrad lr 0.05 on the embedding part, adamw lr 0.001 on the dense part"]),
        (("--convex", "--samples", "500"), ["full batch", "every step uses all samples", "R5"]),
        (("--non-convex",), ["convex no"]),
        (("--memory-limit", "1G"), ["could not be enforced", "--parameters"]),
        (("--parameters", "1k", "--memory-limit", "0", "--top", "1"), ["sgd", "0 bytes", "Ruled out", "R9"]),
        (("--domain", "vision", "--top", "4"), ["the same with a larger learning rate", "augmentation"]),
    ],
)
def test_text_of_other_answers(run, args, words):
    ran = run("recommend", *args)
    assert ran.code == 0
    text = " ".join(ran.out.split())
    for word in words:
        assert word in text


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("goal", GOALS)
def test_text_of_every_domain_and_goal(run, domain, goal):
    ran = run("recommend", "--domain", domain, "--goal", goal, "--top", "20", "--parameters", "1M", "--steps", "100k")
    assert ran.code == 0
    assert ran.out.startswith("Start with ")
    assert ran.err == ""


SMALL = ("--domain", "tabular", "--architecture", "mlp", "--parameters", "3k", "--steps", "1k")


def test_explain_says_what_moved_each_config(run):
    data = run("recommend", *SMALL, *JSON).json
    out = " ".join(run("recommend", *SMALL, "--explain").out.split())
    basis = data["basis"]
    assert f"weigh {basis['outcomes']:.0%} (as much as {basis['tasks']:.1f} tasks" in out
    assert f"the guide {basis['guide']:.0%}" in out
    for entry in data["recommendations"]:
        moved = entry["moved_by"]
        assert (
            f"expected regret {entry['expected_regret']:.2f}; improves the best so far by {moved['gain']:.3f} "
            f"(outcomes {moved['outcomes']:+.3f}, guide {moved['guide']:+.3f})"
        ) in out
    plain = run("recommend", *SMALL).out
    assert "How the order came about" not in plain
    assert "improves the best so far" not in plain


def test_explain_is_the_text_and_something_more(run):
    plain, more = run("recommend", *SMALL).out.splitlines(), run("recommend", *SMALL, "--explain").out.splitlines()
    said = [line for line in plain if line]
    assert [line for line in more if line in said] == said
    assert max(map(len, more)) <= 100
    assert run("recommend", *SMALL, "--explain", *JSON).json == run("recommend", *SMALL, *JSON).json


def test_the_json_says_what_the_order_rests_on(run):
    data = run("recommend", *SMALL, *JSON).json
    assert set(data["basis"]) == {"outcomes", "guide", "tasks"}
    assert data["basis"]["outcomes"] + data["basis"]["guide"] == pytest.approx(1)
    assert data["basis"]["outcomes"] > 0.5
    large = run("recommend", "--domain", "language", "--parameters", "7B", "--steps", "500k", *JSON).json
    assert large["basis"]["outcomes"] < 0.05
    assert (large["disagreements"], large["race"]) == ([], None)
    for entry in data["recommendations"]:
        assert -1 <= entry["expected_regret"] <= 1
        assert set(entry["moved_by"]) == {"gain", "outcomes", "guide"}


def test_a_disagreement_is_in_the_json_and_in_the_text(run):
    """On small networks in short runs AdamW does better than the momentum that R1 puts first."""
    args = ("--domain", "vision", "--architecture", "cnn", "--parameters", "5k", "--steps", "500", "--samples", "1.2k")
    data = run("recommend", *args, *JSON).json
    (found,) = data["disagreements"]
    assert found["kept"] == found["guide"] == data["recommendations"][0]["optimizer"] == "momentum"
    assert found["rule"] == "R1"
    assert found["outcomes"] != "momentum"
    assert found["expected_regret"][found["outcomes"]] < found["expected_regret"]["momentum"]
    out = " ".join(run("recommend", *args).out.split())
    assert f"Where guide and outcomes disagree - {found['text']}" in out


def test_a_race_is_in_the_json_and_among_the_warnings(run):
    data = run("recommend", *SMALL, *JSON).json
    best = data["recommendations"][0]
    assert best["confidence"] < 0.5
    assert data["race"]["ranks"][:2] == [1, 2]
    assert data["race"]["text"] in data["warnings"]
    assert data["race"]["text"] in " ".join(run("recommend", *SMALL).out.split())
    assert run("recommend", *SMALL, "--trials", "1", *JSON).json["race"] is None


# profile files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def profile_file(tmp_path):
    def write(content):
        path = tmp_path / "profile.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(path)

    return write


def test_profile_file(run, profile_file):
    path = profile_file(
        {"domain": "vision", "parameters": "25M", "sparse_fraction": 0, "unstable": False, "goal": None}
    )
    found = profile_of(run, "--profile", path)
    assert (found["domain"], found["parameters"], found["unstable"], found["goal"]) == (
        "vision",
        25_000_000,
        False,
        None,
    )


def test_options_win_over_the_profile_file(run, profile_file):
    path = profile_file({"domain": "vision", "parameters": 1000, "convex": True})
    found = profile_of(run, "--profile", path, "--domain", "language", "--parameters", "2k", "--non-convex")
    assert (found["domain"], found["parameters"], found["convex"]) == ("language", 2000, False)


def test_the_profile_of_an_answer_is_a_profile_file(run, profile_file):
    args = ("--domain", "rl", "--unstable", "--steps", "1M", "--memory-limit", "1Gi", "--sparse-fraction", "0.25")
    first = run("recommend", *args, *JSON).json
    assert run("recommend", "--profile", profile_file(first["profile"]), *JSON).json == first


def test_an_empty_profile_file_says_nothing(run, profile_file):
    assert run("recommend", "--profile", profile_file("{}"), *JSON).json == run("recommend", *JSON).json


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["not JSON"]),
        ("{", ["not JSON"]),
        ("[1]", ["list", "JSON object"]),
        ("null", ["JSON object"]),
        ({"domian": "vision"}, ["domian", "did you mean 'domain'?"]),
        ({"batch-size": 3}, ["batch-size", "did you mean 'batch_size'?"]),
        ({"domain": "visoin"}, ["visoin", "did you mean 'vision'?"]),
        ({"domain": 5}, ["5", "vision"]),
        ({"domain": ["vision"]}, ["vision"]),
        ({"parameters": 0}, ["parameters", "0"]),
        ({"parameters": 1.5}, ["parameters", "1.5"]),
        ({"parameters": True}, ["parameters", "True"]),
        ({"steps": [1]}, ["steps"]),
        ({"steps": {}}, ["steps"]),
        ('{"steps": NaN}', ["steps", "nan"]),
        ('{"steps": Infinity}', ["steps", "inf"]),
        ({"trials": "many"}, ["trials", "many"]),
        ({"sparse_fraction": 2}, ["sparse_fraction", "2"]),
        ({"sparse_fraction": "0.5"}, ["sparse_fraction"]),
        ('{"sparse_fraction": NaN}', ["sparse_fraction", "nan"]),
        ({"convex": "yes"}, ["convex", "yes", "true or false"]),
        ({"unstable": 1}, ["unstable", "true or false"]),
        ({"memory_limit": -1}, ["memory_limit", "-1"]),
    ],
)
def test_bad_profile_files(run, profile_file, content, words):
    run("recommend", "--profile", profile_file(content)).refused(*words)


def test_unreadable_profile_files(run, tmp_path):
    run("recommend", "--profile", str(tmp_path / "missing.json")).refused("missing.json", "No such file")
    run("recommend", "--profile", str(tmp_path)).refused(str(tmp_path), "directory")
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    run("recommend", "--profile", str(binary)).refused("binary.json", "not JSON")


# what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "nearest"),
    [
        ("--domain", "visoin", "vision"),
        ("--domain", "Vision", "vision"),
        ("--domain", "nlp-language", "language"),
        ("--architecture", "transfromer", "transformer"),
        ("--architecture", "embedding_tower", "embedding-tower"),
        ("--goal", "generalisation", "generalization"),
        ("--goal", "sped", "speed"),
        ("--format", "jsn", "json"),
    ],
)
def test_an_unknown_value_offers_the_nearest(run, option, value, nearest):
    run("recommend", option, value).refused(option, repr(value), f"did you mean {nearest!r}?")


def test_a_value_that_is_near_nothing_lists_what_is_known(run):
    run("recommend", "--goal", "zzz").refused("--goal", "'zzz'", "generalization, speed, stability, memory")
    run("recommend", "--domain", "").refused("--domain", "vision")


@pytest.mark.parametrize("option", ["--parameters", "--samples", "--batch-size", "--steps", "--trials", "--top"])
@pytest.mark.parametrize(
    "value",
    ["0", "-1", "-5k", "nan", "NaN", "inf", "-inf", "1.5", "0.5k0", "abc", "", " ", "12x", "1G", "k", "1e-3", "1e19"],
)
def test_counts_that_are_refused(run, option, value):
    run("recommend", option, value).refused(option, repr(value), "whole number")


@pytest.mark.parametrize("value", ["1e999999", "1e9999999999", "1e99999999999999999999", "-1e999999", "1e-999999"])
@pytest.mark.parametrize("option", ["--parameters", "--memory-limit"])
def test_monstrous_numbers_are_refused_at_once(run, option, value):
    run("recommend", option, value).refused(option, value)


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "abc", "", "0.5", "1.0001k", "2Ti", "Gi", "12 34"])
def test_bytes_that_are_refused(run, value):
    run("recommend", "--memory-limit", value).refused("--memory-limit", repr(value), "600Mi")


@pytest.mark.parametrize("value", ["-0.1", "1.1", "99", "nan", "NaN", "inf", "-inf", "abc", "", "50%"])
def test_sparse_fractions_that_are_refused(run, value):
    run("recommend", "--sparse-fraction", value).refused("--sparse-fraction", repr(value), "0 to 1")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--domian", "vision"), ["--domian", "--domain"]),
        (("--domain",), ["--domain", "argument"]),
        (("vision",), ["vision", "unexpected"]),
        (("--stable",), ["--stable"]),
        (("--convex=yes",), ["--convex"]),
    ],
)
def test_wrong_usage(run, args, words):
    run("recommend", *args).refused(*words)


def test_a_newline_in_a_value_stays_one_line(run):
    run("recommend", "--domain", "vis\nion").refused("vision")
    run("recommend", "vis\nion").refused()


def test_one_error_is_enough_and_nothing_is_printed_before_it(run):
    run("recommend", "--domain", "visoin", "--steps", "0", *JSON).refused("--domain")


@pytest.mark.parity
def test_what_a_persons_file_prints_is_not_in_the_result(run, tmp_path):
    pytest.importorskip("torch")
    file = tmp_path / "talks.py"
    file.write_text(
        "from torch import nn\nprint('loading')\ndef make():\n    print('making')\n    return nn.Linear(4, 2)\n"
    )
    ran = run("recommend", "--torch", f"{file}:make", "--format", "json")
    assert ran.json["profile"]["parameters"] == 10
    assert ran.err == "loading\nmaking\n"
