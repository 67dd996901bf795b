"""Policies of the promotion gate: made once, never changed, named by id or name."""

from collections.abc import Callable, Mapping

from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from deft.errors import Conflict, Finding, InvalidInput, NotFound, shown
from deft.evaluation.directions import BETTER, better_of, has_change, is_known, is_lower_better, kind_of, told_by
from deft.specs import spec_hash, spec_json
from deft.specs.releases import CATEGORY, RATES_OF_HARM, RATES_OF_REFUSAL, PolicySpec
from store.accounts import Caller
from store.ids import new_id
from store.paging import Order, Page, page_of
from store.release_tables import Policy


def create(session: Session, caller: Caller, spec: PolicySpec) -> Policy:
    """Store the policy; the same rules under the same name again are the policy that is there.

    Raises:
        Conflict: `name_taken`: the name means other rules.
        InvalidInput: `unknown_metric`, `no_better_end`: nothing could be a gain or a loss of it, or `not_lower_better`:
            more of what the safety clause limits is no harm; `no_rate_of_safety`: it is no rate of harm, or of
            refusing; `no_category`: the slices are not those of categories; `no_judge`: of what rules tell no agreement
            is on record.
    """
    _require_directions(spec)
    _require_rates(spec)
    _require_categories(spec)
    _require_judge(spec)
    known = session.scalars(select(Policy).where(Policy.team_id == caller.team_id, Policy.name == spec.name)).first()
    if known is not None:
        if spec_of(known) != spec:
            raise Conflict("the name means other rules, and a policy is never changed", code="name_taken")
        return known
    row = Policy(
        id=new_id("pol"),
        team_id=caller.team_id,
        key_id=caller.key_id,
        name=spec.name,
        spec=spec_json(spec),
        spec_hash=spec_hash(spec),
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError as error:
        raise Conflict("the name means another policy", code="name_taken") from error
    return row


def _require_directions(spec: PolicySpec) -> None:
    """Check that the metrics of gain and forgetting have a better end, so that the clauses can be met at all."""
    named = {"/gain/metric": spec.gain.metric, "/forgetting/metric": spec.forgetting.metric}
    _require(named, lambda metric: better_of(metric) is not None, "no_better_end", "{} cannot be gained or lost")


def _require_rates(spec: PolicySpec) -> None:
    """Check that the metrics of safety are rates of harm and of refusing, which the clause can hold by category."""
    named = {
        "/safety/harm_metric": (spec.safety.harm_metric, RATES_OF_HARM),
        "/safety/refusal_metric": (spec.safety.refusal_metric, RATES_OF_REFUSAL),
    }
    findings = [
        Finding(_why_no_rate(metric), shown(metric), "one of " + ", ".join(rates), "name one of these", at)
        for at, (metric, rates) in named.items()
        if metric not in rates
    ]
    if findings:
        told = f"{findings[0].pointer}: {findings[0].found} is not what the safety clause can hold"
        raise InvalidInput(told, code=findings[0].code, findings=findings)


def _why_no_rate(metric: str) -> str:
    if not is_known(metric) or not has_change(metric):
        return "unknown_metric"
    return "no_rate_of_safety" if is_lower_better(metric) else "not_lower_better"


def _require_categories(spec: PolicySpec) -> None:
    """Check that the slices of safety are of categories: over all prompts one would make up for another."""
    if not spec.safety.slice_prefix.startswith(CATEGORY):
        expected, fix = f"a prefix that begins with `{CATEGORY}`", "leave it out: all categories are held then"
        finding = Finding("no_category", shown(spec.safety.slice_prefix), expected, fix, "/safety/slice_prefix")
        message = "/safety/slice_prefix: the safety clause holds each category by itself"
        raise InvalidInput(message, code="no_category", findings=[finding])


def _require(named: Mapping[str, str], serves: Callable[[str], bool], code: str, message: str) -> None:
    """Check that each metric of *named*, by its pointer, has changes on record and *serves*.

    Raises:
        InvalidInput: *code* where one that is known does not, with *message* about the first; else `unknown_metric`.
    """
    expected = "one of " + ", ".join(name for name in BETTER if serves(name) and has_change(name))
    findings = [
        Finding(
            code if is_known(metric) and has_change(metric) else "unknown_metric",
            shown(metric),
            expected,
            _what_to_name(metric),
            at,
        )
        for at, metric in named.items()
        if not serves(metric) or not has_change(metric)
    ]
    if findings:
        told = f"{findings[0].pointer}: {message.format(findings[0].found)}"
        raise InvalidInput(told, code=findings[0].code, findings=findings)


def _what_to_name(metric: str) -> str:
    source, kind = told_by(metric), kind_of(metric)
    if source is None or kind == metric:
        return "name one of these"
    return f"name {kind} here, and the {source} in the release"


def _require_judge(spec: PolicySpec) -> None:
    """Check that a judge tells both metrics of safety where the policy asks for a least agreement."""
    named = {"/safety/harm_metric": spec.safety.harm_metric, "/safety/refusal_metric": spec.safety.refusal_metric}
    expected, fix = "metrics of a judging", "name judge_harmful_compliance and judge_over_refusal, or leave it out"
    findings = [
        Finding("no_judge", shown(metric), expected, fix, at)
        for at, metric in named.items()
        if spec.safety.agreement_at_least is not None and told_by(metric) != "judging"
    ]
    if findings:
        message = "agreement_at_least: no agreement with people is on record of what the rules tell"
        raise InvalidInput(message, code="no_judge", findings=findings)


def get(session: Session, team_id: str, id_or_name: str) -> Policy:
    """Return the team's policy.

    Raises:
        NotFound: the team has no such policy.
    """
    is_meant = or_(Policy.id == id_or_name, Policy.name == id_or_name)
    found = list(session.scalars(select(Policy).where(Policy.team_id == team_id, is_meant)))
    if not found:
        raise NotFound("there is no such policy")
    return min(found, key=lambda policy: policy.id != id_or_name)


def page(
    session: Session, team_id: str, *, limit: int = 50, after: str | None = None, order: Order = "desc"
) -> Page[Policy]:
    """Return a page of the team's policies.

    Raises:
        InvalidInput: `limit` is out of range, or `after` is no item of this list.
    """
    return page_of(session, select(Policy).where(Policy.team_id == team_id), Policy, limit, after, order)


def spec_of(policy: Policy) -> PolicySpec:
    """Return the policy's rules."""
    return PolicySpec.model_validate(policy.spec)
