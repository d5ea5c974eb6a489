"""`python -m bench.lookalike --uri URI`: the accuracy of lookalikes, and how long they take.

The data set is `fair` of statsmodels (6,366 women; R. Fair, A Theory of Extramarital Affairs, 1978). The seed is the
rows with affairs > 0. The service's own code trains the model on the database. The comparison is scikit-learn's
logistic regression on the same fields and bins. Both train on the same four fifths, with the same fifth as holdout.
Install both packages into the environment first: `pip install statsmodels scikit-learn`.
"""

import importlib
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import click
from pymongo import MongoClient
from rich.console import Console

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.filters import CompiledFilter, Filter, FilterCompiler
from audience_service.domain.lookalikes.counts import ScoredFeature
from audience_service.domain.lookalikes.curve import auc, subtract
from audience_service.domain.lookalikes.features import parse_features
from audience_service.domain.lookalikes.training import TrainedModel, train
from audience_service.mongo.store import Store, mongo_store
from bench.dataset import LARGE, prepare
from bench.reference import Document, in_org
from bench.table import Table

_NO_DEADLINE = Deadline(None)
_MIN_BUCKET_SIZE = 5
_ORG = "fair"
_SEED: Document = {"score": {"$gte": 95}}


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on; databases bench_<contacts> are kept there.")
@click.option(
    "--contacts", default="100000", show_default=True, help="Numbers of contacts, comma-separated; 0: only `fair`."
)
def main(*, uri: str, contacts: str) -> None:
    """Compare the AUC of lookalikes with a logistic regression, and their time with hand-written aggregations."""
    console = Console()
    click.echo(_measure_auc(uri))
    for size in (int(part) for part in contacts.split(",")):
        if size:
            click.echo(_measure_time(uri, prepare(uri, size, console)))


def _measure_auc(uri: str) -> Table:
    """A table of the AUC of both models on the holdout."""
    data = importlib.import_module("statsmodels.api").datasets.fair.load_pandas().data
    fields = [str(name) for name in data.columns if name != "affairs"]
    database = f"bench_fair_{uuid.uuid4().hex[:8]}"
    store = mongo_store(uri, database)
    try:
        rows = data.to_dict("records")
        store.insert([_record(number, row) for number, row in enumerate(rows)])
        compiler = FilterCompiler(["contact"])
        everyone = compiler.compile(Filter("contact", {}))
        seed = compiler.compile(Filter("contact", {"affairs": {"$gt": 0}}))
        trained = train(
            store.lookalikes, _ORG, seed, everyone, parse_features(fields, []), now(), _MIN_BUCKET_SIZE, _NO_DEADLINE
        )
        without_decorrelation = [
            _without_decorrelation(*pair)
            for pair in zip(trained.scored_features, _decorrelation_weights(trained), strict=True)
        ]
        lookalike_auc, plain_auc = (
            _auc(store, seed, everyone, fields) for fields in (trained.scored_features, without_decorrelation)
        )
        holdout = _holdout_numbers(store)
        regression_auc = _regression_auc(rows, fields, holdout)
    finally:
        store.database.client.drop_database(database)
        store.close()
    table = Table("model", "AUC", title="The data set fair: the seed's holdout compared with the baseline")
    table.add_row("lookalike", f"{lookalike_auc:.4f}")
    table.add_row("lookalike without decorrelation", f"{plain_auc:.4f}")
    table.add_row(
        "logistic regression, trained on the same four fifths and the complete baseline", f"{regression_auc:.4f}"
    )
    for field in trained.fields:
        table.add_row(
            f"  {field.path}",
            f"information value {field.information_value:.3f}, decorrelation {field.decorrelation:.3f}",
        )
    return table


def _auc(store: Store, seed: CompiledFilter, everyone: CompiledFilter, fields: Sequence[ScoredFeature]) -> float:
    """The AUC by the scores of everyone and of the seed. Raises RuntimeError if the holdout is too small."""
    scores = store.lookalikes.scores(_ORG, everyone, fields, _NO_DEADLINE)
    of_seed = store.lookalikes.seed_scores(_ORG, seed, everyone, fields, _NO_DEADLINE)
    found = auc(of_seed.holdout, subtract(scores, of_seed.all))
    if found is None:
        raise RuntimeError("the holdout has fewer than 20 records; use a larger seed")
    return found


def _decorrelation_weights(trained: TrainedModel) -> list[float]:
    return [field.decorrelation for field in trained.fields if field.decorrelation]


def _without_decorrelation(field: ScoredFeature, decorrelation: float) -> ScoredFeature:
    weights = tuple((value, round(weight / decorrelation)) for value, weight in field.weights)
    return replace(field, weights=weights, other_weight=round(field.other_weight / decorrelation))


def _record(number: int, row: dict[str, Any]) -> Document:
    name = f"{number:05}"
    envelope = {"pk": f"contact-{name}", "sk": f"{_ORG}/contact/{name}", "datatype": "contact", "version": 0}
    return {**envelope, "state": "active", "data": row}


