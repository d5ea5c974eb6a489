"""Warnings in the answers about lookalikes and insights, on a real engine."""

from tests.conftest import Service
from tests.support.insights import insights
from tests.support.lookalikes import lookalike, model, people, segment


def test_a_field_that_gives_the_seed_away_has_a_warning(real_service: Service) -> None:
    """The score is what the source was selected by. No other record has it, so there are no members either."""
    org = f"proxy{next(real_service.names)}x"
    client = real_service.client(org)
    real_service.insert(org, people(1_500))
    made = lookalike(client, segment(client, {"score": 90}), fields=["score"])
    found = model(client, made.id)
    assert [(warning.reason, warning.subject) for warning in found.warnings] == [
        ("NO_MEMBERS", ""),
        ("PROXY_FIELD", "data.score"),
    ]
    assert found.auc > 0.99
    assert made.contact_count == 0


def test_a_model_of_fields_that_say_nothing_has_a_warning(real_service: Service) -> None:
    """Everybody speaks one language."""
    org = f"chance{next(real_service.names)}x"
    client = real_service.client(org)
    real_service.insert(org, people(1_500))
    made = lookalike(client, segment(client, {"score": 90}), fields=["language"])
    assert "NEAR_CHANCE" in [warning.reason for warning in model(client, made.id).warnings]


def test_a_meaningful_lookalike_has_no_warning(real_service: Service) -> None:
    """City and tags resemble the seed, and do not give it away."""
    org = f"useful{next(real_service.names)}x"
    client = real_service.client(org)
    real_service.insert(org, people(1_500))
    made = lookalike(client, segment(client, {"score": 90}))
    found = model(client, made.id)
    assert list(found.warnings) == [], found.auc


def test_insights_of_few_members_and_of_an_empty_dimension_have_warnings(real_service: Service) -> None:
    """Only a requested dimension has one."""
    org = f"few{next(real_service.names)}x"
    client = real_service.client(org)
    real_service.insert(org, people(200))
    few, many = segment(client, {"score": 90}), segment(client, {"score": 10})
    found = insights(client, few, "city", "plan")
    assert [(warning.reason, warning.subject) for warning in found.warnings] == [
        ("FEW_MEMBERS", ""),
        ("NO_VALUES", "data.plan"),
    ]
    assert list(insights(client, many).warnings) == []