def _holdout_numbers(store: Store) -> set[int]:
    """The numbers of the records in the service's holdout, in the seed or not."""
    is_holdout = {"$eq": [{"$mod": [{"$toHashedIndexKey": "$sk"}, 5]}, 0]}
    found = store.database["contact"].aggregate([{"$match": {"$expr": is_holdout}}, {"$project": {"pk": 1}}])
    return {int(record["pk"].removeprefix("contact-")) for record in found}


def _regression_auc(rows: list[dict[str, Any]], fields: list[str], holdout: set[int]) -> float:
    """The AUC of a logistic regression on the values as categories. Each field has at most 20 values."""
    encoder = importlib.import_module("sklearn.preprocessing").OneHotEncoder(handle_unknown="ignore")
    is_seed = [row["affairs"] > 0 for row in rows]
    values = encoder.fit_transform([[row[name] for name in fields] for row in rows])
    training_rows = [number for number in range(len(rows)) if not (is_seed[number] and number in holdout)]
    test_rows = [number for number in range(len(rows)) if not is_seed[number] or number in holdout]
    model = importlib.import_module("sklearn.linear_model").LogisticRegression(max_iter=2_000)
    model.fit(values[training_rows], [is_seed[number] for number in training_rows])
    probabilities = model.predict_proba(values[test_rows])[:, 1]
    metrics = importlib.import_module("sklearn.metrics")
    return float(metrics.roc_auc_score([is_seed[number] for number in test_rows], probabilities))


def _measure_time(uri: str, database: str) -> Table:
    """A table of the seconds of a model's steps, compared with hand-written aggregations.

    The aggregations are a $facet of plain counts and a plain sum of the weights of the values.
    """
    store = mongo_store(uri, database)
    compiler = FilterCompiler(["contact"])
    everyone, seed = (compiler.compile(Filter("contact", where)) for where in ({}, _SEED))
    fields = parse_features([], [])
    models: list[TrainedModel] = []
    with MongoClient[Document](uri) as client:
        contacts = client[database]["contact"]
        steps: list[tuple[str, Callable[[], Any]]] = [
            (
                "model",
                lambda: models.append(
                    train(store.lookalikes, LARGE, seed, everyone, fields, now(), _MIN_BUCKET_SIZE, _NO_DEADLINE)
                ),
            ),
            ("  by hand: only the counts", lambda: _counts_by_hand(contacts)),
            (
                "scores of everyone",
                lambda: store.lookalikes.scores(LARGE, everyone, models[-1].scored_features, _NO_DEADLINE),
            ),
            ("  by hand: values as stored", lambda: _scores_by_hand(contacts, models[-1])),
        ]
        table = Table("step", "seconds", title=f"{database}: {contacts.count_documents(in_org(LARGE, {})):,} contacts")
        for name, step in steps:
            seconds = []
            for _ in range(3):
                started_at = time.perf_counter()
                step()
                seconds.append(time.perf_counter() - started_at)
            table.add_row(name, f"{sorted(seconds)[1]:.2f} ({min(seconds):.2f} to {max(seconds):.2f})")
    store.close()
    return table


_PLAIN_FIELDS = ("company", "jobTitle", "leadStage", "status", "source", "tags", "groups", "score")


def _counts_by_hand(contacts: Any) -> None:
    """Count the values of everyone and of the seed, with one $group per field, without bins."""
    values: dict[str, Any] = {name: f"$data.{name}" for name in _PLAIN_FIELDS}
    values |= {name: {"$ifNull": [f"$data.{name}", f"$data.address.{name}"]} for name in ("country", "region", "city")}
    dates = ("lastEmailOpenedAt", "lastEmailClickedAt", "createdAt")
    days = {name: {"$dateTrunc": {"date": f"$data.{name}", "unit": "month"}} for name in dates}
    facets = {name: [{"$group": {"_id": v, "n": {"$sum": 1}}}] for name, v in {**values, **days}.items()}
    project = dict.fromkeys((f"data.{name}" for name in (*facets, "address")), 1)
    for where in ({}, {f"data.{name}": condition for name, condition in _SEED.items()}):
        list(contacts.aggregate([{"$match": in_org(LARGE, where)}, {"$project": project}, {"$facet": facets}]))


def _scores_by_hand(contacts: Any, trained: TrainedModel) -> None:
    """Count the records by the sum of the weights of their stored values, without bins and lists."""
    terms = []
    for field in trained.scored_features:
        values = [value for value, _ in field.weights]
        weights = [*(weight for _, weight in field.weights), field.other_weight]
        expression: Any = f"${field.feature.paths[0]}"
        for path in field.feature.paths[1:]:
            expression = {"$ifNull": [expression, f"${path}"]}
        position = {"$indexOfArray": [{"$literal": values}, {"$ifNull": [expression, None]}]}
        terms.append({"$arrayElemAt": [{"$literal": weights}, position]})
    score = {"$project": {"_id": 0, "score": {"$add": terms}}}
    list(contacts.aggregate([{"$match": in_org(LARGE, {})}, score, {"$group": {"_id": "$score", "n": {"$sum": 1}}}]))


if __name__ == "__main__":
    main()
